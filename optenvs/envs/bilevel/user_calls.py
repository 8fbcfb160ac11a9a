"""How a user's functions are called while they are tried: what goes wrong is told by their names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from optenvs.core.errors import cause


@contextlib.contextmanager
def named(name: str, x: Tensor, y: Tensor | None, also: str = "") -> Iterator[None]:
    """Around a call of the function ``name`` on batches: an error names it, and what it was called on."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{name}: "):
            raise
        doing = f" and {also}" if also else ""
        raise ValueError(
            f"{name}: {cannot(x[0], None if y is None else y[0])}{doing}: {cause(error)}"
        ) from error


def check_reads(name: str, function: Callable[..., Any], *points: Tensor) -> Any:
    """What a function of batches answers; ``ValueError`` where it cannot be called or writes into a point."""
    copies = [point.clone() for point in points]
    with named(name, points[0], points[1] if len(points) > 1 else None), torch.no_grad():
        found = function(*copies)
    if not all(torch.equal(copy, point) for copy, point in zip(copies, points, strict=True)):
        raise ValueError(
            f"{name}: writes into its argument in place; expected one that only reads it, such as y - x for "
            "y.sub_(x)"
        )
    return found


def floating(name: str, value: Tensor, like: Tensor) -> Tensor:
    """The answer of a function in the dtype of ``like``; whole numbers and truths have no derivative."""
    if not value.is_floating_point():
        raise ValueError(f"{name}: expected floating numbers, got {str(value.dtype).removeprefix('torch.')}")
    return value.to(like.dtype)


def generic(size: int, rows: int) -> Tensor:
    """Points that are special in no coordinate, ``(rows, size)``, in float64."""
    index = torch.arange(1, rows * size + 1, dtype=torch.float64).reshape(rows, size)
    return 0.25 + 0.5 * (0.618034 * index % 1)


def cannot(x: Tensor, y: Tensor | None = None) -> str:
    """What could not be done, for messages."""
    kind = str(x.dtype).removeprefix("torch.")
    if y is None:
        return f"cannot be called on a {kind} tensor of shape {tuple(x.shape)}"
    return f"cannot be called on {kind} tensors x {tuple(x.shape)} and y {tuple(y.shape)}"
