"""Recycled memory: used again when nobody holds it, never before."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from optenvs.core import memory
from optenvs.core.memory import recycled

LIKE = torch.zeros(2, 200_000)  # 1.6 MB


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    memory.release()
    yield
    memory.release()


def lend(like: Tensor = LIKE) -> Tensor:
    tensor = recycled(like)
    assert tensor is not None
    return tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dropped_tensor_is_lent_again(dtype: torch.dtype) -> None:
    like = LIKE.to(dtype)
    one = lend(like)
    assert one.shape == like.shape and one.dtype == dtype and one.is_contiguous()
    assert one.data_ptr() % 64 == 0
    assert one.untyped_storage().nbytes() == like.nbytes  # a saved one is no longer than it must be
    where, other = one.data_ptr(), lend(like)
    assert other.data_ptr() != where
    del one
    assert lend(like).data_ptr() == where


def graph(tensor: Tensor) -> Callable[[], Tensor]:
    weight = torch.ones(2, 200_000, requires_grad=True)
    loss = (weight * tensor).sum()

    def slope() -> Tensor:
        (found,) = torch.autograd.grad(loss, weight, retain_graph=True)
        return found

    return slope


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "the tensor": lambda t: t,
    "a view": lambda t: t[1, 3:],
    "a transpose": lambda t: t.T,
    "detached": lambda t: t.detach(),
    "a parameter": lambda t: torch.nn.Parameter(t),
    "the same bytes as another dtype": lambda t: t.view(torch.int32).view(torch.float32),
    "numpy": lambda t: t.numpy()[0],
    "a buffer": lambda t: memoryview(t.numpy()),
    "dlpack": lambda t: torch.from_dlpack(t),
    "the storage": lambda t: t.untyped_storage(),
    "a graph": graph,
    "in shared memory": lambda t: t.share_memory_(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
}


def content(held: Any) -> Tensor:
    if isinstance(held, torch.UntypedStorage):
        return torch.empty(0).set_(held)  # type: ignore[call-overload]
    if isinstance(held, memoryview):
        return torch.frombuffer(held, dtype=torch.float32)
    return held() if callable(held) and not isinstance(held, Tensor) else torch.as_tensor(held)


@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_holds_is_not_written_over(name: str) -> None:
    tensor = lend().fill_(1.0)
    held = HOLDERS[name](tensor)
    del tensor
    for _ in range(3):
        others = [lend().fill_(2.0) for _ in range(3)]
        assert bool((content(held) == 1).all())
        del others


def test_a_view_gives_the_memory_back_at_last() -> None:
    tensor = lend()
    where, view = tensor.data_ptr(), tensor[0, 5:]
    del tensor
    assert lend().data_ptr() != where
    del view
    assert lend().data_ptr() == where


def test_torch_saves_it_like_any_other() -> None:
    file = io.BytesIO()
    torch.save(lend().fill_(3.0), file)
    file.seek(0)
    assert torch.equal(torch.load(file), torch.full_like(LIKE, 3.0))


def test_inference_mode() -> None:
    with torch.inference_mode():
        tensor = lend()
        torch.add(LIKE, 1.0, out=tensor)
        assert tensor.is_inference()
    where = tensor.data_ptr()
    del tensor
    assert lend().data_ptr() == where and not lend().is_inference()


def test_it_cannot_be_made_longer_in_place() -> None:
    with pytest.raises(RuntimeError, match="not resizable"):
        lend().resize_(1_000_000)


class Named(Tensor):
    """A subclass, whose operations might do anything."""


@pytest.mark.parametrize(
    "like",
    [
        torch.zeros(10),
        torch.zeros(1).expand(1_000_000),
        torch.zeros(1000, 1000).T,
        torch.zeros(1_000_000, dtype=torch.bfloat16),
        torch.zeros(1_000_000, dtype=torch.int64),
        torch.empty(100_000_000, device="meta"),
        torch.empty(20_000_000),
        torch.zeros(1_000_000).as_subclass(Named),
        torch.eye(1000).to_sparse(),
    ],
    ids=["small", "expanded", "transposed", "bfloat16", "int64", "meta", "large", "subclass", "sparse"],
)
def test_the_rest_is_left_to_torch(like: Tensor) -> None:
    assert recycled(like) is None


def test_a_compiled_program_is_left_to_torch() -> None:
    torch._dynamo.reset()
    seen: list[bool] = []

    @torch.compile(backend="eager", fullgraph=True)
    def plus_one(x: Tensor) -> Tensor:
        out = recycled(x)
        seen.append(out is None)
        return torch.add(x, 1.0, out=out)

    assert torch.equal(plus_one(LIKE), LIKE + 1)
    assert seen == [True]


def test_few_blocks_are_kept() -> None:
    many = [lend() for _ in range(30)]
    del many
    (blocks,) = memory._free.values()
    assert len(blocks) == memory.KEPT_BLOCKS
    large = [lend(torch.empty(10_000_000)) for _ in range(6)]
    del large
    kept = memory._free[torch.float32, 40_000_000]
    assert sum(block.nbytes for block in kept) <= memory.KEPT_BYTES and len(kept) >= 2
    for size in range(300_000, 300_010):
        lend(torch.empty(size))
    assert len(memory._free) == memory.KEPT_KINDS
    assert (torch.float32, 300_009 * 4) in memory._free


def test_a_size_that_was_forgotten_comes_back_to_nothing() -> None:
    tensor = lend()
    memory.release()
    del tensor
    assert not memory._free


def test_threads_do_not_share_a_block() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        kept = lend().fill_(number)
        for _ in range(200):
            new = lend()
            torch.add(kept, 0.0, out=new)
            if not bool((new == number).all()):
                wrong.append(number)
            kept = new

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
