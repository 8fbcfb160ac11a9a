"""Attacks alone, a baseline of Bouchet and Vidal (2025).

An iteration tries the attack (FGSM, see ``_attack``) of radius 1.1 r and, where that is not better, of
radius r. After a success r is the radius used, after a failure it is divided by 1.5. It ends, and asks
nothing more, when a failure leaves r below its least value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation, require
from ._attack import LOSSES, cotangent
from ._queries import Incumbent, check_factors, check_radii, first, improved, known, query


@struct
class AttackState:
    """The memory of the attacks.

    Attributes:
        problem: what the agent knows.
        best: the incumbent.
        radius: ``(B,)``.
        offset: the signs of the attack at the incumbent, ``(B, n)``.
        ready: whether ``offset`` is known; else the query asks for the product, ``(B,)``.
        place: how far the radii of this iteration are tried, ``(B,)``.
        begun: whether this memory has asked anything, ``(B,)``.
        finished: whether the attacks are over, ``(B,)``.
    """

    problem: Any
    best: Incumbent
    radius: Float[Tensor, "B"]
    offset: Float[Tensor, "B n"]
    ready: Bool[Tensor, "B"]
    place: Int64[Tensor, "B"]
    begun: Bool[Tensor, "B"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class AttackOnly(Agent):
    """Attacks alone. The defaults are those of the paper's bio-diesel problem.

    Args:
        radius: the first radius.
        limits: the least and the largest radius.
        loss: ``linear``, the steepest step of the maximum norm; ``ce``, the authors' cross entropy.
        multipliers: of the radius, in the order of the trials.
        shrink: the factor by which the radius shrinks after a failure.
    """

    radius: float = 1e-3
    limits: tuple[float, float] = (1e-6, 1.0)
    loss: str = "linear"
    multipliers: tuple[float, ...] = (1.1, 1.0)
    shrink: float = 1.5

    needs = ("value", "poll", "vjp")

    def __post_init__(self) -> None:
        check_radii(self, "limits")
        check_factors(self, "shrink")
        require(self, "loss", self.loss in LOSSES, " or ".join(LOSSES))
        multipliers = self.multipliers
        require(self, "multipliers", multipliers and min(multipliers) > 0, "one or more numbers > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AttackState:
        best, zero = first(observation), torch.zeros_like(keys)
        return AttackState(
            problem=known(self, problem),
            best=best,
            radius=torch.full_like(best.value, self.radius),
            offset=torch.zeros_like(best.point),
            ready=zero > 0,
            place=zero,
            begun=zero > 0,
            finished=zero > 0,
        )

    def act(self, state: AttackState, observation: Observation) -> tuple[Action, AttackState]:
        count, room = len(self.multipliers), observation["point"].shape[1]
        tried = state.ready & ~state.finished
        found, index, best = improved(observation, state.best)
        found = found & tried
        lost = tried & ~found & (state.place + room >= count)
        used = self._radii(state.radius).gather(1, (state.place + index).clamp(0, count - 1).unsqueeze(-1))
        radius = torch.where(found, used.squeeze(-1), state.radius)
        radius = torch.where(lost, radius / self.shrink, radius)
        product = state.begun & ~state.ready
        offset = torch.where(product.unsqueeze(-1), observation["vjp"].sign(), state.offset)
        # the product at a point that stays is known
        ready = product | (state.ready & ~found)
        state = replace(
            state,
            best=best,
            radius=radius,
            offset=offset,
            ready=ready,
            place=torch.where(tried & ~found & ~lost, state.place + room, 0),
            begun=torch.ones_like(state.begun),
            finished=state.finished | (lost & (radius < self.limits[0])),
        )
        trials = best.point.unsqueeze(1) + self._radii(radius).unsqueeze(-1) * offset.unsqueeze(1)
        along = cotangent(state.problem.slope(best.outputs), state.problem.active, self.loss)
        along = torch.where((ready | state.finished).unsqueeze(-1), 0.0, along)
        end = torch.where(ready & ~state.finished, count, 0)
        return query(state.problem, observation, best, trials, state.place, end, along=along), state

    def _radii(self, radius: Float[Tensor, "B"]) -> Float[Tensor, "B m"]:
        lengths = torch.tensor(self.multipliers, dtype=radius.dtype, device=radius.device)
        low, high = self.limits
        return (radius.unsqueeze(-1) * lengths).clamp(low, high)
