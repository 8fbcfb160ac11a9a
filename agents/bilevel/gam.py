"""GAM: descent along the gradient of F(x, y*(x)) by the active constraints (Xu and Zhu 2023).

The lower problem is solved exactly, which is asked (``solution``). Constraints whose multiplier is larger
than ``active``, and equalities, are held to be equalities near y*(x); the implicit function theorem on the
conditions of Karush, Kuhn and Tucker then gives the gradient of Phi,

    H w + J' nu = F_y,   J w = 0,   grad Phi = F_x - L_xy w - J_x' nu,

with H and L_xy of the Lagrangian and J of the active constraints. H, which the method as published inverts
whole, is asked by products, of which conjugate gradients on the null space of J want as many as it has
dimensions at most. Where an active multiplier is 0 the formula is that of one side.

An iteration asks a solution, a gradient of F, a pullback a constraint where the geometry does not tell the
Jacobian, and the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.offer import Offer
from optenvs.core.struct import replace

from ..core import Observation, require
from ._implicit import ImplicitAgent, ImplicitState
from ._levels import check, refuse


@dataclass(frozen=True, eq=False)
class GAM(ImplicitAgent):
    """GAM with exact lower solutions.

    Args:
        active: the multiplier above which an inequality is held to be active, >= 0; the published one.
        alpha: the constant step of x, the published script's for an SVM (0.05 in another's): a number, or a
            tensor ``(B,)``; ``None`` for one that adapts itself.
        first, accuracy, products: see :class:`agents.bilevel._implicit.ImplicitAgent`.
    """

    alpha: float | Float[Tensor, "B"] | None = 0.03
    active: float = 1e-5

    needs = ("upper_gradient", "product", "solution")
    takes = ("equations", "inequalities")
    asked_below = "solution"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "active", 0 <= self.active < float("inf"), "a number >= 0")

    def admit(self, problem: Any) -> Offer:
        offer = check(self, problem)
        refuse(self, problem, many=True, bounded=True, batches=True)
        return offer

    def below(self, state: ImplicitState, seen: Observation) -> tuple[ImplicitState, Bool[Tensor, "B"]]:
        y, multipliers = seen["solution"].tensor_split((state.y.shape[1],), -1)
        active = state.geometry.equal | (multipliers > self.active)
        return replace(state, y=y, multipliers=multipliers, active=active), torch.ones_like(state.failed)
