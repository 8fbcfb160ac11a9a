"""An episode with a merit that was measured between two queries."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from .env import OptimizationEnv
from .rewards import REWARDS, Progress
from .state import State


def with_merit(
    env: OptimizationEnv, state: State, merit: Float[Tensor, "B"], metrics: dict[str, Tensor]
) -> State:
    """``state`` with what :meth:`~.env.OptimizationEnv.evaluate` has measured: best and reward follow.

    What the query itself has earned stays; a merit that is no finite number is not taken.
    """
    merit = torch.where(merit.isfinite(), merit, state.merit)
    best = torch.minimum(state.best, merit)
    gained = REWARDS[env.reward](Progress(merit, best, state.best, state.floor))
    gained = torch.where(gained.isfinite(), gained, 0.0)  # a first merit that is a number improves on nothing
    # of what the query itself earned, the merit before it, nothing is taken back but the value
    reward = gained if env.reward == "negative_value" else state.reward + gained
    return dataclasses.replace(state, metrics=state.metrics | metrics, merit=merit, best=best, reward=reward)
