"""Gradient tracking: each node follows an estimate of the mean gradient (Nedic, Olshevsky and Shi 2017).

    x <- W x - lr v
    v <- W v + g(x) - g(x before),   v = g(x) at the start

with the gradients g of the nodes at their own x and Metropolis weights W. The mean of the v is always that of
the gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation
from ._rounds import StepAgent, check_room, no_action, say


@struct
class GradientTrackingState:
    """Gradient tracking's memory.

    Attributes:
        point: the iterates x, ``(B, N, d)``.
        direction: v where it is known; W v of the round before while the gradient at x is computed.
        gradient: the last gradients, 0 before the first, ``(B, N, d)``.
        count: actions so far, ``(B, 1, 1)``.
        lr: the step size, ``(B, 1, 1)``.
    """

    point: Float[Tensor, "B N d"]
    direction: Float[Tensor, "B N d"]
    gradient: Float[Tensor, "B N d"]
    count: Int64[Tensor, "B 1 1"]
    lr: Float[Tensor, "B 1 1"]


class GradientTracking(StepAgent):
    """Gradient tracking with Metropolis weights.

    A round is two steps: the gradients at x, of which v is made; then x and v are sent together, so that an
    edge is active once a round and carries two vectors.

    Args:
        lr: the step size, a number or a tensor ``(B,)``; None for 1 / (10 L).
    """

    portion = 0.1

    def init(self, problem: Any, observation: Observation, keys: Keys) -> GradientTrackingState:
        check_room(observation, 2)
        point = observation["point"]
        zero = torch.zeros_like(point)
        return GradientTrackingState(
            point=point,
            direction=zero,
            gradient=zero,
            count=no_action(point),
            lr=self.step_size(problem, point),
        )

    def act(
        self, state: GradientTrackingState, observation: Observation
    ) -> tuple[dict[str, Tensor], GradientTrackingState]:
        computed = state.count % 2 == 0  # else the answer is to a gossip
        mixed, gradient = observation["mixed"], observation["gradient"]
        point = torch.where(computed, state.point, mixed[:, :, 0] - state.lr * state.direction)
        direction = torch.where(computed, state.direction + gradient - state.gradient, mixed[:, :, 1])
        vectors = torch.stack((point, direction), 2)
        action = say(observation, point, vectors, compute=~computed, send=computed)
        return action, GradientTrackingState(
            point=point,
            direction=direction,
            gradient=torch.where(computed, gradient, state.gradient),
            count=state.count + 1,
            lr=state.lr,
        )
