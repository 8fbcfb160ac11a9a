"""Adam, AMSGrad and AdamW, as in ``torch.optim``.

g  <- g + weight_decay * x                      (coupled; or x <- x - lr * weight_decay * x, decoupled)
m  <- beta1 m + (1 - beta1) g                   first moment
v  <- beta2 v + (1 - beta2) g^2                 second moment
mh <- m / (1 - beta1^t),  vh <- v / (1 - beta2^t)
x  <- x - lr * mh / (sqrt(vh) + eps)            (AMSGrad: the largest v so far in place of v)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import GradientAgent, Observation
from ._moments import (
    Number,
    Workspace,
    average_square,
    check_adaptive,
    damped_root,
    debias,
    divided_step,
    with_penalty,
)


@struct
class AdamState:
    """Adam's memory.

    Attributes:
        mu, nu: first and second moment, ``(B, n)``.
        nu_max: the largest ``nu`` so far, or ``None`` without AMSGrad.
        count: steps so far, ``(B, 1)``.
    """

    mu: Float[Tensor, "B n"]
    nu: Float[Tensor, "B n"]
    nu_max: Float[Tensor, "B n"] | None
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class Adam(GradientAgent):
    """Adam (Kingma and Ba 2015, algorithm 1), AMSGrad (Reddi, Kale and Kumar 2018).

    Args:
        betas: the decay rates of the two moments.
        eps: added to the root of the second moment.
        weight_decay: the factor of the weight decay.
        amsgrad: divide by the largest second moment so far.
        decoupled_weight_decay: shrink the point itself in place of adding an L2 term to the gradient.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    decoupled_weight_decay: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AdamState:
        zero = torch.zeros_like(observation["point"])
        nu_max = zero if self.amsgrad else None
        return AdamState(mu=zero, nu=zero, nu_max=nu_max, count=torch.zeros_like(zero[:, :1]))

    def act(self, state: AdamState, observation: Observation) -> tuple[Tensor, AdamState]:
        point, gradient = observation["point"], observation["gradient"]
        rate, count = self.rate(observation), state.count + 1
        work = Workspace.of(point, gradient, state.mu, state.nu, rate)
        keep: Number = 1.0
        if self.decoupled_weight_decay:
            keep = work.number(1 - rate * self.weight_decay)
        else:
            gradient = with_penalty(gradient, point, self.weight_decay, work)
        beta1, beta2 = self.betas
        mu = torch.lerp(state.mu, gradient, 1 - beta1, out=work.fresh(state.mu))
        nu = average_square(state.nu, gradient, beta2, work)
        nu_max = None if state.nu_max is None else torch.maximum(state.nu_max, nu, out=work.fresh(nu))
        # mh / (sqrt(vh) + eps) = scale / (1 - beta1^t) * m / (sqrt(v) + scale * eps): a pass over memory less
        t = work.number(count)
        scale = debias(beta2, t) ** 0.5
        root = damped_root(nu if nu_max is None else nu_max, scale * self.eps, work)
        step = work.number(rate * scale / debias(beta1, t))
        action = divided_step(point, mu, root, step, work, keep)
        return action, AdamState(mu=mu, nu=nu, nu_max=nu_max, count=count)


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay, of 0.01 by default.

    Args:
        betas, eps, weight_decay, amsgrad, decoupled_weight_decay, lr, schedule: see :class:`Adam`.
    """

    weight_decay: float = 1e-2
    decoupled_weight_decay: bool = True
