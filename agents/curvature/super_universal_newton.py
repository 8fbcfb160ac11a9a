"""The super-universal Newton method (Doikov, Mishchenko, Nesterov 2024).

    h = -(H + lambda B)^-1 g,     lambda = M ||g||_*^alpha
    x, M <- x + h, max(M / 4, least)          where <g(x + h), -h> >= ||g(x + h)||_*^2 / (4 lambda)
    M <- 4 M                                  elsewhere, and where H + lambda B is not positive definite

The test reads the gradient alone; the value is asked with it, since a point without a value passes no test.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from ..core import require
from ._metric import dot
from ._trial import ConstantAgent, Proposal, Search, Trial, damped


@dataclass(frozen=True, eq=False)
class SuperUniversalNewton(ConstantAgent):
    """Newton steps regularised by M ||g||^alpha, with a search of M.

    Args:
        alpha: the power, in [0, 1]; 1, 2/3, 1/2 and 0 are in use. In terms of gradient-normalized smoothness
            gamma is ||g||_*^(1 - alpha) / M.
        M: the first factor, a number or one an instance ``(B,)``.
        least: the least factor after an accepted step.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    alpha: float = 1.0
    M: float | Float[Tensor, "B"] = 1.0

    slopes = True
    factor = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", 0 <= self.alpha <= 1, "a number in [0, 1]")

    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        return damped(state, ready, state.size * state.norm**self.alpha)

    def accepts(self, state: Search, trial: Trial) -> Bool[Tensor, "B"]:
        return -dot(trial.gradient, state.step) >= trial.norm**2 / (4 * state.scale)
