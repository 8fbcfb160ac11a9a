"""The gradient method with a search of the gradient's Lipschitz constant (Nesterov 2013).

    T = x - B^-1 g / L
    x, L <- T, max(L / 2, least)              where f(T) <= f(x) + g'(T - x) + (L/2) ||T - x||^2
    L <- 2 L                                  elsewhere

B is the problem's metric; with B = A'A it is the method that Semenov, Jaggi and Doikov (2025) plot as
Gauss-Newton's. Where the problem is asked by a menu, a trial asks a value, and a gradient is asked at an
accepted point only.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from ._metric import dot
from ._trial import ConstantAgent, Proposal, Search


@dataclass(frozen=True, eq=False)
class LineSearchGradient(ConstantAgent):
    """Gradient steps of searched length.

    Args:
        L: the first constant, a number or one an instance ``(B,)``.
        least: the least constant after an accepted step.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    patience: int = 30
    L: float | Float[Tensor, "B"] = 1.0

    needs = ("value", "gradient")
    constant = "L"

    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        step = -state.metric.raised(state.gradient) / state.size.unsqueeze(-1)
        promised = -dot(state.gradient, step) - state.size / 2 * state.metric.norm(step) ** 2
        return Proposal(step, state.size, promised, step.isfinite().all(-1))
