"""What users give: arrays by name, whole numbers, bounds, and equations that must have a solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.core.given import numbers


def array(name: str, value: Any) -> Tensor:
    """Numbers in float64 on the host, infinite ones perhaps.

    Raises:
        ValueError: no numbers, or one that is NaN.
    """
    try:
        found = numbers(value)
    except (TypeError, ValueError) as error:
        came = repr(value) if isinstance(value, list | tuple | str) else type(value).__name__
        raise ValueError(f"{name}: expected an array of numbers, got {came}: {error}") from error
    if np.isnan(found).any():
        raise ValueError(f"{name}: {int(np.isnan(found).sum())} of its {found.size} entries are NaN")
    return torch.from_numpy(found)


def vector(name: str, value: Any, size: int) -> Tensor:
    """``size`` finite numbers in float64 on the host."""
    try:
        found = numbers(value)
    except (TypeError, ValueError):
        found = np.empty((0, 0))  # bools, words, or rows of several lengths
    if found.shape != (size,) or not np.isfinite(found).all():
        raise ValueError(f"{name}: expected {size} finite numbers, got {value!r}")
    return torch.from_numpy(found)


def arrays(keyword: str, given: Any, names: tuple[str, ...], more: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The arrays of a dict: all of ``names``, and what is there of ``more``; all but bounds are finite."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{keyword}: expected a dict with {', '.join(names)}, got {type(given).__name__}")
    for name in given:
        if name not in (*names, *more):
            raise ValueError(f"{keyword}: no array {name!r}{suggest(str(name), (*names, *more))}")
    for name in names:
        if name not in given:
            raise ValueError(f"{keyword}: expected {', '.join(names)}, got no {name!r}")
    found = {name: array(f"{keyword}: {name}", value) for name, value in given.items()}
    for name, part in found.items():
        if name not in ("lower", "upper") and part.isinf().any():
            raise ValueError(f"{keyword}: {name}: expected finite numbers, got infinite ones")
    return found


def limits(name: str, lower: Tensor, upper: Tensor) -> None:
    """Raise ``ValueError`` unless every lower bound is at most the upper one, and both leave a number."""
    wrong = ~((lower <= upper) & (lower < torch.inf) & (upper > -torch.inf))
    if wrong.any():
        place = int(wrong.nonzero()[0])
        low, high = float(lower[place]), float(upper[place])
        raise ValueError(
            f"{name}: expected lower <= upper, got {low} and {high} at {place} "
            f"({int(wrong.sum())} such in all)"
        )


def consistent(name: str, A: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    """Raise ``ValueError`` unless A x = b has a solution."""
    if not len(b):
        return
    miss = A @ (torch.linalg.pinv(A) @ b) - b
    size = float(torch.linalg.vector_norm(miss))
    if size > tolerance * max(float(torch.linalg.vector_norm(b)), 1.0):
        raise ValueError(
            f"{name}: expected equations with a solution, got some that miss by {size:.3g} at best"
        )


def shaped(name: str, part: Any, shape: tuple[int, ...]) -> Tensor:
    """What an author's function gives, where it has this shape; ``ValueError`` where it has another."""
    if not isinstance(part, Tensor) or part.shape != shape:
        came = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        raise ValueError(f"{name}: expected shape {tuple(shape)}, rows first, got {came}")
    return part
