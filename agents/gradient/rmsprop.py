"""RMSprop, as in ``torch.optim.RMSprop``.

g <- g + weight_decay * x
v <- alpha v + (1 - alpha) g^2
a <- alpha a + (1 - alpha) g,  w <- v - a^2     (centered; else w <- v)
b <- momentum * b + g / (sqrt(w) + eps)
x <- x - lr * b
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
from ._moments import Workspace, average_square, check_adaptive, damped_root, divided_step, with_penalty
from .sgd import descend


@struct
class RMSpropState:
    """RMSprop's memory.

    Attributes:
        nu: the mean square, ``(B, n)``.
        mean: the mean gradient, ``(B, n)``, or ``None`` unless centered.
        mu: the momentum buffer, ``(B, n)``, or ``None`` without momentum.
        count: steps so far, ``(B, 1)``.
    """

    nu: Float[Tensor, "B n"]
    mean: Float[Tensor, "B n"] | None
    mu: Float[Tensor, "B n"] | None
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class RMSprop(GradientAgent):
    """RMSprop (Tieleman and Hinton 2012; centered and with momentum as in Graves 2013).

    Args:
        alpha: the decay rate of the mean square.
        eps: added to the root.
        weight_decay: the factor of an L2 penalty, added to the gradient.
        momentum: the factor on the buffer of steps; 0 for none.
        centered: divide by the standard deviation. A variance that rounding leaves below zero counts as 0
            (torch gives NaN there).
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self, "momentum")
        require(self, "alpha", 0 <= self.alpha < 1, "a number in [0, 1)")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> RMSpropState:
        zero = torch.zeros_like(observation["point"])
        return RMSpropState(
            nu=zero,
            mean=zero if self.centered else None,
            mu=zero if self.momentum else None,
            count=torch.zeros_like(zero[:, :1]),
        )

    def act(self, state: RMSpropState, observation: Observation) -> tuple[Tensor, RMSpropState]:
        point, gradient = observation["point"], observation["gradient"]
        rate = self.rate(observation)
        work = Workspace.of(point, gradient, state.nu, rate)
        rate = work.number(rate)
        gradient = with_penalty(gradient, point, self.weight_decay, work)
        nu = average_square(state.nu, gradient, self.alpha, work)
        mean, mu, spread = state.mean, state.mu, nu
        if mean is not None:
            mean = torch.lerp(mean, gradient, 1 - self.alpha, out=work.fresh(mean))
            spread = torch.addcmul(nu, mean, mean, value=-1, out=work.fresh(nu))
            spread = torch.clamp(spread, min=0, out=work.over(spread))
        root = damped_root(spread, self.eps, work, spare=None if mean is None else work.over(spread))
        if mu is None:
            action = divided_step(point, gradient, root, rate, work)
        else:
            kept = torch.mul(mu, self.momentum, out=work.fresh(mu))
            mu = torch.addcdiv(kept, gradient, root, out=work.over(kept))
            action = descend(point, mu, rate, work)
        return action, RMSpropState(nu=nu, mean=mean, mu=mu, count=state.count + 1)
