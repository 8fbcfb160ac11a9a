"""The loss between two points: lines and the barrier on them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.struct import struct


@struct
class Line:
    """The loss on the straight line from A (at 0) to B (at 1).

    Attributes:
        at: where, ``(n,)``.
        losses: ``(B, n)``.
        barrier: the largest excess over the chord between both ends, for places in [0, 1], ``(B,)``.
        above_ends: the largest loss there less the larger end's, ``(B,)``.
    """

    at: Tensor
    losses: Tensor
    barrier: Tensor
    above_ends: Tensor


def barrier(
    loss: Callable[[Tensor], Tensor],
    first: Float[Tensor, "B D"],
    second: Float[Tensor, "B D"],
    *,
    points: int = 41,
    low: float = 0.0,
    high: float = 1.0,
) -> Line:
    """The loss at evenly spaced places of the lines from ``first`` to ``second``.

    Args:
        loss: of a block of points ``(B, n, D)`` to ``(B, n)``, such as
            ``lambda block: objective.value(block, part)``.
        first: A.
        second: B.
        points: n, both ends included.
        low: first place, at most 0; -1 looks beyond A.
        high: last place, at least 1; 2 looks beyond B.

    Returns:
        The line. The ends themselves are asked too, wherever the places fall.

    Raises:
        ValueError: ends of other shapes, fewer than two places, or a range without [0, 1].
    """
    check_whole("points", points, 2)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"ends: expected two (B, D), got {tuple(first.shape)} and {tuple(second.shape)}")
    if not (low <= 0 and high >= 1):
        raise ValueError(f"low, high: expected a range that holds [0, 1], got [{low}, {high}]")
    at = torch.linspace(low, high, points, dtype=first.dtype, device=first.device)
    places = torch.cat([at, at.new_tensor([0.0, 1.0])])
    block = torch.lerp(first[:, None], second[:, None], places[:, None])
    found = loss(block)
    losses, ends = found[:, :-2], found[:, -2:]
    within = (at >= 0) & (at <= 1)
    chord = (1 - at) * ends[:, :1] + at * ends[:, 1:]
    # the ends lie on the chord: an excess of zero
    excess = torch.where(within, losses - chord, 0).amax(1).clamp_min(0)
    highest = torch.where(within, losses, -torch.inf).amax(1)
    top = ends.amax(1)
    return Line(at, losses, excess, torch.maximum(highest, top) - top)
