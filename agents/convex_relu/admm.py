"""The method of multipliers on the convex program of rectified units (arXiv 2201.01965, Algorithm 3.1).

    u <- argmin l(F u) + rho/2 |u - v + lam|^2 + rho/2 |G u - s + nu|^2      exactly, by one n x n solve
    v <- prox of beta/rho times the norms, at u + lam;   s <- (G u + nu)_+
    lam <- lam + g/rho (u - v),   nu <- nu + g/rho (G u - s)

An iteration asks the objective at v. The data are public: what it computes with them, products with X and its
transpose (``columns``, n d operations each) and n x n solves, is on its own ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.ledger import Ledger
from optenvs.core.struct import struct
from optenvs.models.relu import Gated
from optenvs.models.relu_admm import Factors, Split, advanced, exact, factored, residual, zero

from ..core import Agent, Observation, require
from ._program import asked, program


@struct
class Memory:
    """Memory of :class:`ADMM`.

    Attributes:
        program: the data.
        factors: of the u step.
        at: the iterate.
        finished: rows whose residual is at most the tolerance, ``(B,)``.
        work: columns multiplied and systems solved.
    """

    program: Gated
    factors: Factors
    at: Split
    finished: Bool[Tensor, "B"]
    work: Ledger


@dataclass(frozen=True, eq=False)
class ADMM(Agent):
    """The method of multipliers with exact u steps; of the squared loss.

    Args:
        rho: the penalty; ``None`` for beta, about which it is best.
        ratio: g / rho, the multipliers' step: 1 is the ordinary method.
        tolerance: max(|u - v|, |G u - s|) at which it finishes by itself; 0 leaves that to the problem.
    """

    rho: float | None = None
    ratio: float = 1.0
    tolerance: float = 0.0

    needs = ("value", "violation")

    def __post_init__(self) -> None:
        require(self, "rho", self.rho is None or 0 < self.rho < float("inf"), "a number > 0 or None")
        require(self, "ratio", 0 < self.ratio <= 1, "a number in (0, 1]")
        require(self, "tolerance", 0 <= self.tolerance < float("inf"), "a number >= 0")

    def init(self, problem: Any, observation: Observation, keys: Tensor) -> Memory:
        known = program(type(self).__name__, problem, ("squared",))
        work = Ledger.empty(("columns", "systems"), len(keys), keys.device)
        none = torch.zeros_like(keys, dtype=torch.bool)
        return Memory(known, factored(known, self._penalty(known)), zero(known), none, work)

    def _penalty(self, known: Gated) -> Float[Tensor, "B"]:
        return known.beta if self.rho is None else torch.full_like(known.beta, self.rho)

    def act(self, state: Memory, observation: Observation) -> tuple[dict[str, Tensor], Memory]:
        known, rho = state.program, self._penalty(state.program)
        u = exact(known, state.factors, state.at, rho)
        at = advanced(known, state.at, u, rho, torch.full_like(rho, self.ratio))
        P = known.D.shape[-1]
        action = asked(known, at.v, "value", "violation")
        finished = residual(known, at) <= self.tolerance if self.tolerance else state.finished
        work = state.work.bill({"columns": 7 * P, "systems": 1})  # G' 2, F' 1 and 1, F 1, G 2
        return action, Memory(known, state.factors, at, finished, work)
