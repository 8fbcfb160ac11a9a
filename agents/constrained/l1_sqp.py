"""Inexact l1 SQP (Byrd, Curtis and Nocedal 2008): Newton's steps by GMRES, with two tests of when to stop.

As Hong, Na, Mahoney and Kolar (2023) compare with it. One round, with norms |.|_1, r = A z - b in its parts
r_x and r_c, from z = 0 (see :mod:`._l1` for the model); call GMRES until

    test 1:  |r| <= kappa |b|,  |r_c| <= max(kappa1 |grad_x L|, beta |c|),
             and reduction >= sigma mu max(|c|, |G dx + c| - |c|);  or
    test 2:  |r_x| <= epsilon |c|,  |r_c| <= beta |c|

    where the reduction is less than that after test 2,
        mu <- max(mu, (grad f'dx + max(dx'B dx / 2, 0)) / ((1 - tau) (|c| - |G dx + c|))) + 1e-4
    x, multipliers <- x, multipliers + a z, by Armijo's rule on f + mu |c|

with sigma = tau (1 - epsilon) and beta = max(1, |grad_x L| / (|c| + 1)) at the start. (The published code
takes one entry of r_c in test 1.) mu persists. A trial asks value and constraints, an accepted point the
derivatives. It computes on the host; products with A and reductions of the Hessian to the null space are on
its own ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import replace, struct

from ..asking import Notes
from ..core import require
from ._l1 import L1Search, Model, call, inner, model, one_norm
from ._search import Direction, SearchState
from ._system import System
from .gmres import times


@struct
class Penalty:
    """What persists: the penalty ``mu``, and ``beta`` of the tests, ``(B,)`` each."""

    mu: Float[Tensor, "B"]
    beta: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class L1Sqp(L1Search):
    """Inexact l1 SQP; the defaults are the authors' for CUTEst.

    Args:
        tolerance: |(grad_x L, c)| at which it finishes by itself (the authors': 1e-4). By default it leaves
            that to the problem, and goes on as far as rounding lets it.
        products: those of one call of GMRES. The authors': 10 in logistic regression, 7 in the PDE problem.
        mu: the penalty at the beginning.
        kappa, kappa1, epsilon, tau: of the tests.
        armijo: of the line search.
        xi, reduced: the Hessian's modification, see :class:`agents.AdaSketchNewton`.
        singular: the least eigenvalue of G G' with which it goes on. The authors': 1e-2 in the other
            problems.
    """

    kappa: float = 1.0
    kappa1: float = 0.1
    epsilon: float = 0.1
    tau: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("kappa", "kappa1"):
            require(self, field, getattr(self, field) > 0, "a number > 0")
        for field in ("epsilon", "tau"):
            require(self, field, 0 < getattr(self, field) < 1, "a number in (0, 1)")

    def begin(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Penalty:
        slope = notes["gradient"] + times(notes["jacobian"].mT, multipliers)
        beta = (one_norm(slope) / (one_norm(notes["constraints"]) + 1)).clamp_min(1)
        return Penalty(torch.full_like(beta, self.mu), beta)

    def direction(self, state: SearchState, ready: Bool[Tensor, "B"]) -> Direction:
        at, mu, sigma = self.system(state), state.own.mu, self.tau * (1 - self.epsilon)
        gradient = state.notes["gradient"]
        singular = at.dependent(self.singular)
        found, going = inner(at.b, self.products), ready & ~singular
        capped = torch.zeros_like(ready)
        while bool(going.any()):
            found = call(found, at.A, at.b, going)
            said = model(at, gradient, found.z)
            passed = self._passed(at, said, found.residual, mu, state.own.beta)
            capped = capped | (going & ~passed & found.stuck)
            going = going & ~passed & ~found.stuck
        said = model(at, gradient, found.z)
        needed = (said.descent + said.curved) / ((1 - self.tau) * (said.before - said.after))
        mu = torch.where(said.enough(mu, sigma), mu, torch.fmax(mu, needed) + 1e-4)
        return Direction(
            z=found.z,
            merit=self.penalised(state.notes, mu),
            slope=said.slope(mu),
            own=replace(state.own, mu=mu),
            singular=singular,
            capped=capped,
            work=self.work(at, found),
        )

    def _passed(
        self,
        at: System,
        said: Model,
        residual: Float[Tensor, "B N"],
        mu: Float[Tensor, "B"],
        beta: Float[Tensor, "B"],
    ) -> Bool[Tensor, "B"]:
        """Whether one of the two tests says that GMRES has done enough."""
        upper, lower = map(one_norm, at.parts(residual))
        first = (upper + lower <= self.kappa * one_norm(at.b)) & said.enough(
            mu, self.tau * (1 - self.epsilon)
        )
        first = first & (lower <= torch.maximum(self.kappa1 * one_norm(at.slope), beta * said.before))
        return first | ((upper <= self.epsilon * said.before) & (lower <= beta * said.before))
