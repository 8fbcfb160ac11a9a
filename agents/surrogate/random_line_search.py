"""Line searches in random directions, a baseline of Bouchet and Vidal (2025).

An iteration tries, until one point is better, x + t r d for two random directions d of maximum norm 1 and
t = 1.1, 1, 1/1.1. After a success r is t r. After more than n + 1 failures in a row each failure divides r
by 1.3. It ends, and asks nothing more, when r is at its least value.
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
from ._geometry import unit_inf
from ._queries import Incumbent, check_factors, check_radii, first, improved, known, query


@struct
class LineSearchState:
    """The memory of the search.

    Attributes:
        problem: what the agent knows.
        keys: of the random draws, ``(B,)``.
        best: the incumbent.
        radius: ``(B,)``.
        turn: iterations so far, ``(B,)``.
        failures: those in a row, ``(B,)``.
        place: how far the trial points of this iteration are asked, ``(B,)``; -1 before the first.
        finished: whether the search is over, ``(B,)``.
    """

    problem: Any
    keys: Keys
    best: Incumbent
    radius: Float[Tensor, "B"]
    turn: Int64[Tensor, "B"]
    failures: Int64[Tensor, "B"]
    place: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class RandomLineSearch(Agent):
    """Random line searches. The defaults are those of the paper's bio-diesel problem.

    Args:
        radius: the first radius.
        limits: the least and the largest radius.
        directions: the number of directions of an iteration.
        multipliers: of the radius, in the order of the trials.
        shrink: the factor by which the radius shrinks.
    """

    radius: float = 1e-3
    limits: tuple[float, float] = (1e-6, 0.1)
    directions: int = 2
    multipliers: tuple[float, ...] = (1.1, 1.0, 1 / 1.1)
    shrink: float = 1.3

    needs = ("value", "poll")

    def __post_init__(self) -> None:
        check_radii(self, "limits")
        check_factors(self, "shrink")
        require(self, "directions", self.directions >= 1, "a whole number >= 1")
        multipliers = self.multipliers
        require(self, "multipliers", multipliers and min(multipliers) > 0, "one or more numbers > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LineSearchState:
        best, zero = first(observation), torch.zeros_like(keys)
        return LineSearchState(
            problem=known(self, problem),
            keys=keys,
            best=best,
            radius=torch.full_like(best.value, self.radius),
            turn=zero,
            failures=zero,
            place=zero - 1,
            finished=zero > 0,
        )

    def act(self, state: LineSearchState, observation: Observation) -> tuple[Action, LineSearchState]:
        count = self.directions * len(self.multipliers)
        lengths = torch.tensor(self.multipliers, dtype=state.radius.dtype, device=state.radius.device)
        room, size = observation["point"].shape[1:]
        asked = (state.place >= 0) & ~state.finished
        found, index, best = improved(observation, state.best)
        found = found & asked
        lost = asked & ~found & (state.place + room >= count)
        used = lengths[(state.place + index).clamp_min(0) % len(lengths)]
        low, high = self.limits
        radius = torch.where(found, (state.radius * used).clamp(low, high), state.radius)
        failures = torch.where(found, 0, state.failures + lost.long())
        stalled = lost & (failures > size + 1)
        radius = torch.where(stalled, (radius / self.shrink).clamp_min(low), radius)
        over = found | lost
        state = replace(
            state,
            best=best,
            radius=radius,
            turn=state.turn + over.long(),
            failures=failures,
            place=torch.where(over | ~asked, 0, state.place + room),
            finished=state.finished | (over & (radius <= low)),
        )
        drawn = unit_inf(state.keys, "line", state.turn, best.point, self.directions)
        steps = drawn.unsqueeze(2) * lengths[:, None] * radius[:, None, None, None]
        trials = best.point.unsqueeze(1) + steps.flatten(1, 2)
        end = torch.where(state.finished, 0, count)
        return query(state.problem, observation, best, trials, state.place, end), state
