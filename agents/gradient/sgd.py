"""Stochastic gradient descent with momentum, as in ``torch.optim.SGD``.

g <- g + weight_decay * x
m <- momentum * m + (1 - dampening) * g        (m <- g at the first step)
d <- g + momentum * m if nesterov else m
x <- x - lr * d
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import GradientAgent, Observation, require
from ._moments import PLAIN, Number, Workspace, with_penalty


@struct
class SGDState:
    """``mu``: the momentum buffer ``(B, n)``, or ``None`` without momentum; ``count``: steps ``(B, 1)``."""

    mu: Float[Tensor, "B n"] | None
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class SGD(GradientAgent):
    """SGD (Robbins and Monro 1951; Polyak 1964; Nesterov 1983; Sutskever et al. 2013).

    Args:
        momentum: the factor on the buffer; 0 for none.
        dampening: how much of the gradient is kept out of the buffer; equal to ``momentum`` it makes the
            buffer an exponential average.
        nesterov: look ahead along the buffer; needs a momentum and no dampening.
        weight_decay: the factor of an L2 penalty, added to the gradient.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-2
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        require(self, "weight_decay", self.weight_decay >= 0, "a number >= 0")
        if self.nesterov:
            require(self, "momentum", self.momentum > 0, "a number > 0 with nesterov")
            require(self, "dampening", self.dampening == 0, "0 with nesterov")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> SGDState:
        point = observation["point"]
        mu = torch.zeros_like(point) if self.momentum else None
        return SGDState(mu=mu, count=torch.zeros_like(point[:, :1]))

    def act(self, state: SGDState, observation: Observation) -> tuple[Tensor, SGDState]:
        point, gradient = observation["point"], observation["gradient"]
        rate = self.rate(observation)
        work = Workspace.of(point, gradient, state.mu, rate)
        gradient = with_penalty(gradient, point, self.weight_decay, work)
        direction, mu = gradient, state.mu
        if mu is not None and not self.dampening:
            mu = torch.add(gradient, mu, alpha=self.momentum, out=work.fresh(mu))
        elif mu is not None:
            kept = torch.mul(mu, self.momentum, out=work.fresh(mu))
            mu = torch.add(kept, gradient, alpha=1 - self.dampening, out=work.over(kept))
            mu = torch.where(state.count == 0, gradient, mu)
        if mu is not None:
            direction = torch.add(gradient, mu, alpha=self.momentum) if self.nesterov else mu
        action = descend(point, direction, rate, work)
        return action, SGDState(mu=mu, count=state.count + 1)


def descend(point: Tensor, direction: Tensor, rate: Number, work: Workspace = PLAIN) -> Tensor:
    """``point - rate * direction``, in one pass where the rate is a plain number."""
    if isinstance(rate, Tensor):
        return torch.addcmul(point, direction, rate, value=-1, out=work.fresh(point))
    return torch.sub(point, direction, alpha=rate, out=work.fresh(point))
