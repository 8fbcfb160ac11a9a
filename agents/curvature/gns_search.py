"""The adaptive search of Semenov, Jaggi and Doikov (2025), playing the control of gamma.

    gamma <- 2 gamma after an accepted trial, gamma / 2 after a rejected one

It is what :class:`~agents.curvature.gns_newton.GnsNewton` does by itself, for the environment in which
gamma is the action: within the ends of its range, where the search rests on the end. A row has finished
after ``patience`` rejections in a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Agent, Observation, require

_ACCEPTED = 5  # of the features: whether the last trial was


@struct
class SearchState:
    """The memory of the search.

    Attributes:
        power: log2 of gamma, ``(B, 1)``.
        low, high: its ends, ``(B, 1)``.
        trying: whether there was a trial, ``(B,)``.
        rejected: rejections in a row, ``(B,)``.
        finished: ``(B,)``.
    """

    power: Float[Tensor, "B 1"]
    low: Float[Tensor, "B 1"]
    high: Float[Tensor, "B 1"]
    trying: Bool[Tensor, "B"]
    rejected: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class GnsSearch(Agent):
    """Doubling and halving of gamma, from ``problem.start``.

    Args:
        patience: the most rejections in a row.
    """

    patience: int = 40

    needs = ("trial",)

    def __post_init__(self) -> None:
        whole = isinstance(self.patience, int) and not isinstance(self.patience, bool) and self.patience >= 1
        require(self, "patience", whole, "a whole number >= 1")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> SearchState:
        zero = torch.zeros_like(problem.start)
        low, high = zero + problem.low, zero + problem.high
        return SearchState(
            power=low + (problem.start + 1) / 2 * (high - low),
            low=low,
            high=high,
            trying=torch.zeros_like(keys, dtype=torch.bool),
            rejected=torch.zeros_like(keys),
            finished=torch.zeros_like(keys, dtype=torch.bool),
        )

    def act(self, state: SearchState, observation: Observation) -> tuple[Action, SearchState]:
        accepted = observation["features"][:, _ACCEPTED] > 0.5
        move = torch.where(accepted, 1.0, -1.0).to(state.power) * state.trying.to(state.power)
        power = (state.power + move.unsqueeze(-1)).clamp(state.low, state.high)
        rejected = torch.where(accepted, 0, state.rejected + state.trying.long())
        after = SearchState(
            power=power,
            low=state.low,
            high=state.high,
            trying=torch.ones_like(state.trying),
            rejected=rejected,
            finished=state.finished | (rejected >= self.patience),
        )
        action = 2 * (power - state.low) / (state.high - state.low) - 1
        return action.clamp(-1, 1), after
