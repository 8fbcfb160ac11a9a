"""EXTRA: decentralized gradient descent without its bias (Shi, Ling, Wu and Yin 2015).

    x1      = W x0 - lr g0
    x_{k+2} = (I + W) x_{k+1} - (I + W)/2 x_k - lr (g_{k+1} - g_k)

with the gradients g_k of the nodes at x_k and Metropolis weights W. In one form for all rounds,

    x_{k+1} = x_k + W x_k - lr g_k - c_k,   c_0 = x_0,   c_{k+1} = (x_k + W x_k)/2 - lr g_k
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
class EXTRAState:
    """EXTRA's memory.

    Attributes:
        point: the iterates x_k, ``(B, N, d)``.
        gradient: the gradients there, if they were known before the iterates were sent.
        carry: c_k, what the round before leaves, ``(B, N, d)``.
        count: actions so far, ``(B, 1, 1)``.
        lr: the step size, ``(B, 1, 1)``.
    """

    point: Float[Tensor, "B N d"]
    gradient: Float[Tensor, "B N d"]
    carry: Float[Tensor, "B N d"]
    count: Int64[Tensor, "B 1 1"]
    lr: Float[Tensor, "B 1 1"]


class EXTRA(StepAgent):
    """EXTRA with Metropolis weights; a round is one step.

    Args:
        lr: the step size, a number or a tensor ``(B,)``; None for 1 / (2 L).
    """

    portion = 0.5

    def init(self, problem: Any, observation: Observation, keys: Keys) -> EXTRAState:
        point = observation["point"]
        return EXTRAState(
            point=point,
            gradient=observation["gradient"],
            carry=point,
            count=no_action(point),
            lr=self.step_size(problem, point),
        )

    def act(self, state: EXTRAState, observation: Observation) -> tuple[dict[str, Tensor], EXTRAState]:
        # the start was sent after its gradient was computed, all later iterates while it was
        sent, asked = state.count > 0, state.count > 1
        gradient = torch.where(asked, observation["gradient"], state.gradient)
        both, step = state.point + observation["mixed"][:, :, 0], state.lr * gradient
        point = torch.where(sent, both - step - state.carry, state.point)
        carry = torch.where(sent, both / 2 - step, state.carry)
        action = say(observation, point, point.unsqueeze(2), compute=sent, send=torch.ones_like(sent))
        return action, EXTRAState(
            point=point, gradient=gradient, carry=carry, count=state.count + 1, lr=state.lr
        )
