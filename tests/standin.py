"""A device that is not there: tensors that are held by the CPU, and claim to live elsewhere.

``DEVICE`` is a device of its own to torch and to our code. What its tensors compute, the CPU computes on what
they hold, so that every number is the CPU's, bit for bit. As on an accelerator, an operation that mixes them
with tensors of the CPU raises; and every look from the host, for which an accelerator would have to be waited
for, is noted with the line of our code that looked.

    with standin.present() as looks:
        run = optenvs.rollout(env.replace(device=standin.DEVICE), agent)
    assert not looks

It stands on ``torch.utils.backend_registration._setup_privateuseone_for_python_backend`` (torch 2.11 on).
"""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_map_only

DEVICE = "standin"
MISSING = "this torch cannot name a device in Python (before 2.11)"
ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(str(ROOT / room) + "/" for room in ("optenvs", "agents"))
available = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")

aten = torch.ops.aten
_SIZED_BY_NUMBERS = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten._local_scalar_dense.default,
    aten._linalg_check_errors.default,
}
"""Operations whose result, or its shape, the host must wait for."""
_COPIES = {aten._to_copy.default, aten.copy_.default, aten._copy_from.default, aten.lift_fresh.default}
"""Operations that may have tensors of two devices."""
_JOINED = {aten.cat.default, aten.stack.default, aten.mm.default, aten.bmm.default, aten.gather.default}
"""Operations that take not even a number from the CPU."""


class Look(NamedTuple):
    """A look from the host: the operation, and the line of our code that asked for it."""

    operation: str
    line: str

    def __str__(self) -> str:
        return f"{self.operation} at {self.line}"


class StandIn(Tensor):
    """A tensor of the device; what it holds lies on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> StandIn:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(DEVICE, 0),
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _answered(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"StandIn({self.held!r})"

    def tolist(self) -> Any:  # torch has no lists of subclasses
        return self.cpu().tolist()


def held(tree: Any) -> Any:
    """The tree with what its tensors hold, outside every graph."""
    return tree_map_only(StandIn, lambda leaf: leaf.detach().held, tree)


_looks: list[Look] | None = None


def _note(operation: str) -> None:
    if _looks is None:
        return
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            _looks.append(Look(operation, f"{Path(name).relative_to(ROOT)}:{line}"))
            return
    _looks.append(Look(operation, "no line of ours"))


def _elsewhere(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE


def _answered(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    here: list[Tensor] = []
    there: list[StandIn] = []
    inner_args = [_inner(leaf, here, there) for leaf in args]
    inner_kwargs = {name: _inner(leaf, here, there) for name, leaf in kwargs.items()} if kwargs else kwargs
    target = kwargs.get("device")
    if func in _COPIES:
        if there and (torch.device(target).type == "cpu" if target is not None else _lands_here(func, args)):
            _note(func.__name__)
    elif there:
        _refuse_mixed(func, here)
        if func in _SIZED_BY_NUMBERS or _masked(func, args):
            _note(func.__name__)
    if _elsewhere(target):
        inner_kwargs = {**inner_kwargs, "device": torch.device("cpu")}
    found = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default or func is aten._copy_from.default:
        return args[0] if func is aten.copy_.default else args[1]
    goes = _elsewhere(target) if target is not None else bool(there)
    return _wrapped(found, there) if goes else found


def _inner(leaf: Any, here: list[Tensor], there: list[StandIn]) -> Any:
    """An argument as the CPU gets it; its tensors are added to those that lie here or there."""
    if isinstance(leaf, StandIn):
        there.append(leaf)
        return leaf.held
    if isinstance(leaf, Tensor):
        here.append(leaf)
    elif isinstance(leaf, list | tuple):
        return [_inner(part, here, there) for part in leaf]
    return leaf


def _lands_here(func: Any, args: Any) -> bool:
    """Whether a copy without a named device ends on the CPU."""
    to = {aten.copy_.default: 0, aten._copy_from.default: 1}.get(func)
    return to is not None and not isinstance(args[to], StandIn)


def _refuse_mixed(func: Any, here: list[Tensor]) -> None:
    least = 0 if func in _JOINED else 1
    for leaf in here:
        if leaf.ndim >= least:
            raise RuntimeError(
                f"{func}: expected all tensors on {DEVICE}, got {tuple(leaf.shape)} on {leaf.device}"
            )


def _masked(func: Any, args: Any) -> bool:
    """Whether it takes the rows of a mask, whose number must be known first."""
    if func not in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
        return False
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _wrapped(found: Any, there: list[StandIn]) -> Any:
    """Results on the device; what was written in place is the tensor that was given."""
    if isinstance(found, list | tuple):
        return type(found)(_wrapped(part, there) for part in found)
    if not isinstance(found, Tensor):
        return found
    for given in there:
        if given.held is found:
            if given.shape != found.shape:
                raise NotImplementedError("the stand-in has no tensors that change their shape in place")
            return given
    return StandIn(found)


def _sending(maker: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor`` or its like, which copy without asking the device: they make it here, and send it.

    It stands in their place. A mode of functions would see them too, and every look at a shape.
    """

    @functools.wraps(maker)
    def made(*args: Any, **kwargs: Any) -> Tensor:
        if not _elsewhere(kwargs.get("device")):
            return maker(*args, **kwargs)
        device = kwargs.pop("device")
        return maker(*args, **kwargs).to(device)

    return made


_MAKERS = (
    "empty.memory_format empty_strided arange arange.start arange.start_step eye eye.m linspace logspace "
    "scalar_tensor tril_indices triu_indices"
)
"""What makes a tensor of nothing; torch builds the others of these."""
_library: torch.library.Library | None = None


def _module() -> Any:
    """What torch asks of a device besides tensors: it has no generator of its own."""

    class Module(backend_registration._DummyBackendModule):
        def get_rng_state(self, device: Any = None) -> Tensor:
            return torch.zeros(0, dtype=torch.uint8)

        def set_rng_state(self, state: Tensor, device: Any = None) -> None:
            pass

    return Module()


def _register() -> None:
    """Name the device, once a process; what is made on it is made on the CPU, and wrapped."""
    global _library
    if _library is not None:
        return
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, _module())
    _library = torch.library.Library("aten", "IMPL")
    for name in _MAKERS.split():
        operation, _, form = name.partition(".")
        maker = getattr(getattr(aten, operation), form or "default")

        def made(*args: Any, maker: Any = maker, device: Any = None, **kwargs: Any) -> StandIn:
            return StandIn(maker(*args, device="cpu", **kwargs))

        _library.impl(maker, made, "PrivateUse1")
    # a tensor of zeros without numbers could not be held
    _library.impl(aten._efficientzerotensor.default, aten.zeros.default, "PrivateUse1")


@contextlib.contextmanager
def present() -> Iterator[list[Look]]:
    """The device is there; looks at its tensors are noted in the list that comes."""
    global _looks
    before, _looks = _looks, []
    makers = {name: getattr(torch, name) for name in ("tensor", "as_tensor", "asarray")}
    try:
        for name, maker in makers.items():
            setattr(torch, name, _sending(maker))
        yield _looks
    finally:
        for name, maker in makers.items():
            setattr(torch, name, maker)
        _looks = before


if available:  # at import: torch counts devices at the first backward pass of a process, and never again
    _register()
