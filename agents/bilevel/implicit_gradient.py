"""Approximate implicit differentiation with conjugate gradients (Pedregosa 2016; Ji, Yang and Liang 2021).

For lower problems that are smooth and strongly convex in y, without constraints or under equalities. From
where it was left, y makes ``steps`` steps of descent

    y <- P(y - eta grad_y f(x, y)),    P onto what is feasible at x;

conjugate gradients on products of the lower Hessian then solve, on the null space of the equalities'
Jacobian J by y,

    H w + J' nu = F_y,   J w = 0,   and   x <- P_X(x - alpha (F_x - L_xy w - J_x' nu)).

With equalities H and L_xy are of the Lagrangian at the multipliers that fit grad_y f best. An iteration asks
a lower gradient a step, a gradient of F (of f, too, under equalities), a pullback an equality where the
geometry does not tell their Jacobian, and a product a step of the solve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.offer import Offer
from optenvs.core.struct import replace

from ..core import Observation
from ._implicit import ImplicitAgent, ImplicitState
from ._levels import check, constants, constrained, rate, refuse, require_numbers, split
from ._stages import require_whole


@dataclass(frozen=True, eq=False)
class ImplicitGradient(ImplicitAgent):
    """Descent along hypergradients from an inexact lower solution.

    Args:
        eta: the step of y: a number, or a tensor ``(B,)``; ``None`` for 1 / L_f, with the curvature that the
            problem tells.
        steps: those of y in a step of x, >= 1.
        alpha: a constant step of x: a number, or a tensor ``(B,)``; ``None`` for one that adapts itself.
        first, accuracy, products: see :class:`agents.bilevel._implicit.ImplicitAgent`.
    """

    eta: float | Float[Tensor, "B"] | None = None
    steps: int = 10

    needs = ("lower_gradient", "upper_gradient", "product")
    takes = ("equations",)
    asked_below = "lower_gradient"
    also = ("lower_gradient",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_numbers(self, "eta", lambda v: (v > 0) & v.isfinite(), "a finite number > 0", none=True)
        require_whole(self, "steps")

    def admit(self, problem: Any) -> Offer:
        offer = check(self, problem)
        refuse(self, problem, many=True, inequalities=True, bounded=True, batches=True)
        if constrained(problem):
            check(self, problem, "feasible")
        return offer

    def lower_step(self, problem: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B 1"]:
        return rate(self, "eta", x, lambda: 1 / constants(self, "eta", problem, "lower"))

    def below(self, state: ImplicitState, seen: Observation) -> tuple[ImplicitState, Bool[Tensor, "B"]]:
        x, y = state.descent.x, state.y
        moved = y - state.lower_step * split(seen["lower_gradient"], x)[1]
        work = state.work.bill({"inner_steps": 1, "projections": 1})
        after = replace(state, y=state.geometry.feasible(x, moved), work=work)
        return after, state.count + 1 >= self.steps

    def held(self, state: ImplicitState) -> Float[Tensor, "B p"]:
        return state.constraints.multipliers(-split(state.lower, state.descent.x)[1])
