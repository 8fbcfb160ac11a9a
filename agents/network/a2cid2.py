"""A2CiD2: averaging with a continuous momentum (Nabli, Belilovsky and Oyallon 2023).

Between its events node i follows x' = eta (xt - x), xt' = eta (x - xt); then

    its gradient g at x:             x -= lr g,   xt -= lr g
    an exchange of x with node j:    m = x_i - x_j;   x -= m / 2,   xt -= at m

    eta = 1 / (2 sqrt(chi_1 chi_2)),   at = sqrt(chi_1 / chi_2) / 2

with the constants of the Laplacian of the rates. At a fixed step size the nodes come to rest at a distance
O(lr) from the solution, as those of SGD do, unless their functions share it.
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
class A2CiD2State:
    """A2CiD2's memory, at the time of each node's last event.

    Attributes:
        x, xt: the iterates and their momentum, ``(B, N, d)`` each.
        velocity: the mean of the gradients, ``(B, N, d)``; or None without momentum.
        mixing: the rate 2 eta at which x - xt fades, ``(B, 1, 1)``.
        push: the factor at, ``(B, 1, 1)``.
        lr: the step size, ``(B, 1, 1)``.
    """

    x: Float[Tensor, "B N d"]
    xt: Float[Tensor, "B N d"]
    velocity: Float[Tensor, "B N d"] | None
    mixing: Float[Tensor, "B 1 1"]
    push: Float[Tensor, "B 1 1"]
    lr: Float[Tensor, "B 1 1"]


@dataclass(frozen=True, eq=False)
class A2CiD2(AsynchronousAgent):
    """A2CiD2.

    Args:
        lr: the step size, a number or a tensor ``(B,)``; None for 1 / (2 L).
        momentum: of the gradients, as in SGD: v <- momentum v + g in the place of g.
    """

    lr: float | Float[Tensor, "B"] | None = None
    momentum: float | Float[Tensor, "B"] = 0.0

    def __post_init__(self) -> None:
        check_steps(self)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> A2CiD2State:
        point = observation["point"]
        first, second = (value.to(point).view(-1, 1, 1) for value in (problem.chi1, problem.chi2))
        alone = second == 0  # a single node never exchanges
        ratio = torch.where(alone, 1.0, first / second)
        mixing = torch.where(alone, 0.0, (first * second).rsqrt())
        return A2CiD2State(
            x=point,
            xt=point,
            velocity=resting(self.momentum, point),
            mixing=mixing,
            push=ratio.sqrt() / 2,
            lr=step_size(self.lr, problem, point),
        )

    def act(self, state: A2CiD2State, observation: Observation) -> tuple[dict[str, Tensor], A2CiD2State]:
        step, velocity = descent(self.momentum, state.lr, state.velocity, observation)
        apart = torch.where(answer_to(observation, EXCHANGE), state.x - observation["message"][:, :, 0], 0.0)
        before = state.x - step - apart / 2
        xt = state.xt - step - state.push * apart
        # half the difference moves: bit for bit nothing where no time has passed
        moved = torch.expm1(-state.mixing * observation["elapsed"]) * ((before - xt) / 2)
        x, xt = before + moved, xt - moved
        state = A2CiD2State(x=x, xt=xt, velocity=velocity, mixing=state.mixing, push=state.push, lr=state.lr)
        return query(observation, x, x, before, x), state
