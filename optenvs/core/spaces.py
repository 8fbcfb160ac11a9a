"""Spaces whose bounds cost no memory, and the check of actions against them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import InvalidAction
from jaxtyping import Bool
from torch import Tensor


def box(
    shape: tuple[int, ...],
    dtype: str | type = "float32",
    low: float | np.ndarray = -np.inf,
    high: float | np.ndarray = np.inf,
) -> spaces.Box:
    """A Box; a space of a million coordinates with scalar bounds stays cheap (bounds are broadcast)."""
    kind = np.dtype(dtype).type
    # Gymnasium warns of arrays that it must cast
    least = np.asarray(low, dtype=kind) if isinstance(low, np.ndarray) else low
    most = np.asarray(high, dtype=kind) if isinstance(high, np.ndarray) else high
    made = spaces.Box(least, most, shape, kind)
    if np.isscalar(low) and np.isscalar(high) and np.prod(shape) > 4096:
        for name in ("low", "high", "bounded_below", "bounded_above"):
            bounds = getattr(made, name)
            setattr(made, name, np.broadcast_to(bounds.flat[0], shape))
    return made


def stacked(space: spaces.Box, count: int) -> spaces.Box:
    """The space of ``count`` of them; bounds that are one number for all coordinates stay broadcast."""
    ends = []
    for bound in (space.low, space.high):
        constant = bound.size and (bound == bound.flat[0]).all()
        ends.append(bound.flat[0] if constant else np.broadcast_to(bound, (count, *space.shape)))
    return box((count, *space.shape), space.dtype.name, *ends)


class _Facts(NamedTuple):
    """What every check asks of a space, found once: asking numpy each time costs more than the check."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    bounded: bool
    limits: dict[torch.device, tuple[Tensor, Tensor]]


def _facts(space: spaces.Space) -> _Facts:
    facts = space.__dict__.get("_optenvs_facts")
    if facts is None:
        facts = _Facts(_torch_dtype(space.dtype), tuple(space.shape or ()), _bounded(space), {})
        space.__dict__["_optenvs_facts"] = facts
    return facts


def limited(space: spaces.Space) -> bool:
    """Whether any coordinate has a finite bound."""
    return _facts(space).bounded


def _limits(space: spaces.Box, device: torch.device) -> tuple[Tensor, Tensor]:
    """The least and the greatest number allowed, by coordinate or (broadcast bounds) one for all."""
    facts = _facts(space)
    if device not in facts.limits:
        # an infinite bound becomes the greatest number, so that a comparison also finds infinities
        ends = [
            np.nan_to_num(bound.flat[:1] if bound.strides == (0,) * bound.ndim else bound, nan=np.nan)
            for bound in (space.low, space.high)
        ]
        low, high = (torch.from_numpy(end.copy()).to(device) for end in ends)
        facts.limits[device] = (low, high)
    return facts.limits[device]


def _names(space: spaces.Space) -> list[tuple[str, spaces.Space]]:
    return list(space.items()) if isinstance(space, spaces.Dict) else [("action", space)]


def _field(action: Any, name: str) -> Any:
    return action if name == "action" and not isinstance(action, dict) else action[name]


def as_action(
    space: spaces.Space, action: Any, batch: int | None, device: torch.device
) -> Tensor | dict[str, Tensor]:
    """``action`` as tensors of the space's dtype on ``device``, with leading dimension ``B``.

    Args:
        space: the space of one instance.
        action: arrays, tensors or nested lists of the space's shape, with a leading ``batch`` unless it is
            ``None`` (then one is added).
        batch: the number of instances, or ``None`` for a single one.
        device: where the tensors are wanted; a tensor on another one is refused.

    Raises:
        gymnasium.error.InvalidAction: a missing or unknown field, a shape or dtype that does not fit, truth
            values in place of numbers, masked entries, a sparse tensor.

    A tensor with a graph is taken without it: faces carry none, and :func:`optenvs.unroll` is the way.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(action, dict) or set(action) != set(space):
            came = sorted(map(str, action)) if isinstance(action, dict) else type(action).__name__
            raise InvalidAction(f"action: expected a dict with the fields {sorted(space)}, got {came}")
        return {name: _tensor(name, part, action[name], batch, device) for name, part in space.items()}
    return _tensor("action", space, action, batch, device)


def _tensor(name: str, space: spaces.Space, value: Any, batch: int | None, device: torch.device) -> Tensor:
    dtype, shape, _, _ = _facts(space)
    expected = shape if batch is None else (batch, *shape)
    if not isinstance(value, Tensor):
        array = _array(name, space, value, expected)
        tensor = torch.from_numpy(array[None] if batch is None else array)
        return tensor if device.type == "cpu" else tensor.to(device)
    if value.layout != torch.strided or value.is_quantized:
        raise InvalidAction(f"{name}: expected a dense tensor of numbers, got {value.layout}, {value.dtype}")
    fraction = value.is_floating_point() and not dtype.is_floating_point
    if value.is_complex() or fraction or (value.dtype == torch.bool and dtype != torch.bool):
        raise InvalidAction(f"{name}: dtype {value.dtype} cannot be cast to {dtype}")
    if value.device.type != device.type:
        raise InvalidAction(f"{name}: lives on {value.device}, the environment on {device}; move it there")
    if value.shape != expected:
        raise InvalidAction(f"{name}: expected shape {expected}, got {tuple(value.shape)}")
    # a copy without a graph: the caller may go on writing to his own
    tensor = value.detach().to(dtype, copy=True)
    return tensor.unsqueeze(0) if batch is None else tensor


def _array(name: str, space: spaces.Space, value: Any, expected: tuple[int, ...]) -> np.ndarray:
    """A copy of ``value`` of the space's dtype; the caller may go on writing to his own."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise InvalidAction(f"{name}: {np.ma.count_masked(value)} of its {value.size} entries are masked")
    try:
        array = np.asarray(value)
        if array.dtype != space.dtype and array.dtype.kind not in "fiu" and array.size:
            raise TypeError(f"dtype {array.dtype} is no number")
        if array.shape != expected:  # before a copy is made, which may be large
            raise InvalidAction(f"{name}: expected shape {expected}, got {array.shape}")
        if array.dtype == space.dtype:
            return array.copy()
        kind = "same_kind" if array.dtype.kind == "f" else "unsafe"
        return array.astype(space.dtype, casting=kind, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:  # the last, of a list of tensors with a graph
        raise InvalidAction(
            f"{name}: cannot be cast to {space.dtype} with shape {space.shape}: {error}"
        ) from error


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


def _bounded(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and bool(
        space.bounded_below.flat[0] or space.bounded_above.flat[0]
        if space.bounded_below.strides == (0,) * space.bounded_below.ndim
        else space.bounded_below.any() or space.bounded_above.any()
    )


def _wrong(space: spaces.Space, value: Tensor) -> Tensor:
    """The entries that are no finite number or out of bounds, bool of the shape of ``value``."""
    if isinstance(space, spaces.Box) and _facts(space).bounded:
        low, high = _limits(space, value.device)
        return ~((value >= low) & (value <= high))  # true of NaN, too
    return ~torch.isfinite(value)


def _violates(space: spaces.Space, value: Tensor) -> Bool[Tensor, "B"]:
    wrong = _wrong(space, value)
    return wrong.flatten(1).any(1) if wrong.ndim > 1 else wrong


def violations(space: spaces.Space, action: Any) -> Bool[Tensor, "B"]:
    """The rows of ``action`` (tensors with leading ``B``) with a NaN, an infinity, or out of bounds."""
    fields = [_violates(part, _field(action, name)) for name, part in _names(space)]
    return torch.stack(fields).any(0) if len(fields) > 1 else fields[0]


def bounded(space: spaces.Space) -> bool:
    """Whether a floating field of an action has bounds that a point could lie outside of."""
    return any(_floating(part) and _facts(part).bounded for _, part in _names(space))


def outside_of(space: spaces.Space, action: Any) -> Bool[Tensor, "B"]:
    """The rows of ``action`` with a floating field that is out of its bounds, or no number."""
    fields = [
        _violates(part, _field(action, name))
        for name, part in _names(space)
        if _floating(part) and _facts(part).bounded
    ]
    return torch.stack(fields).any(0) if len(fields) > 1 else fields[0]


def _floating(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype.kind == "f"


def check_action(space: spaces.Space, action: Any, rows: Tensor | None = None) -> None:
    """Raise :class:`~gymnasium.error.InvalidAction` for the first field that :func:`violations` names.

    It looks at the values, so on an accelerator it waits for the device. ``rows``, bool ``(B,)``, limits it
    to some instances.
    """
    for name, part in _names(space):
        value = _field(action, name)
        # A finite sum has only finite terms: one pass for the usual case of an unbounded space.
        if not _facts(part).bounded and math.isfinite(value.sum().item()):
            continue
        bad = _violates(part, value)
        if rows is not None:
            bad = bad & rows
        if not bad.any():
            continue
        row = int(bad.nonzero()[0, 0])
        came = _said(value[row].detach().cpu(), _wrong(part, value[row : row + 1])[0].cpu())
        limits = f" in [{part.low.min()}, {part.high.max()}]" if isinstance(part, spaces.Box) else ""
        raise InvalidAction(
            f"{name}: expected finite numbers of shape {part.shape}{limits}, got {came} for instance {row}"
        )


def _said(value: Tensor, wrong: Tensor) -> str:
    """An action with wrong entries: the whole if it is short, the first of them, and how many they are."""
    if not value.ndim:
        return f"{value.item():.4g}"
    whole = f"{np.array2string(value.numpy(), precision=4)}: " if value.numel() <= 8 else ""
    index = tuple(wrong.nonzero()[0].tolist())
    place = str(index[0]) if len(index) == 1 else str(index)
    count = f"{int(wrong.sum())} of {value.numel()} entries are wrong"
    return f"{whole}{value[index].item():.4g} at index {place} ({count})"
