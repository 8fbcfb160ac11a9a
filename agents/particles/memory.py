"""Consensus-based optimization with memory (Grassi and Pareschi 2021; Riedl 2023).

Each particle remembers the best point Y_i that it was at, and the consensus c is that of the Y and E(Y):

    X <- X - lambda dt (X - c) + sigma sqrt(dt) D(X - c) z1
    X <- X - lambda_m dt (X - Y) + sigma_m sqrt(dt) D(X - Y) z2         with the X of the line before
    Y_i <- X_i where E(X_i) < E(Y_i)

With ``joint`` both drifts come first and then both noises, which see the drifted X (the authors' code).
The smooth memory of some papers needs values at points Y that no particle was at, and is not offered.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Observation, require
from ._consensus import Scale, answer, not_negative, recommends, table, wide
from .cbo import CBO


@struct
class MemoryCBOState:
    """The memory of the method.

    Attributes:
        keys, count, consensus, team: see :class:`~agents.particles.cbo.CBOState`.
        best_point, best_value: what each particle remembers, ``(B, N, d)`` and ``(B, N)``.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    consensus: Float[Tensor, "B d"]
    best_point: Float[Tensor, "B N d"]
    best_value: Float[Tensor, "B N"]
    team: bool = static()


@dataclass(frozen=True, eq=False)
class MemoryCBO(CBO):
    """Consensus-based optimization with memory. It moves the swarm together.

    Args:
        lambda_memory: the strength of the drift towards the particle's own best point.
        sigma_memory: the strength of its noise; ``lambda_memory`` times ``sigma`` by default.
        joint: both drifts, then both noises, in place of one pair after the other.
        lambda_, sigma, alpha, dt, noise, noise_after_drift, truncation, gradient_drift, alpha_schedule,
            sigma_schedule, effective, effective_limits, batch_size, partial, kick, limit: see
            :class:`~agents.particles.cbo.CBO`.
    """

    lambda_memory: float = 0.4
    sigma_memory: float | None = None
    joint: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(self, "lambda_memory")
        require(
            self, "sigma_memory", self.sigma_memory is None or self.sigma_memory >= 0, "a number >= 0 or None"
        )

    @property
    def together(self) -> bool:  # type: ignore[override]
        """Whether it cannot move each particle by itself: it remembers for all of them."""
        return True

    def init(self, problem: Any, observation: Observation, keys: Keys) -> MemoryCBOState:
        first = super().init(problem, observation, keys)
        points, values = table(observation)
        return MemoryCBOState(
            keys=keys,
            count=first.count,
            consensus=first.consensus,
            best_point=points,
            best_value=values,
            team=recommends(problem),
        )

    def act(self, state: MemoryCBOState, observation: Observation) -> tuple[Action, MemoryCBOState]:
        points, values = table(observation)
        better = values < state.best_value
        kept = dataclasses.replace(
            state,
            best_point=torch.where(better.unsqueeze(-1), points, state.best_point),
            best_value=torch.where(better, values, state.best_value),
        )
        moved, centre = self.step(kept, observation, points, kept.best_point, kept.best_value)
        after = dataclasses.replace(kept, count=state.count + 1, consensus=centre)
        return answer(moved, centre, state.team), after

    def move(
        self, state: MemoryCBOState, observation: Observation, points: Tensor, target: Tensor, sigma: Scale
    ) -> Float[Tensor, "B n d"]:
        own = state.best_point
        weak: Scale = self.lambda_memory * sigma if self.sigma_memory is None else self.sigma_memory
        if not self.joint:
            moved = super().move(state, observation, points, target, sigma)
            drawn = self.normals(state.keys, "memory noise", state.count, points)
            return self.drift_and_noise(moved - own, drawn, self.lambda_memory, weak, own)
        drift = self.lambda_ * (points - target) + self.lambda_memory * (points - own)
        if self.gradient_drift:
            drift = drift + self.gradient_drift * observation["gradient"]
        moved = points - self.dt * drift
        for stream, place, strength in (("noise", target, sigma), ("memory noise", own, weak)):
            # of the drifted points, whatever ``noise_after_drift`` says
            radius = self._radius(points - self.dt * drift - place, 1.0)
            drawn = self.normals(state.keys, stream, state.count, points)
            moved = moved + wide(strength) * math.sqrt(self.dt) * radius * drawn
        return moved
