"""AD-PSGD: gradient steps and pairwise averages, asynchronously (Lian, Zhang, Zhang and Liu 2018).

    its gradient g at x:             x -= lr g
    an exchange of x with node j:    x <- the mean of both

Here in continuous time: gradients and exchanges at the times of Poisson clocks. At a fixed step size the
nodes come to rest at a distance O(lr) from the solution, as those of SGD do, unless their functions share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation
from ._descent import check_steps, descent, resting, step_size
from ._events import EXCHANGE, AsynchronousAgent, answer_to, query


@struct
class ADPSGDState:
    """AD-PSGD's memory.

    Attributes:
        x: the iterates, ``(B, N, d)``.
        velocity: the mean of the gradients, ``(B, N, d)``; or None without momentum.
        lr: the step size, ``(B, 1, 1)``.
    """

    x: Float[Tensor, "B N d"]
    velocity: Float[Tensor, "B N d"] | None
    lr: Float[Tensor, "B 1 1"]


@dataclass(frozen=True, eq=False)
class ADPSGD(AsynchronousAgent):
    """AD-PSGD.

    Args:
        lr: the step size, a number or a tensor ``(B,)``; None for 1 / (2 L).
        momentum: of the gradients, as in SGD: v <- momentum v + g in the place of g.
    """

    lr: float | Float[Tensor, "B"] | None = None
    momentum: float | Float[Tensor, "B"] = 0.0

    def __post_init__(self) -> None:
        check_steps(self)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> ADPSGDState:
        point = observation["point"]
        velocity = resting(self.momentum, point)
        return ADPSGDState(x=point, velocity=velocity, lr=step_size(self.lr, problem, point))

    def act(self, state: ADPSGDState, observation: Observation) -> tuple[dict[str, Tensor], ADPSGDState]:
        step, velocity = descent(self.momentum, state.lr, state.velocity, observation)
        apart = torch.where(answer_to(observation, EXCHANGE), state.x - observation["message"][:, :, 0], 0.0)
        x = state.x - step - apart / 2
        return query(observation, x, x, x, x), ADPSGDState(x=x, velocity=velocity, lr=state.lr)
