"""Decentralized gradient descent (Nedic and Ozdaglar 2009): average with the neighbours, then descend.

    x <- W x - lr g                  g: each node's gradient at its x; W: Metropolis weights

A step size that stays fixed leaves a bias: the nodes come to rest at a distance O(lr) from the solution, and
halving it halves the distance.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation
from ._rounds import StepAgent, no_action, say


@struct
class DGDState:
    """DGD's memory.

    Attributes:
        point: the iterates, ``(B, N, d)``.
        gradient: the gradients there, if they were known before the iterates were sent.
        count: actions so far, ``(B, 1, 1)``.
        lr: the step size, ``(B, 1, 1)``.
    """

    point: Float[Tensor, "B N d"]
    gradient: Float[Tensor, "B N d"]
    count: Int64[Tensor, "B 1 1"]
    lr: Float[Tensor, "B 1 1"]


class DGD(StepAgent):
    """Decentralized gradient descent with Metropolis weights; a round is one step.

    Args:
        lr: the step size, a number or a tensor ``(B,)``; None for 1 / (2 L).
    """

    portion = 0.5

    def init(self, problem: Any, observation: Observation, keys: Keys) -> DGDState:
        point = observation["point"]
        return DGDState(
            point=point,
            gradient=observation["gradient"],
            count=no_action(point),
            lr=self.step_size(problem, point),
        )

    def act(self, state: DGDState, observation: Observation) -> tuple[dict[str, Tensor], DGDState]:
        # the start was sent after its gradient was computed, all later iterates while it was
        sent, asked = state.count > 0, state.count > 1
        gradient = torch.where(asked, observation["gradient"], state.gradient)
        moved = observation["mixed"][:, :, 0] - state.lr * gradient
        point = torch.where(sent, moved, state.point)
        action = say(observation, point, point.unsqueeze(2), compute=sent, send=torch.ones_like(sent))
        return action, DGDState(point=point, gradient=gradient, count=state.count + 1, lr=state.lr)
