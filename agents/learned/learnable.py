"""Textbook optimizers whose hyper-parameters are weights: the anchors of research on learned optimizers.

The weights are ``log(lr)``, ``log(1 - beta)`` for a decay rate ``beta``, and ``log(eps)``, as in Metz et al.
(2022), so that a step of meta-training is relative, and no step leaves what is allowed. With these fixed
they are ``SGD`` and ``Adam``.

SGD:   m <- beta m + g                          (without momentum m = g)
       x <- x - lr * m
Adam:  m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
       x <- x - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation, require
from ..gradient._moments import PLAIN, damped_root
from .base import LearnedAgent, Numbers

_REST = (-20.0, -1e-6)
"""Where ``log(1 - beta)`` is held: at the ends a decay rate would be 1 or 0, without a slope."""


@struct
class LearnableSGDState:
    """``mu``: the momentum buffer ``(B, n)``, or ``None`` without momentum."""

    mu: Float[Tensor, "B n"] | None


@dataclass(frozen=True, eq=False)
class LearnableSGD(LearnedAgent):
    """SGD with a learnable learning rate, and a learnable momentum if it has one.

    Args:
        initial_lr: the learning rate that the weights begin with; ``net`` brings its own.
        initial_momentum: the momentum that they begin with, in (0, 1); ``None`` for SGD without momentum.
        seed: nothing is drawn.
        dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    initial_lr: float = 1e-2
    initial_momentum: float | None = None

    def __post_init__(self) -> None:
        _check_positive(self, "initial_lr")
        if self.initial_momentum is not None:
            _check_decay(self, "initial_momentum")
        super().__post_init__()

    def build(self) -> Numbers:
        starts = {"log_lr": [math.log(self.initial_lr)]}
        if self.initial_momentum is not None:
            starts["log_rest"] = [math.log1p(-self.initial_momentum)]
        return Numbers(self.torch_dtype, starts)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LearnableSGDState:
        still = self.initial_momentum is None
        return LearnableSGDState(mu=None if still else torch.zeros_like(observation["point"]))

    def act(self, state: LearnableSGDState, observation: Observation) -> tuple[Tensor, LearnableSGDState]:
        point, direction = observation["point"], observation["gradient"]
        rate, mu = self.own("log_lr", point).exp(), state.mu
        if mu is not None:
            momentum = -torch.expm1(self.own("log_rest", point).clamp(*_REST))
            direction = mu = momentum * mu + direction
        return point - rate * direction, LearnableSGDState(mu=mu)


@struct
class LearnableAdamState:
    """``mu``, ``nu``: first and second moment, ``(B, n)``; ``count``: steps so far, ``(B, 1)``."""

    mu: Float[Tensor, "B n"]
    nu: Float[Tensor, "B n"]
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class LearnableAdam(LearnedAgent):
    """Adam with four learnable numbers: learning rate, both decay rates and epsilon.

    Args:
        initial_lr: the learning rate that the weights begin with; ``net`` brings its own.
        initial_betas: the decay rates that they begin with, in (0, 1).
        initial_eps: what is added to the root of the second moment at first.
        seed: nothing is drawn.
        dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    initial_lr: float = 1e-3
    initial_betas: tuple[float, float] = (0.9, 0.999)
    initial_eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_positive(self, "initial_lr", "initial_eps")
        _check_decay(self, "initial_betas", 2)
        super().__post_init__()

    def build(self) -> nn.Module:
        starts = {
            "log_lr": [math.log(self.initial_lr)],
            "log_rests": [math.log1p(-beta) for beta in self.initial_betas],
            "log_eps": [math.log(self.initial_eps)],
        }
        return Numbers(self.torch_dtype, starts)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LearnableAdamState:
        zero = torch.zeros_like(observation["point"])
        return LearnableAdamState(mu=zero, nu=zero, count=torch.zeros_like(zero[:, :1]))

    def act(self, state: LearnableAdamState, observation: Observation) -> tuple[Tensor, LearnableAdamState]:
        point, gradient = observation["point"], observation["gradient"]
        rate, eps = (self.own(name, point).exp() for name in ("log_lr", "log_eps"))
        rests, count = self.own("log_rests", point).clamp(*_REST).exp(), state.count + 1
        rest1, rest2 = rests.split(1, -1)
        mu = state.mu + rest1 * (gradient - state.mu)
        nu = state.nu + rest2 * (gradient.square() - state.nu)
        first, second = (-torch.expm1(count * torch.log1p(-rests))).split(1, -1)  # 1 - beta^t
        root = damped_root(nu / second, eps, PLAIN)
        return point - rate * (mu / first) / root, LearnableAdamState(mu=mu, nu=nu, count=count)


def _check_positive(agent: LearnedAgent, *names: str) -> None:
    for name in names:
        require(agent, name, 0 < getattr(agent, name) < math.inf, "a number > 0")


def _check_decay(agent: LearnedAgent, name: str, count: int | None = None) -> None:
    """Raise unless the field is a decay rate that a weight can hold, or ``count`` of them."""
    value = getattr(agent, name)
    values = (value,) if count is None else tuple(value)
    expected = "a number in (0, 1)" if count is None else f"{count} numbers in (0, 1)"
    require(agent, name, len(values) == (count or 1) and all(0 < v < 1 for v in values), expected)
