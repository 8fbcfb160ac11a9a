"""Consensus hopping: the particles are drawn anew about the consensus in every step (Riedl et al. 2023).

    c <- x_alpha(X),    X_i <- c + s z_i

It is the limit lambda = 1 / dt of consensus-based optimization with a fixed width s, and one step of it is a
gradient step of size alpha s^2 with a Gibbs-averaged gradient. "Scheduled vanishing" multiplies s by 0.98
after every 100 steps: ``schedule=agents.schedules.Growth(0.98, period=100)``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Agent, Observation, Schedule, require
from ._consensus import (
    Normals,
    Number,
    answer,
    consensus,
    positive,
    recommends,
    scaled,
    table,
    temperature,
    wide,
)


@struct
class HoppingState:
    """Keys of the draws and steps so far, ``(B,)``; whether a query states the recommendation."""

    keys: Keys
    count: Int64[Tensor, "B"]
    team: bool = static()


@dataclass(frozen=True, eq=False)
class ConsensusHopping(Normals, Agent):
    """Consensus hopping; it recommends the consensus. The defaults are those of the paper's canyon.

    A query states the consensus of the answer before it, from which its particles are drawn: after K steps
    the run stands behind update K.

    Args:
        alpha: the inverse temperature of the weights: a number, or a tensor ``(B,)``.
        width: s, the standard deviation of the particles about the consensus, likewise.
        schedule: a factor on the width, as a function of ``(k, N)``, see ``agents.schedules``.
    """

    alpha: Number = 100.0
    width: Number = 0.7
    schedule: Schedule | None = None

    needs = ("value", "swarm")

    def __post_init__(self) -> None:
        positive(self, "alpha", "width")
        require(self, "alpha", torch.as_tensor(self.alpha).isfinite().all(), "a finite number")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> HoppingState:
        return HoppingState(keys=keys, count=torch.zeros_like(keys), team=recommends(problem))

    def act(self, state: HoppingState, observation: Observation) -> tuple[Action, HoppingState]:
        everyone, values = table(observation)
        centre = consensus(everyone, values, temperature(self.alpha, None, observation))
        width = wide(scaled("width", self.width, self.schedule, observation))
        drawn = self.normals(state.keys, "hop", state.count, observation["point"])
        after = dataclasses.replace(state, count=state.count + 1)
        return answer(centre.unsqueeze(1) + width * drawn, centre, state.team), after
