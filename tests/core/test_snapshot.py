"""Snapshots: bit for bit, atomic, and never a way to run a file's code."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import agents
import optenvs
from optenvs.core import files
from optenvs.core.random import keys_from_seed, uniform
from optenvs.core.sealed import write_tensors
from optenvs.core.snapshot import load, save
from optenvs.core.struct import static, struct, tensors


@struct
class Mine:
    a: Tensor
    name: str = static(default="x")


def state(**keywords: Any) -> Any:
    env = optenvs.make("LeastSquares", dim=3, rotate=True, **keywords)
    first = env.reset(keys_from_seed(0, 2))
    return env.step(first, first.observation["point"] + 0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    before = state(dtype=dtype)
    after = load(save(tmp_path / "s.safetensors", before))
    assert type(after) is type(before)
    left, right = tensors(before), tensors(after)
    assert list(left) == list(right)
    for path, value in left.items():
        assert value.dtype == right[path].dtype, path
        assert torch.equal(value, right[path]), path
    assert after.calls.kinds == before.calls.kinds


def test_plain_data_and_special_numbers(tmp_path: Path) -> None:
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 5e-324], dtype=torch.float64)
    tree = {"x": (odd, [1, 2.5, None, True, "text"]), "empty": torch.zeros(0, 3), "shared": odd}
    back = load(save(tmp_path / "s", tree))
    assert back["x"][1] == [1, 2.5, None, True, "text"]
    assert isinstance(back["x"], tuple)
    assert torch.equal(back["x"][0].view(torch.int64), odd.view(torch.int64))
    assert back["empty"].shape == (0, 3)


def test_views_and_expanded_tensors_are_stored_whole(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tree = {"view": base[::2], "expanded": torch.ones(1).expand(4), "transposed": base.view(2, 3).T}
    back = load(save(tmp_path / "s", tree))
    for name, value in tree.items():
        assert torch.equal(back[name], value)


@pytest.mark.parametrize(
    "laid",
    [
        lambda x: x,
        lambda x: x[:, ::2],
        lambda x: x.mT,
        lambda x: x[:1].expand(3, 4, 6),
        lambda x: x[:, :, 0],
        lambda x: x[1:, 1:, 1:],
        lambda x: x.unfold(2, 3, 1),
        lambda x: x[:, :1, :1].expand(3, 4, 6)[1:].mT,
        lambda x: x[0, 0, 0].expand(5),
        lambda x: x[:, :0],
        lambda x: torch.complex(x, x + 1).conj(),
    ],
)
def test_tensors_come_back_as_they_lay_in_memory(laid: Any, tmp_path: Path) -> None:
    # the place in its first 64 bytes, too: what is read of memory together decides how it is added up
    value = laid(torch.arange(72.0).view(3, 4, 6))
    back = load(save(tmp_path / "s", value))
    assert torch.equal(back, value)
    if value.numel() and not value.is_conj():
        assert back.stride() == value.stride()
        assert back.data_ptr() % 64 == value.data_ptr() % 64


NAMES = ["a.b", "__metadata__", "", ".", "\\", "a\\.b", "\\_", 'sha256": "', "tree", "0", "format", "ü\ud800"]


def test_keys_are_what_they_were_whatever_they_are(tmp_path: Path) -> None:
    def leaf(i: int) -> Tensor:
        return torch.full((2,), float(i))

    tree: dict[Any, Any] = {key: leaf(i) for i, key in enumerate(NAMES)}
    nested = {
        "a": {"b": leaf(50), "b.c": leaf(51)},
        "": {"": leaf(52), "a": leaf(53)},
        "a.b": {"c": leaf(54)},
    }
    odd = {0: leaf(60), 1.5: leaf(61), None: leaf(62), 1: {"5": leaf(63)}, "0": leaf(64)}
    before = (tree, nested, odd, {"x": tree, "x.": nested})
    after = load(save(tmp_path / "s", before))
    assert [list(part) for part in after] == [list(part) for part in before]
    assert list(map(type, after[2])) == list(map(type, odd))
    left, right = tensors(before), tensors(after)
    assert len(left) == 2 * len(NAMES) + 15  # none hides another
    assert left.keys() == right.keys()
    assert all(torch.equal(value, right[path]) for path, value in left.items())
    with pytest.raises(TypeError, match=r"tree\.x: cannot be saved: the key \(1, 2\) is no text or number"):
        save(tmp_path / "t", {"x": {(1, 2): leaf(0)}})


class Pair(NamedTuple):
    left: Tensor
    right: Any


def test_named_tuples_stay_what_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "s", {"pair": Pair(torch.ones(2), [1, None])})
    pair = load(path, classes=(Pair,))["pair"]
    assert type(pair) is Pair
    assert (pair.left.tolist(), pair.right) == ([1, 1], [1, None])
    with pytest.raises(ValueError, match=r"Pair; allow it with classes="):
        load(path)


@pytest.mark.parametrize("value", [torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex128)])
def test_a_tensor_that_no_file_can_hold_is_named(value: Tensor, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"tree\.a\.b: cannot be saved: a tensor of torch"):
        save(tmp_path / "s", {"a": {"b": value}})


def test_a_graph_is_not_stored(tmp_path: Path) -> None:
    grown = torch.ones(2, requires_grad=True) * 2
    assert not load(save(tmp_path / "s", {"x": grown}))["x"].requires_grad


def test_a_foreign_class_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    path = save(tmp_path / "s", Mine(a=torch.ones(2), name="mine"))
    with pytest.raises(ValueError, match=r"names the class .*Mine; allow it with classes="):
        load(path)
    assert load(path, classes=(Mine,)).name == "mine"


def forged(path: Path, tree: Any, form: str = "optenvs-2") -> Path:
    return write_tensors(path, {"x": torch.ones(1)}, {"format": form, "tree": json.dumps(tree)})


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:Popen", "builtins:eval", "pathlib:Path", "optenvs_evil:Class", "torch:Tensor"],
)
def test_a_forged_file_cannot_name_a_class_of_other_packages(tmp_path: Path, name: str) -> None:
    path = forged(tmp_path / "s", {"class": name, "fields": {}})
    with pytest.raises(ValueError, match=f"{path}: not a readable snapshot .it names the class"):
        load(path)


@pytest.mark.parametrize(
    "name", ["optenvs.core.snapshot:os", "optenvs.core.snapshot:load", "optenvs.making:make"]
)
def test_a_forged_file_cannot_call_what_is_no_struct(tmp_path: Path, name: str) -> None:
    path = forged(tmp_path / "s", {"class": name, "fields": {}})
    with pytest.raises(ValueError, match=f"{path}: not a readable snapshot .*is no struct"):
        load(path)


def test_every_other_forgery_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    large = {"tensor": "x", "size": [1, 2], "stride": [1, 2**60], "offset": 0}
    trees: list[Any] = [
        {"class": "optenvs.nowhere:State", "fields": {}},
        {"class": "optenvs.core.env:Nobody", "fields": {}},
        {"class": "optenvs.core.env:State", "fields": {}},
        {"class": "optenvs.core.env:State"},
        {"class": 3, "fields": {}},
        {"tensor": "y"},
        {"tensor": ["x"]},
        {"tensor": "x", "stride": [1]},
        {"tensor": "x", "size": [1, 1], "stride": [1, 1, 1], "offset": 0},
        {"tensor": "x", "size": [2], "stride": [-1], "offset": 0},
        large,
        {"dict": [["a"]]},
        {"dict": [[["a"], {"json": 1}]]},
        {"tuple": 5},
        {},
        [],
        7,
    ]
    for tree in trees:
        path = forged(tmp_path / "forged", tree)
        with pytest.raises(ValueError, match=f"^{path}: not a readable snapshot"):
            load(path)
    for text in ("[" * 100_000, '{"list": [' * 5_000 + '{"json": 1}' + "]}" * 5_000, "", "nonsense"):
        path = write_tensors(tmp_path / "deep", {}, {"format": "optenvs-2", "tree": text})
        with pytest.raises(ValueError, match=f"^{path}: not a readable snapshot"):
            load(path)
    path = write_tensors(tmp_path / "bare", {}, {"format": "optenvs-2"})
    with pytest.raises(ValueError, match="bare: not a readable snapshot .no 'tree'"):
        load(path)


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = save(tmp_path / "s", state())
    whole = path.read_bytes()
    for name, content in {
        "truncated": whole[: len(whole) // 2],
        "longer": whole + b"0",
        "empty": b"",
        "noise": b"\x93" * 400,
        "header": b"\xff" * 8 + whole[8:],
    }.items():
        damaged = tmp_path / name
        damaged.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: not a readable snapshot"):
            load(damaged)
    save_file({"x": torch.ones(1)}, tmp_path / "bare", metadata={"format": "optenvs-2", "tree": "{}"})
    with pytest.raises(ValueError, match="bare: not a readable snapshot .it has no checksum"):
        load(tmp_path / "bare")
    with pytest.raises(ValueError, match="format 'optenvs-1', expected 'optenvs-2'"):
        load(forged(tmp_path / "other", {"json": 1}, form="optenvs-1"))
    with pytest.raises(ValueError, match="unknown node 'lambda'"):
        load(forged(tmp_path / "node", {"lambda": 1}))


def test_a_flipped_bit_is_always_refused(tmp_path: Path) -> None:
    env = optenvs.make("TrainDigits", widths=(4,), samples=48, batch_size=8)
    path = save(tmp_path / "s", optenvs.rollout(env, agents.Adam(lr=0.1), batch=2, steps=3))
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    chance = uniform(keys_from_seed(0, 1), "bits", 200, dtype=torch.float64)[0]
    spread = (chance * 8 * len(whole)).long().tolist()
    for bit in (*range(8 * 16), *range(0, 8 * head, 8 * head // 300), *spread):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{path}: not a readable snapshot"):
            load(path)
    path.write_bytes(whole)
    load(path)


def test_modes_are_those_of_the_umask_and_of_the_file_that_was_there(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = save(tmp_path / "s", {"x": torch.ones(2)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        path.chmod(0o664)
        save(path, {"x": torch.zeros(2)})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")


def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"tree\.a\.b: cannot be saved: function is no tensor or struct"):
        save(tmp_path / "s", {"a": {"b": lambda: 0}})
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "s", {"x": torch.ones(2)})

    def full(number: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        save(path, {"x": torch.zeros(2)})
    assert load(path)["x"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_run_can_be_saved_and_resumed(tmp_path: Path) -> None:
    env, agent = optenvs.make("Quadratic"), agents.SGD(lr=0.1, momentum=0.9)
    whole = optenvs.rollout(env, agent, batch=3, steps=20)
    half = optenvs.rollout(env, agent, batch=3, steps=10)
    resumed = optenvs.rollout(env, agent, steps=10, resume=load(save(tmp_path / "run", half)))
    assert torch.equal(resumed.merit[-1], whole.merit[-1])


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_nodes_of_a_network_go_on_bit_for_bit(batch: int, tmp_path: Path) -> None:
    env = optenvs.make("NetworkDigits", nodes=3, widths=(4,), samples=48, batch_size=8, dtype="float64")
    agent = agents.DADAO()
    half = optenvs.rollout(env, agent, batch=batch, steps=15)
    back = load(save(tmp_path / "run", half))
    for path, value in tensors(half).items():
        assert tensors(back)[path].stride() == value.stride(), path
    on, resumed = (optenvs.rollout(env, agent, steps=15, resume=run) for run in (half, back))
    for path, value in tensors((on.state, on.agent_state, on.merit)).items():
        assert torch.equal(tensors((resumed.state, resumed.agent_state, resumed.merit))[path], value), path
