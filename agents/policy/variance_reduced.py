"""Variance-reduced policy gradients in epochs: SVRPG, SRVR-PG, HAPG.

An epoch begins with the mean mu of ``batch`` gradients at its first point. Then, at theta_t,

    svrpg     d_t = mu + g(tau, theta_t) - w g(tau, theta_first)                  Papini et al. 2018
    srvr_pg   d_t = d_{t-1} + g(tau, theta_t) - w g(tau, theta_{t-1})             Xu, Gao, Gu 2020
    hapg      d_t = d_{t-1} + B(tau, between) (theta_t - theta_{t-1})             Shen et al. 2019

with tau drawn by theta_t, per-decision importance weights w, and in hapg a uniform point between the last two
that draws its own trajectory. Steps are ``lr d_t``.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..core import Observation
from ._ascent import HVP, Climb
from ._recursive import HessianAided, Recursive


@dataclass(frozen=True, eq=False)
class SRVRPG(Recursive):
    """The difference to the last point is added to the last estimate."""

    period: int | None = 10

    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        here, there = seen["pair"].unbind(1)
        return state.d + here - there


@dataclass(frozen=True, eq=False)
class SVRPG(Recursive):
    """The difference to the epoch's first point is added to the mean there."""

    period: int | None = 10

    def compared(self, state: Climb) -> Float[Tensor, "B n"]:
        return state.own.anchor

    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        here, there = seen["pair"].unbind(1)
        return state.own.mean + here - there


@dataclass(frozen=True, eq=False)
class HAPG(HessianAided):
    """Differences by products of the Hessian, without importance weights."""

    period: int | None = 10

    fresh = False

    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        return state.d + seen[HVP[self.hvp]]
