"""Gradient descent on Phi(x) = F(x, y*(x)) where the problem answers its exact gradient.

The step is that of Malitsky and Mishchenko (2020, algorithm 1), which needs no constants:
``s_k = min(sqrt(1 + s_{k-1} / s_{k-2}) s_{k-1}, |x_k - x_{k-1}| / (2 |h_k - h_{k-1}|))``, or a constant.
One query an iteration: the hypergradient at x_k and the lower solution there, which is recommended with
x_{k+1}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.offer import Offer
from optenvs.core.random import Keys
from optenvs.core.struct import select, static, struct

from ..core import Agent, Observation, require
from ._descent import Descent, rounding
from ._levels import check, rate, require_numbers, start_of


@struct
class HypergradientState:
    """Where an instance stands.

    Attributes:
        descent: the point asked last, the one before it with its hypergradient, and the step sizes.
        geometry: the problem's.
        work: ``projections`` onto X.
        asked: whether anything has been asked, ``(B,)``.
        finished: rows whose x rounding alone moves, and whose y belongs to it, or whose budget does not pay
            what they ask, ``(B,)``.
        offer: what can be asked.
    """

    descent: Descent
    geometry: Any
    work: Ledger
    asked: Bool[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    offer: Offer = static()


@dataclass(frozen=True, eq=False)
class Hypergradient(Agent):
    """Exact projected gradient descent on Phi.

    Args:
        alpha: a constant step: a number, or a tensor ``(B,)``; ``None`` for one that adapts itself.
        first: the first step where it adapts.
    """

    alpha: float | Float[Tensor, "B"] | None = None
    first: float = 1e-3

    needs = ("hypergradient", "solution")
    takes = ("equations", "inequalities")

    def __post_init__(self) -> None:
        require_numbers(self, "alpha", lambda v: v > 0, "a number > 0", none=True)
        require(self, "first", 0 < self.first < float("inf"), "a number > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> HypergradientState:
        offer, (x, _) = check(self, problem), start_of(observation)
        zero = torch.zeros_like(x[:, :1])
        return HypergradientState(
            descent=Descent.begin(problem.geometry.upper(x), rate(self, "alpha", x, lambda: zero)),
            geometry=problem.geometry,
            work=Ledger.empty(("projections",), len(keys), keys.device).bill({"projections": 1}),
            asked=torch.zeros_like(keys, dtype=torch.bool),
            finished=torch.zeros_like(keys, dtype=torch.bool),
            offer=offer,
        )

    def act(self, state: HypergradientState, observation: Observation) -> tuple[Action, HypergradientState]:
        y, descent = observation["y"], state.descent
        answered = observation["answered"][:, state.offer.kinds.index("hypergradient")] > 0
        moved, rests = descent.moved(observation["hypergradient"], state.geometry, self.first)
        solution = observation["solution"][:, : y.shape[1]]
        least = rounding(descent.x)
        after = HypergradientState(
            descent=select(answered, moved, descent),
            geometry=state.geometry,
            work=state.work.bill({"projections": answered.long()}),
            asked=torch.ones_like(state.asked),
            # asked once more, the pair (x, y*(x)) is the one recommended
            finished=(answered & rests & (torch.linalg.vector_norm(y - solution, dim=-1) <= least))
            | (state.asked & ~answered),  # the rest of the budget does not pay another one
            offer=state.offer,
        )
        y = torch.where(answered.unsqueeze(-1), solution, y)
        action = state.offer.query({"hypergradient": True, "solution": True}, x=after.descent.x, y=y)
        return action, after
