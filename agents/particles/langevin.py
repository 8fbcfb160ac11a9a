"""Gradient chains, to compare particle methods with: gradient descent and annealed Langevin dynamics.

    gradient descent    x <- x - lr grad E(x)
    Langevin            x <- x - lr dt grad E(x) + sigma / log(k + 1) sqrt(dt) z,       k = 1, 2, ...

On a swarm every particle is a chain of its own, and the chain with the best value is recommended, where it
goes next; on a landscape there is one chain.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Agent, Observation, by_row
from ._consensus import Normals, Number, answer, best, not_negative, positive, recommends, table


@struct
class ChainState:
    """Keys of the draws and steps so far, ``(B,)``; whether a query states the recommendation."""

    keys: Keys
    count: Int64[Tensor, "B"]
    team: bool = static()


@dataclass(frozen=True, eq=False)
class _Chains(Agent):
    """Points that move by their own gradients."""

    needs = ("gradient",)

    @abc.abstractmethod
    def move(self, state: ChainState, observation: Observation) -> Float[Tensor, "B *shape"]:
        """The next points."""

    def init(self, problem: Any, observation: Observation, keys: Keys) -> ChainState:
        return ChainState(keys=keys, count=torch.zeros_like(keys), team=recommends(problem))

    def act(self, state: ChainState, observation: Observation) -> tuple[Action, ChainState]:
        moved = self.move(state, observation)
        after = dataclasses.replace(state, count=state.count + 1)
        if not state.team:
            return moved, after
        _, values = table({name: observation[name] for name in ("point", "value")})
        return answer(moved, best(moved, values), state.team), after


def _rows(field: str, value: Number, point: Tensor) -> Any:
    """A number of each instance, for all of its coordinates."""
    value = by_row(field, value, point)
    return value.reshape(-1, *[1] * (point.ndim - 1)) if isinstance(value, Tensor) else value


@dataclass(frozen=True, eq=False)
class GradientDescent(_Chains):
    """Gradient descent with a fixed step.

    Args:
        lr: the step length: a number, or a tensor ``(B,)`` with one for each instance.
    """

    lr: Number = 1e-3

    def __post_init__(self) -> None:
        positive(self, "lr")

    def move(self, state: ChainState, observation: Observation) -> Tensor:
        return observation["point"] - _rows("lr", self.lr, observation["point"]) * observation["gradient"]


@dataclass(frozen=True, eq=False)
class Langevin(Normals, _Chains):
    """Annealed Langevin dynamics. The defaults are those of the comparison in Riedl et al. (2023).

    Args:
        lr: the strength of the drift: a number, or a tensor ``(B,)`` with one for each instance.
        sigma: the strength of the noise, likewise; 0 makes it gradient descent.
        dt: the time step.
    """

    lr: Number = 1.0
    sigma: Number = 10.0
    dt: float = 1e-3

    def __post_init__(self) -> None:
        positive(self, "lr", "dt")
        not_negative(self, "sigma")

    def move(self, state: ChainState, observation: Observation) -> Tensor:
        point = observation["point"]
        cooling = torch.log(state.count + 2.0).reciprocal().to(point.dtype)
        noise = _rows("sigma", self.sigma, point) * math.sqrt(self.dt) * _rows("k", cooling, point)
        drift = _rows("lr", self.lr, point) * self.dt * observation["gradient"]
        return point - drift + noise * self.normals(state.keys, "noise", state.count, point)
