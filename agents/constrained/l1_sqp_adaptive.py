"""Adaptive l1 SQP: Newton's steps by GMRES, and a penalty and an accuracy that follow the model's reduction.

The comparison method of Hong, Na, Mahoney and Kolar (2023). One round, with norms |.|_1, from z = 0 (see
:mod:`._l1` for the model):

    call GMRES until |A z - b| <= kappa |b|
    while reduction < sigma mu max(|c|, |G dx + c| - |c|), at most until mu > 1e8:
        mu <- nu mu, kappa <- kappa / nu^2, and go on
    x, multipliers <- x, multipliers + a z, by Armijo's rule on f + mu |c|

mu and kappa persist. A trial asks value and constraints, an accepted point the derivatives. It computes on
the host; products with A and reductions of the Hessian to the null space are on its own ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import select, struct

from ..asking import Notes
from ..core import require
from ._l1 import MOST, L1Search, call, inner, model, one_norm
from ._search import Direction, SearchState


@struct
class Adapted:
    """What persists: the penalty ``mu`` and the accuracy ``kappa``, ``(B,)`` each."""

    mu: Float[Tensor, "B"]
    kappa: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class L1SqpAdaptive(L1Search):
    """Adaptive l1 SQP; the defaults are the authors' for CUTEst.

    Args:
        tolerance: |(grad_x L, c)| at which it finishes by itself (the authors': 1e-4). By default it leaves
            that to the problem, and goes on as far as rounding lets it.
        products: those of one call of GMRES. The authors': 10 in logistic regression, 1 in the PDE problem.
        mu, kappa: at the beginning.
        nu: how they change.
        sigma: the share of the infeasibility by which the model must fall.
        armijo: of the line search.
        xi, reduced: the Hessian's modification, see :class:`agents.AdaSketchNewton`.
        singular: the least eigenvalue of G G' with which it goes on. The authors': 1e-2 in the other
            problems.
    """

    kappa: float = 0.1
    nu: float = 1.5
    sigma: float = 0.09

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "kappa", self.kappa > 0, "a number > 0")
        require(self, "nu", self.nu > 1, "a number > 1")
        require(self, "sigma", 0 < self.sigma < 1, "a number in (0, 1)")

    def begin(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Adapted:
        one = torch.ones_like(multipliers[:, 0])
        return Adapted(self.mu * one, self.kappa * one)

    def direction(self, state: SearchState, ready: Bool[Tensor, "B"]) -> Direction:
        at, own = self.system(state), state.own
        gradient, size = state.notes["gradient"], one_norm(at.b)
        singular = at.dependent(self.singular)
        found, going = inner(at.b, self.products), ready & ~singular
        capped = torch.zeros_like(ready)
        while bool(going.any()):
            short = going & (one_norm(found.residual) > own.kappa * size) & ~found.stuck
            if bool(short.any()):
                found = call(found, at.A, at.b, short)
                continue
            going = going & ~(model(at, gradient, found.z).enough(own.mu, self.sigma) | (own.mu > MOST))
            capped = capped | (going & found.stuck)
            going = going & ~found.stuck
            own = select(going, Adapted(own.mu * self.nu, own.kappa / self.nu**2), own)
        return Direction(
            z=found.z,
            merit=self.penalised(state.notes, own.mu),
            slope=model(at, gradient, found.z).slope(own.mu),
            own=own,
            singular=singular,
            capped=capped,
            work=self.work(at, found),
        )
