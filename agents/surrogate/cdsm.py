"""The covering direct-search method (Audet, Bouchet, Bourdin 2024), as in Bouchet and Vidal (2025).

An iteration tries, at the incumbent x, until one point is better:

    covering   one point within the covering radius
    search     one point at the distance min(r_max, r0 sqrt(s + 1)), s the number of searches so far
    poll       x +- r h_i / |h_i|_inf, h_i the rows of a random Householder matrix; 2n points

A success of the poll doubles r, its failure halves it; successes of the others leave r. It ends, and asks
nothing more, when r is at its least value.
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
from ._geometry import covering, householder, poll_both, unit_inf
from ._queries import Incumbent, check_factors, check_radii, first, improved, known, query


@struct
class CDSMState:
    """The memory of the search.

    Attributes:
        problem: what the agent knows.
        keys: of the random draws, ``(B,)``.
        best: the incumbent.
        radius: of the poll, ``(B,)``.
        turn: iterations so far, ``(B,)``.
        searches: searches so far, ``(B,)``.
        place: how far the trial points of this iteration are asked, ``(B,)``; -1 before the first.
        finished: whether the search is over, ``(B,)``.
    """

    problem: Any
    keys: Keys
    best: Incumbent
    radius: Float[Tensor, "B"]
    turn: Int64[Tensor, "B"]
    searches: Int64[Tensor, "B"]
    place: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class CDSM(Agent):
    """Covering direct search. The defaults are those of the paper's bio-diesel problem.

    Args:
        radius: r0, the first radius of the poll.
        limits: the least and the largest radius.
        covering_radius: of the covering; ``None`` for r0.
        official_covering: the distance of the authors' code, see :func:`agents.surrogate._geometry.covering`.
        grow, shrink: the factors of the radius after success and failure of the poll.
    """

    radius: float = 1e-3
    limits: tuple[float, float] = (1e-6, 0.1)
    covering_radius: float | None = None
    official_covering: bool = False
    grow: float = 2.0
    shrink: float = 2.0

    needs = ("value", "poll")

    def __post_init__(self) -> None:
        check_radii(self, "limits")
        check_factors(self, "grow", "shrink")
        require(self, "covering_radius", (self.covering_radius or 1.0) > 0, "a number > 0 or None")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> CDSMState:
        best, zero = first(observation), torch.zeros_like(keys)
        return CDSMState(
            problem=known(self, problem),
            keys=keys,
            best=best,
            radius=torch.full_like(best.value, self.radius),
            turn=zero,
            searches=zero,
            place=zero - 1,
            finished=zero > 0,
        )

    def act(self, state: CDSMState, observation: Observation) -> tuple[Action, CDSMState]:
        state = self._learn(state, observation)
        trials = self._trials(state)
        end = torch.where(state.finished, 0, trials.shape[1])
        return query(state.problem, observation, state.best, trials, state.place, end), state

    def _learn(self, state: CDSMState, observation: Observation) -> CDSMState:
        room, size = observation["point"].shape[1:]
        asked = (state.place >= 0) & ~state.finished
        found, index, best = improved(observation, state.best)
        found = found & asked
        lost = asked & ~found & (state.place + room >= 2 + 2 * size)
        rank = state.place + index  # 0: covering, 1: search, later: poll
        low, high = self.limits
        radius = torch.where(found & (rank > 1), (state.radius * self.grow).clamp_max(high), state.radius)
        radius = torch.where(lost, (radius / self.shrink).clamp_min(low), radius)
        over = found | lost
        return replace(
            state,
            best=best,
            radius=radius,
            turn=state.turn + over.long(),
            searches=state.searches + (lost | (found & (rank > 0))).long(),
            place=torch.where(over | ~asked, 0, state.place + room),
            finished=state.finished | (over & (radius <= low)),
        )

    def _trials(self, state: CDSMState) -> Float[Tensor, "B m n"]:
        keys, turn, x = state.keys, state.turn, state.best.point
        reach = self.covering_radius or self.radius
        near = covering(keys, turn, reach, x, self.official_covering)
        far = (self.radius * (state.searches + 1).to(x.dtype).sqrt()).clamp_max(self.limits[1])
        search = far[:, None, None] * unit_inf(keys, "search", turn, x)
        poll = state.radius[:, None, None] * poll_both(householder(keys, turn, x))
        return x.unsqueeze(1) + torch.cat((near, search, poll), 1)
