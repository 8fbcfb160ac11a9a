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
from optenvs.core.struct import static, struct

from ..core import Agent, Observation, require
from ._levels import check, rate, require_numbers, start_of


@struct
class HypergradientState:
    """Where an instance stands.

    Attributes:
        x, slope: the point asked last and the hypergradient of the one before it, with ``last``, that one.
        last: the point before it, ``(B, n)``.
        step: the last step size, ``(B, 1)``; 0 before there is one.
        ratio: of the last two, ``(B, 1)``.
        fixed: the constant step, ``(B, 1)``; 0 without one.
        geometry: the problem's.
        work: ``projections`` onto X.
        finished: rows whose x rounding alone moves, and whose y belongs to it, ``(B,)``.
        offer: what can be asked.
    """

    x: Float[Tensor, "B n"]
    last: Float[Tensor, "B n"]
    slope: Float[Tensor, "B n"]
    step: Float[Tensor, "B 1"]
    ratio: Float[Tensor, "B 1"]
    fixed: Float[Tensor, "B 1"]
    geometry: Any
    work: Ledger
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

    def __post_init__(self) -> None:
        require_numbers(self, "alpha", lambda v: v > 0, "a number > 0", none=True)
        require(self, "first", 0 < self.first < float("inf"), "a number > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> HypergradientState:
        offer, (x, _) = check(self, problem), start_of(observation)
        zero = torch.zeros_like(x[:, :1])
        x = problem.geometry.upper(x)
        return HypergradientState(
            x=x,
            last=x,
            slope=torch.zeros_like(x),
            step=zero,
            ratio=zero,
            fixed=rate(self, "alpha", x, lambda: zero),
            geometry=problem.geometry,
            work=Ledger.empty(("projections",), len(keys), keys.device).bill({"projections": 1}),
            finished=torch.zeros_like(keys, dtype=torch.bool),
            offer=offer,
        )

    def act(self, state: HypergradientState, observation: Observation) -> tuple[Action, HypergradientState]:
        y, slope, x = observation["y"], observation["hypergradient"], state.x
        answered = observation["answered"][:, state.offer.kinds.index("hypergradient")].unsqueeze(-1) > 0
        step, ratio = self._step(state, slope)
        moved = state.geometry.upper(x - step * slope)
        solution = observation["solution"][:, : y.shape[1]]
        least = 4 * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rests = answered & (torch.linalg.vector_norm(moved - x, dim=-1, keepdim=True) <= least)
        after = HypergradientState(
            x=torch.where(answered, moved, x),
            last=torch.where(answered, x, state.last),
            slope=torch.where(answered, slope, state.slope),
            step=torch.where(answered, step, state.step),
            ratio=torch.where(answered, ratio, state.ratio),
            fixed=state.fixed,
            geometry=state.geometry,
            work=state.work.bill({"projections": answered.squeeze(-1).long()}),
            # asked once more, the pair (x, y*(x)) is the one recommended
            finished=rests.squeeze(-1)
            & (torch.linalg.vector_norm(y - solution, dim=-1) <= least.squeeze(-1)),
            offer=state.offer,
        )
        y = torch.where(answered, solution, y)
        action = state.offer.query({"hypergradient": True, "solution": True}, x=after.x, y=y)
        return action, after

    def _step(self, state: HypergradientState, slope: Tensor) -> tuple[Float[Tensor, "B 1"], Tensor]:
        """The step now and its ratio to the last one."""
        before, begun = state.step, state.step > 0
        moved = torch.linalg.vector_norm(state.x - state.last, dim=-1, keepdim=True)
        turned = torch.linalg.vector_norm(slope - state.slope, dim=-1, keepdim=True)
        grown = (1 + state.ratio).sqrt() * before
        curved = torch.where(turned > 0, moved / (2 * turned.clamp_min(torch.finfo(slope.dtype).tiny)), grown)
        adapted = torch.where(begun, torch.minimum(grown, curved), self.first)
        # where it has not moved, nothing is learnt of the curvature
        adapted = torch.where(begun & (moved == 0), before, adapted)
        step = torch.where(state.fixed > 0, state.fixed, adapted)
        return step, torch.where(begun, step / torch.where(begun, before, 1.0), torch.ones_like(step))
