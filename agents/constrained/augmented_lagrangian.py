"""The augmented Lagrangian method (Hestenes 1969, Powell 1969), with inexact Newton steps on its subproblems.

As Hong, Na, Mahoney and Kolar (2023) compare with it:

    minimise  f + multipliers'c + mu/2 |c|^2  over x  until its gradient is at most tau:
        GMRES until |W dx + gradient| <= accuracy |gradient|,   W = the Hessian, shifted so that its least
                                                                eigenvalue is 1
        x <- x + a dx, by Armijo's rule
    multipliers <- multipliers + mu c,   mu <- 1.5 mu,   tau <- 0.1 tau

The gradient is grad_x L at the multipliers + mu c, and the Hessian that of L there, plus mu G'G: there it
asks the derivatives, once a step. A trial asks value and constraints. Products with W and factorisations
(exact solves) are on its own ledger; unless ``solve`` is ``exact`` it computes on the host.

A subproblem need not have a minimum, and nothing in the method sees to it: HS40's has none for any mu (x_4 =
s, x_2 = s^2, x_1 = -(s^4 - 1)^(1/3), x_3 = x_1^2 s + x_1 s^3 / mu: to leading order -s^(26/3) / (2 mu)). From
its published start the first steps leave the valley of the solution, and the run gives up after ``steps``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import replace, struct

from ..asking import Notes
from ..core import require
from ._l1 import call, inner
from ._rows import cat
from ._search import Direction, LineSearch, SearchState
from ._system import dot, eigenvalues
from .gmres import length_of, times

SOLVES = ("gmres", "exact")


@struct
class Outer:
    """The subproblem.

    Attributes:
        mu: the penalty, ``(B,)``.
        tau: the gradient's norm at which it is solved, ``(B,)``.
        rounds: subproblems solved, ``(B,)``.
        steps: Newton steps in this one, ``(B,)``.
    """

    mu: Float[Tensor, "B"]
    tau: Float[Tensor, "B"]
    rounds: Int64[Tensor, "B"]
    steps: Int64[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class AugmentedLagrangian(LineSearch):
    """The augmented Lagrangian method; the defaults are the authors' for CUTEst.

    Args:
        tolerance: |(grad_x L, c)|, after a subproblem, at which it finishes by itself (the authors':
            1e-4). By default it leaves that to the problem, and goes on as far as rounding lets it.
        solve: ``gmres`` or ``exact``.
        products: those of one call of GMRES. The authors': 1 in the PDE problem.
        accuracy: of GMRES, relative.
        mu, tau: at the beginning.
        grow, shrink: their factors.
        steps: the most Newton steps of a subproblem, after which it gives up. The authors': 1000 in the PDE
            problem.
        armijo: of the line search.
    """

    solve: str = "gmres"
    products: int = 2
    accuracy: float = 1e-4
    mu: float = 1.0
    tau: float = 0.1
    grow: float = 1.5
    shrink: float = 0.1
    steps: int = 100

    tried: ClassVar[tuple[str, ...]] = ("value", "constraints")
    counts = ("products", "factorisations")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "solve", self.solve in SOLVES, " or ".join(SOLVES))
        for field in ("products", "steps"):
            value = getattr(self, field)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(self, field, whole, "a whole number >= 1")
        for field in ("accuracy", "mu", "tau"):
            require(self, field, getattr(self, field) > 0, "a number > 0")
        require(self, "grow", self.grow >= 1, "a number >= 1")
        require(self, "shrink", 0 < self.shrink <= 1, "a number in (0, 1]")

    @property
    def on_host(self) -> bool:  # type: ignore[override]
        return self.solve != "exact"

    def begin(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Outer:
        one = torch.ones_like(multipliers[:, 0])
        none = one.long() * 0
        return Outer(self.mu * one, self.tau * one, none, none)

    def asked_at(self, state: SearchState) -> Float[Tensor, "B m"]:
        return state.multipliers + state.own.mu.unsqueeze(-1) * state.notes["constraints"]

    def settled(self, state: SearchState) -> Bool[Tensor, "B"]:
        return (state.own.rounds == 0) & (state.own.steps == 0)  # later `direction` sees to it

    def merit(self, state: SearchState, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        c = state.notes["constraints"]
        return state.notes["value"].squeeze(-1) + dot(multipliers + state.own.mu.unsqueeze(-1) / 2 * c, c)

    def direction(self, state: SearchState, ready: Bool[Tensor, "B"]) -> Direction:
        notes, own, new = state.notes, state.own, self.asked_at(state)
        c, G = notes["constraints"], notes["jacobian"]
        gradient = notes["gradient"] + times(G.mT, new)
        solved = length_of(gradient) <= own.tau
        W = notes["hessian"] + own.mu[:, None, None] * (G.mT @ G)
        shift = 1 - eigenvalues(W)[:, :1]
        W = W + torch.diag_embed(shift.expand_as(gradient))
        dx, products, capped = self._solved(W, -gradient, ready & ~solved)
        ended = ~solved & (own.steps >= self.steps)
        ended = ended | (solved & (length_of(torch.cat((gradient, c), -1)) <= self.tolerance))
        return Direction(
            z=cat(dx, torch.zeros_like(new)),
            merit=self.merit(state, state.multipliers),
            slope=dot(gradient, dx),
            own=replace(
                own,
                mu=torch.where(solved, own.mu * self.grow, own.mu),
                tau=torch.where(solved, own.tau * self.shrink, own.tau),
                rounds=own.rounds + solved,
                steps=torch.where(solved, 0, own.steps + 1),
            ),
            singular=None,
            capped=capped,
            work={"products": products, "factorisations": (~solved & (self.solve == "exact")).long()},
            multipliers=new,
            moved=solved,
            ended=ended,
        )

    def _solved(
        self, W: Float[Tensor, "B n n"], b: Float[Tensor, "B n"], going: Bool[Tensor, "B"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """dx, the products made, and where GMRES has stopped short of its accuracy."""
        found = inner(b, self.products)
        if self.solve == "exact":
            dx, info = torch.linalg.solve_ex(W, b.unsqueeze(-1))
            dx = torch.where((info == 0).unsqueeze(-1), dx.squeeze(-1), torch.nan)
            return dx, found.products, found.stuck
        aim = self.accuracy * length_of(b)
        while bool(going.any()):
            found = call(found, W, b, going)
            going = going & (length_of(found.residual) > aim) & ~found.stuck
        return found.z, found.products, length_of(found.residual) > aim
