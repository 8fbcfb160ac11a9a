"""Newton's method in a trust region, by truncated conjugate gradients (Steihaug 1983).

    h: conjugate gradients on H h = -g, up to the border of ||h|| <= radius, or along a direction of negative
       curvature to it
    ratio = (f(x) - f(x + h)) / promised
    radius <- radius / 4                      where ratio < 1/4
    radius <- min(2 radius, most)             where ratio > 3/4 and h is on the border
    x <- x + h                                where ratio > least

As in Nocedal and Wright (2006), algorithms 4.1 and 7.2; H may be indefinite. A trial asks a value; gradient
and Hessian are asked at an accepted point only. The method has finished where the promised decrease is below
the rounding of f.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import require
from ._solve import of_rows, steihaug
from ._trial import Proposal, Search, TrialAgent, invisible


@dataclass(frozen=True, eq=False)
class TrustNewton(TrialAgent):
    """Steihaug's steps in a trust region.

    Args:
        radius: the first one, a number or one an instance ``(B,)``.
        most: the largest one.
        least: the least ratio with which a trial is accepted.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    radius: float | Float[Tensor, "B"] = 1.0
    most: float = 1000.0
    least: float = 1e-4

    slopes = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "radius", bool((torch.as_tensor(self.radius) > 0).all()), "a number > 0")
        require(self, "most", self.most > 0, "a number > 0")
        require(self, "least", 0 <= self.least < 0.25, "a number in [0, 0.25)")

    def first_size(self) -> float | Tensor:
        return self.radius

    def propose(
        self, state: Search, ready: Bool[Tensor, "B"], norm: Float[Tensor, "B"], answered: Bool[Tensor, "B"]
    ) -> Proposal:
        parts = state.notes["hessian"], state.metric, state.size, state.gradient
        step, model, on_border = of_rows(ready, steihaug, *parts)
        good = step.isfinite().all(-1)
        lost = ~good | invisible(state, -model)
        # `scale` says whether the step is on the border: there is no multiple of B in this system
        return Proposal(step, on_border.to(model.dtype), -model, good, systems=1, lost=lost)

    def accepts(
        self, state: Search, value: Float[Tensor, "B"], gradient: Float[Tensor, "B n"]
    ) -> Bool[Tensor, "B"]:
        return state.value - value > self.least * state.promised

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        ratio = (state.value - value) / torch.where(state.posed, state.promised, torch.ones_like(value))
        grown = torch.where(state.scale > 0, (2 * state.size).clamp_max(self.most), state.size)
        middle = torch.where(better & (ratio > 0.75), grown, state.size)
        return torch.where(better & (ratio >= 0.25), middle, state.size / 4)
