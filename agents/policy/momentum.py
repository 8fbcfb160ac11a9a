"""Momentum policy gradients with a corrected estimate: STORM-PG, IS-MBPG, HA-MBPG.

    storm_pg   d_t = g(tau, theta_t) + (1 - alpha) (d_{t-1} - w g(tau, theta_{t-1}))
    is_mbpg    the same with alpha_t and a step of its own
    ha_mbpg    d_t = (1 - alpha_t) (d_{t-1} + B(tau', between) (theta_t - theta_{t-1}))
                     + alpha_t g(tau, theta_t)

with tau drawn by theta_t and per-decision importance weights w (Yuan, Lian, Liu, Zhou 2020; Huang, Gao, Pei,
Huang 2020, for the last two). These step by

    gamma_t = lr / (m + sum_{i <= t} |g_i|^2)^(1/3),     alpha_{t+1} = min(1, c gamma_t^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import Observation, by_row, require
from ._ascent import HVP, Climb
from ._recursive import HessianAided, Recursive


@dataclass(frozen=True, eq=False)
class STORMPG(Recursive):
    """Stochastic recursive momentum.

    Args:
        alpha: the share of a gradient alone, in (0, 1].
    """

    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "alpha", 0 < self.alpha <= 1, "a number in (0, 1]")

    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        here, there = seen["pair"].unbind(1)
        return here + (1 - self.alpha) * (state.d - there)


@dataclass(frozen=True, eq=False)
class _Adaptive(Recursive):
    """Steps and momentum by the lengths of the gradients so far, whose squares the epoch's ``more`` adds up.

    Args:
        m: what is added to the squares, > 0.
        c: of the momentum's share, > 0.
    """

    lr: float | Float[Tensor, "B"] = 0.5
    batch: int = 1
    m: float = 2.0
    c: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "m", self.m > 0, "a number > 0")
        require(self, "c", self.c > 0, "a number > 0")

    def gradient(self, seen: Observation, begins: Tensor) -> Float[Tensor, "B n"]:
        """The new gradient at theta_t."""
        return torch.where(begins, seen["policy_gradient"], seen["pair"][:, 0])

    def noted(self, state: Climb, seen: Observation, begins: Tensor) -> tuple[Tensor, Tensor]:
        size = self.gradient(seen, begins).square().sum(-1, keepdim=True)
        more = state.own.more + size
        return more, self._step(state, more)

    def _step(self, state: Climb, squares: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        return by_row("lr", self.lr, state.x) / (self.m + squares) ** (1 / 3)

    def share(self, state: Climb) -> Float[Tensor, "B 1"]:
        """alpha_t, of the step before."""
        return (self.c * self._step(state, state.own.more).square()).clamp(max=1)


@dataclass(frozen=True, eq=False)
class ISMBPG(_Adaptive):
    """Importance-sampling momentum."""

    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        here, there = seen["pair"].unbind(1)
        return here + (1 - self.share(state)) * (state.d - there)


@dataclass(frozen=True, eq=False)
class HAMBPG(_Adaptive, HessianAided):
    """Hessian-aided momentum."""

    needs = ("policy_gradient", "product")

    def gradient(self, seen: Observation, begins: Tensor) -> Float[Tensor, "B n"]:
        return seen["policy_gradient"]

    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        alpha = self.share(state)
        return (1 - alpha) * (state.d + seen[HVP[self.hvp]]) + alpha * seen["policy_gradient"]
