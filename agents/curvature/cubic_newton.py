"""Cubic regularisation of Newton's method (Nesterov, Polyak 2006), with a search of its constant.

    h = argmin g'h + h'Hh/2 + (M/6) ||h||^3
    x, M <- x + h, max(M / 2, least)          where f(x + h) <= f(x) + the model's value
    M <- 2 M                                  elsewhere

H may be indefinite. A trial asks a value; gradient and Hessian are asked at an accepted point only. The
method has finished where the promised decrease is below the rounding of f.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import require
from ._solve import cubic, of_rows
from ._trial import Proposal, Search, TrialAgent, invisible


@dataclass(frozen=True, eq=False)
class CubicNewton(TrialAgent):
    """Steps of the cubic model.

    Args:
        M: the first constant, a number or one an instance ``(B,)``.
        least: the least constant after an accepted step.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    M: float | Float[Tensor, "B"] = 1.0
    least: float = 1e-5

    slopes = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "M", bool((torch.as_tensor(self.M) > 0).all()), "a number > 0")
        require(self, "least", self.least > 0, "a number > 0")

    def first_size(self) -> float | Tensor:
        return self.M

    def propose(
        self, state: Search, ready: Bool[Tensor, "B"], norm: Float[Tensor, "B"], answered: Bool[Tensor, "B"]
    ) -> Proposal:
        parts = state.notes["hessian"], state.metric, state.size, state.gradient
        step, model, good = of_rows(ready, cubic, *parts)
        scale = state.size * state.metric.norm(step) / 2
        return Proposal(step, scale, -model, good, systems=1, lost=~good | invisible(state, -model))

    def accepts(
        self, state: Search, value: Float[Tensor, "B"], gradient: Float[Tensor, "B n"]
    ) -> Bool[Tensor, "B"]:
        return value <= state.value - state.promised

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        return torch.where(better, (state.size / 2).clamp_min(self.least), 2 * state.size)
