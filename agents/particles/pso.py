"""Particle swarm optimization (Kennedy and Eberhart 1995), with the constriction of Clerc and Kennedy (2002).

    V_i <- inertia V_i + cognitive r1 (Y_i - X_i) + social r2 (G - X_i)
    X_i <- X_i + V_i

with r1, r2 uniform, one a coordinate. Y_i is the best point of particle i so far, G that of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import static, struct

from ..core import Agent, Observation
from ._consensus import answer, best, not_negative, recommends, table


@struct
class PSOState:
    """The memory of the swarm.

    Attributes:
        keys, count: of the random draws, ``(B,)``.
        velocity: ``(B, N, d)``.
        best_point, best_value: the best of each particle so far, ``(B, N, d)`` and ``(B, N)``.
        team_point, team_value: the best of all so far, ``(B, d)`` and ``(B,)``.
        team: whether a query states the recommendation.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    velocity: Float[Tensor, "B n d"]
    best_point: Float[Tensor, "B n d"]
    best_value: Float[Tensor, "B n"]
    team_point: Float[Tensor, "B d"]
    team_value: Float[Tensor, "B"]
    team: bool = static()


@dataclass(frozen=True, eq=False)
class PSO(Agent):
    """Particle swarm optimization; it recommends the best point so far.

    Args:
        inertia: what is kept of the velocity.
        cognitive: the pull of the particle's own best point.
        social: the pull of the best point of all.
    """

    inertia: float = 0.7298
    cognitive: float = 1.49618
    social: float = 1.49618

    needs = ("value", "swarm")

    def __post_init__(self) -> None:
        not_negative(self, "inertia", "cognitive", "social")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> PSOState:
        points, values = _own(observation)
        everyone, all_values = table(observation)
        return PSOState(
            keys=keys,
            count=torch.zeros_like(keys),
            velocity=torch.zeros_like(points),
            best_point=points,
            best_value=values,
            team_point=best(everyone, all_values),
            team_value=all_values.amin(-1),
            team=recommends(problem),
        )

    def act(self, state: PSOState, observation: Observation) -> tuple[Action, PSOState]:
        points, values = _own(observation)
        better = values < state.best_value
        own = torch.where(better.unsqueeze(-1), points, state.best_point)
        everyone, all_values = table(observation)
        low = all_values.amin(-1)
        leads = (low < state.team_value).unsqueeze(-1)
        leader = torch.where(leads, best(everyone, all_values), state.team_point)
        pulls = []
        for name, strength, target in (
            ("cognitive", self.cognitive, own),
            ("social", self.social, leader.unsqueeze(1)),
        ):
            share = uniform(state.keys, name, tuple(points.shape[1:]), state.count, points.dtype)
            pulls.append(strength * share * (target - points))
        velocity = self.inertia * state.velocity + pulls[0] + pulls[1]
        after = PSOState(
            keys=state.keys,
            count=state.count + 1,
            velocity=velocity,
            best_point=own,
            best_value=torch.where(better, values, state.best_value),
            team_point=leader,
            team_value=torch.minimum(low, state.team_value),
            team=state.team,
        )
        return answer(points + velocity, leader, state.team), after


def _own(observation: Observation) -> tuple[Tensor, Tensor]:
    """Points and values of the particles that this agent moves."""
    return table({name: observation[name] for name in ("point", "value")})
