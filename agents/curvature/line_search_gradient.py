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

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import require
from ._metric import dot
from ._trial import Proposal, Search, TrialAgent


@dataclass(frozen=True, eq=False)
class LineSearchGradient(TrialAgent):
    """Gradient steps of searched length.

    Args:
        L: the first constant, a number or one an instance ``(B,)``.
        least: the least constant after an accepted step.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    patience: int = 30
    L: float | Float[Tensor, "B"] = 1.0
    least: float = 1e-5

    needs = ("value", "gradient")
    slopes = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "L", bool((torch.as_tensor(self.L) > 0).all()), "a number > 0")
        require(self, "least", self.least > 0, "a number > 0")

    def first_size(self) -> float | Tensor:
        return self.L

    def propose(
        self, state: Search, ready: Bool[Tensor, "B"], norm: Float[Tensor, "B"], answered: Bool[Tensor, "B"]
    ) -> Proposal:
        step = -state.metric.raised(state.gradient) / state.size.unsqueeze(-1)
        promised = -dot(state.gradient, step) - state.size / 2 * state.metric.norm(step) ** 2
        return Proposal(step, state.size, promised, step.isfinite().all(-1))

    def accepts(
        self, state: Search, value: Float[Tensor, "B"], gradient: Float[Tensor, "B n"]
    ) -> Bool[Tensor, "B"]:
        return value <= state.value - state.promised

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        return torch.where(better, (state.size / 2).clamp_min(self.least), 2 * state.size)
