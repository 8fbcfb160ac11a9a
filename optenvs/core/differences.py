"""Whether a derivative that is told is one: central differences of several lengths along a line.

A part of a user's function that is detached, or rounded through another type, raises no error: its derivative
is silently 0, and all that rests on it is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_STEPS = 5
"""How many lengths are tried, for a function may be steep."""


class Contradiction(NamedTuple):
    """Where differences and a derivative do not agree.

    Attributes:
        row, number: of which row, and which number of its answer.
        told, seen: the derivative that is told, and that of differences.
    """

    row: int
    number: int
    told: float
    seen: float


def contradiction(
    read: Callable[[Float[Tensor, "K n"]], Float[Tensor, "K p"]],
    told: Float[Tensor, "B p"],
    at: Float[Tensor, "B n"],
    way: Float[Tensor, "B n"],
) -> Contradiction | None:
    """The first derivative that central differences contradict; ``None`` where they contradict none.

    Two lengths that agree with each other are sure of it; where none do, or one is not finite, there is
    nothing to compare: at a kink, say.

    Args:
        read: the function, of each point moved along its way by several lengths: ``(K, n)``, where K is a
            multiple of B, and the points come again and again.
        told: its derivative at each point along its way.
        at: the points.
        way: a direction each, of the size of a point.
    """
    eps = torch.finfo(at.dtype).eps
    steps = torch.logspace(-2, math.log10(eps) / 2, _STEPS, dtype=at.dtype, device=at.device)
    steps = steps.reshape(-1, 1, 1)
    points = torch.cat((at + steps * way, at - steps * way)).flatten(0, 1)
    with torch.no_grad():
        after, before = read(points).reshape(2, _STEPS, *told.shape)
    seen = (after - before) / (2 * steps)
    rounding = 10 * eps * torch.maximum(after.abs(), before.abs()) / steps
    close, size = (1e-2 if at.dtype == torch.float32 else 1e-4), seen.abs()
    fits = (seen - told).abs() <= close * torch.maximum(size, told.abs()) + rounding
    sure = (seen[1:] - seen[:-1]).abs() <= close * torch.maximum(size[1:], size[:-1]) + rounding[1:]
    sure &= seen[1:].isfinite() & told.isfinite()
    wrong = sure.any(0) & ~(fits & seen.isfinite()).any(0)
    if not bool(wrong.any()):
        return None
    row, number = torch.nonzero(wrong)[0].tolist()
    by_differences = seen[1:, row, number][sure[:, row, number]][0]
    return Contradiction(row, number, float(told[row, number]), float(by_differences))
