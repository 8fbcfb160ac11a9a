"""Rewards by name, the same names in every family.

A reward sees the merit (what is minimised, measured at the recommendation) before and after a query, the
best merits so far, and a lower bound of the merit where the environment knows one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_SMALLEST_GAP = 1e-16  # where a logarithm of a gap stops


class Progress(NamedTuple):
    """What a reward may use; every tensor has shape ``(B,)``.

    ``over``, whether the episode ends with this query, is known where the merit is measured at once.
    """

    merit: Tensor
    best: Tensor
    previous_best: Tensor
    floor: Tensor | None
    over: Tensor | None = None


def improvement(p: Progress) -> Float[Tensor, "B"]:
    """Decrease of the best merit so far; the return telescopes to the episode's total progress."""
    return p.previous_best - p.best


def negative_value(p: Progress) -> Float[Tensor, "B"]:
    """Minus the merit now."""
    return -p.merit


def log_improvement(p: Progress) -> Float[Tensor, "B"]:
    """Decrease of ``log10(best merit - floor)``: decades of the gap closed by this query."""
    assert p.floor is not None  # the environment's constructor has refused the other case
    before = torch.log10((p.previous_best - p.floor).clamp_min(_SMALLEST_GAP))
    return before - torch.log10((p.best - p.floor).clamp_min(_SMALLEST_GAP))


def final_value(p: Progress) -> Float[Tensor, "B"]:
    """Minus the merit at the end of the episode (the last finite one where it diverged), and 0 before."""
    assert p.over is not None  # likewise
    return torch.where(p.over, -p.merit, 0.0)


def none(p: Progress) -> Float[Tensor, "B"]:
    """Nothing: for research in which no value may reach the learner."""
    return torch.zeros_like(p.merit)


REWARDS: dict[str, Callable[[Progress], Tensor]] = {
    "improvement": improvement,
    "negative_value": negative_value,
    "log_improvement": log_improvement,
    "final_value": final_value,
    "none": none,
}
