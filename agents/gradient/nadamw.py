"""NAdamW, as ``torch.optim.NAdam`` with decoupled weight decay.

x  <- x - lr * weight_decay * x
m  <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,  vh <- v / (1 - beta2^t)
u_t = beta1 (1 - 0.96^(t * momentum_decay) / 2),  U_t = u_1 ... u_t
x  <- x - lr * ((1 - u_t) / (1 - U_t) g + u_{t+1} / (1 - U_{t+1}) m) / (sqrt(vh) + eps)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import GradientAgent, Observation
from ._moments import Workspace, average_square, check_adaptive, damped_root, debias, divided_step


@struct
class NAdamWState:
    """``mu``, ``nu``: moments ``(B, n)``; ``product``: U_t, ``(B, 1)``; ``count``: steps, ``(B, 1)``."""

    mu: Float[Tensor, "B n"]
    nu: Float[Tensor, "B n"]
    product: Float[Tensor, "B 1"]
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class NAdamW(GradientAgent):
    """Adam with Nesterov's look ahead (Dozat 2016) and decoupled weight decay (Loshchilov and Hutter 2019).

    Args:
        betas: the decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: the factor of the weight decay; 0 makes it NAdam.
        momentum_decay: how fast the momentum rises to beta1; 0 for half of it at all times.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    momentum_decay: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self, "momentum_decay")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> NAdamWState:
        zero = torch.zeros_like(observation["point"])
        one = torch.ones_like(zero[:, :1])
        return NAdamWState(mu=zero, nu=zero, product=one, count=torch.zeros_like(one))

    def act(self, state: NAdamWState, observation: Observation) -> tuple[Tensor, NAdamWState]:
        point, gradient = observation["point"], observation["gradient"]
        rate, count = self.rate(observation), state.count + 1
        work = Workspace.of(point, gradient, state.mu, state.nu, rate)
        beta1, beta2 = self.betas
        mu = torch.lerp(state.mu, gradient, 1 - beta1, out=work.fresh(state.mu))
        nu = average_square(state.nu, gradient, beta2, work)
        now, after = self._momentum(count), self._momentum(count + 1)
        product = state.product * now
        ahead = work.number(after / (1 - product * after))
        own = work.number((1 - now) / (1 - product))
        direction = torch.mul(mu, ahead, out=work.fresh(mu))
        direction = torch.add(direction, gradient * own, out=work.over(direction))
        scale = work.number(debias(beta2, count) ** 0.5)  # sqrt(vh) + eps = (sqrt(v) + scale eps) / scale
        root = damped_root(nu, scale * self.eps, work)
        keep = work.number(1 - rate * self.weight_decay) if self.weight_decay else 1.0
        action = divided_step(point, direction, root, work.number(rate * scale), work, keep)
        return action, NAdamWState(mu=mu, nu=nu, product=product, count=count)

    def _momentum(self, count: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        return self.betas[0] * (1 - 0.5 * torch.exp(count * (self.momentum_decay * math.log(0.96))))
