"""A bounded bandit with a Gaussian policy, whose return and derivatives have closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_data, check_whole, given
from optenvs.core.random import Keys, normal
from optenvs.models.dense import Linear
from optenvs.models.policies import Gaussian
from optenvs.models.trajectories import Trajectories

from .task import Counter, Standing, Task, check_number


@dataclass(frozen=True, kw_only=True)
class GaussBandit(Task):
    """One action a ~ N(x, std^2 I) in ``dim`` dimensions earns r(a) = exp(-|a - a*|^2 / 2).

    J(x) = (1 + s)^(-d/2) exp(-|x - a*|^2 / (2 (1 + s))) with s = std^2. a* lies at the distance sqrt(dim)
    from the start 0, in a direction of its own in each instance: to the agent all are one, turned.

    Args:
        dim: d, the number of weights.
        std: of the actions.
        data: ``{"optimum": (d,), "start": (d,)}``.
    """

    episode_length: int = 1
    discount: float = 1.0
    dim: int = 2
    std: float = 0.5

    holds = ("fisher",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episode_length != 1:
            raise ValueError(f"episode_length: a bandit acts once, expected 1, got {self.episode_length}")
        if self.discount != 1:
            raise ValueError(f"discount: a bandit acts once, expected 1, got {self.discount!r}")
        check_whole("dim", self.dim)
        check_number("std", self.std, 0)
        check_data(self.data, self.shapes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"optimum": (self.dim,), "start": (self.dim,)}

    @cached_property
    def policy(self) -> Gaussian:
        return Gaussian(Linear((1,), self.dim), self.std)  # of a state that is always 1

    def draw(self, keys: Keys, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.data is not None:
            return given(self.data, "optimum", keys, dtype), given(self.data, "start", keys, dtype)
        way = normal(keys, "optimum", self.dim, dtype=dtype)
        optimum = self.dim**0.5 * way / torch.linalg.vector_norm(way, dim=-1, keepdim=True)
        return optimum, torch.zeros_like(optimum)

    def play(
        self, world: Tensor, x: Tensor, keys: Keys, stream: str, counter: Counter, count: int
    ) -> Trajectories:
        luck = normal(keys, stream, (count, 1, self.dim), counter, x.dtype)
        actions = x[:, None, None] + self.std * luck
        rewards = self._earned(world[:, None, None], actions)
        states = torch.ones_like(rewards)
        return Trajectories(states.unsqueeze(-1), actions, rewards, states > 0)

    def _earned(self, optimum: Tensor, actions: Tensor) -> Tensor:
        return torch.exp(-(actions - optimum).square().sum(-1) / 2)

    def begin(
        self, world: Tensor, keys: Keys, stream: str, counter: Counter, count: int, dtype: torch.dtype
    ) -> Standing:
        return (torch.ones(len(keys), count, 1, dtype=dtype, device=keys.device),)

    def seen(self, standing: Standing) -> Tensor:
        return standing[0]

    def step(
        self, world: Tensor, standing: Standing, action: Tensor, luck: Tensor
    ) -> tuple[Standing, Tensor, Tensor]:
        return standing, self._earned(world[:, None], action), luck >= 0  # one action is all

    def value(self, world: Tensor, x: Tensor) -> Float[Tensor, "B"]:
        wide = 1 + self.std**2
        return wide ** (-self.dim / 2) * torch.exp(-(x - world).square().sum(-1) / (2 * wide))

    def best(self, world: Tensor) -> Float[Tensor, "B"]:
        return torch.full_like(world[:, 0], (1 + self.std**2) ** (-self.dim / 2))

    def fisher(self, world: Tensor, x: Tensor) -> Float[Tensor, "B"]:
        return torch.full_like(x[:, 0], self.std**-2)
