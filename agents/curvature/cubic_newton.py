"""Cubic regularisation of Newton's method (Nesterov, Polyak 2006), with a search of its constant.

    h = argmin g'h + h'Hh/2 + (M/6) ||h||^3
    x, M <- x + h, max(M / 2, least)          where f(x + h) <= f(x) + the model's value
    M <- 2 M                                  elsewhere

H may be indefinite. A trial asks a value; gradient and Hessian are asked at an accepted point only. The
method has finished where the promised decrease is below the rounding of f.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from ._solve import cubic, of_rows
from ._trial import ConstantAgent, Proposal, Search, invisible


@dataclass(frozen=True, eq=False)
class CubicNewton(ConstantAgent):
    """Steps of the cubic model.

    Args:
        M: the first constant, a number or one an instance ``(B,)``.
        least: the least constant after an accepted step.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    M: float | Float[Tensor, "B"] = 1.0

    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        parts = state.notes["hessian"], state.metric, state.size, state.gradient
        step, model, good = of_rows(ready, cubic, *parts)
        scale = state.size * state.metric.norm(step) / 2
        return Proposal(step, scale, -model, good, systems=1, lost=~good | invisible(state, -model))
