"""Tasks of control with a neural policy: cart-pole, acrobot, pendulum in torch, and any of Gymnasium's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from optenvs.core.random import Keys, normal, uniform
from optenvs.dynamics import TASKS, Draws, episodes
from optenvs.dynamics import Task as Dynamics
from optenvs.models.dense import MLP
from optenvs.models.policies import Categorical, Gaussian
from optenvs.models.trajectories import Policy, Trajectories

from .task import Counter, Standing, Task, check_number


@dataclass(frozen=True, kw_only=True)
class Neural(Task):
    """Episodes of a task, by a network with tanh units, Xavier-uniform weights and biases 0 at first.

    An episode that does not end by itself ends at its length.

    Args:
        widths: of the hidden layers.
    """

    discount: float = 0.99
    widths: tuple[int, ...] = (32, 32)

    exact = False
    usual: ClassVar[Mapping[str, Any]] = {
        "trajectories": 4,
        "product_trajectories": 2,
        "credit": "relative",
        "baseline": "time",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = self.widths
        fits = isinstance(widths, tuple | list) and all(isinstance(w, int) and w >= 1 for w in widths)
        if not fits or any(isinstance(w, bool) for w in widths):
            raise ValueError(f"widths: expected a tuple of whole numbers >= 1, got {widths!r}")
        if self.data is not None:
            raise ValueError(f"data: {self.title} has no instance to be given, expected None")

    @property
    def title(self) -> str:
        """What the task is called."""
        raise NotImplementedError

    def _network(self, inputs: int, outputs: int) -> MLP:
        return MLP((inputs,), outputs, tuple(self.widths), "tanh")

    @property
    def reward_scale(self) -> float:
        return 1 / self.episode_length

    def draw(self, keys: Keys, dtype: torch.dtype) -> tuple[Any, Tensor]:
        parts = []
        for slot in self.policy.model.layout:
            if len(slot.shape) == 1:
                parts.append(torch.zeros(len(keys), slot.size, dtype=dtype, device=keys.device))
                continue
            bound = math.sqrt(6 / sum(slot.shape))
            parts.append(uniform(keys, slot.name, slot.size, dtype=dtype, low=-bound, high=bound))
        x = torch.cat(parts, 1)
        rest = self.policy.size - x.shape[1]  # logarithms of standard deviations
        return None, torch.cat((x, torch.zeros_like(x[:, :rest])), 1)


@dataclass(frozen=True, kw_only=True)
class Simulated(Neural):
    """Episodes of Gymnasium's task in torch.

    The policy is softmax over ``choices`` torques or forces, evenly spaced over the task's range, or a normal
    torque.

    Args:
        std: of a normal torque; ``None`` to have its logarithm, 0 at first, among the weights.
    """

    name: ClassVar[str]
    choices: ClassVar[int | None] = None

    @property
    def title(self) -> str:
        return self.name

    @cached_property
    def dynamics(self) -> Dynamics:
        """The simulation."""
        return TASKS[self.name]()

    @cached_property
    def policy(self) -> Policy:
        assert self.choices is not None
        return Categorical(self._network(self.dynamics.inputs, self.choices))

    @property
    def best_return(self) -> float:
        return self.episode_length * self.dynamics.best_reward

    def play(
        self, world: Any, x: Tensor, keys: Keys, stream: str, counter: Counter, count: int
    ) -> Trajectories:
        task, policy, H = self.dynamics, self.policy, self.episode_length
        start = uniform(keys, f"{stream} start", (count, len(task.start)), counter, x.dtype)
        if isinstance(policy, Gaussian):
            luck = normal(keys, stream, (count, H, *policy.draws), counter, x.dtype)
        else:
            luck = uniform(keys, stream, (count, H), counter, x.dtype)

        def act(seen: Tensor, draws: Tensor | None) -> Tensor:
            assert draws is not None
            action = policy.act(x, seen, draws)
            return action.squeeze(-1) if self.choices is None else self._strength(action).to(x.dtype)

        played = episodes(task, act, Draws(start=start, policy=luck), H)
        if self.choices is None:
            actions = played.actions.unsqueeze(-1)
        else:
            choice = (played.actions / task.limit + 1) * (self.choices - 1) / 2
            actions = torch.where(played.mask, choice, 0).round().long()
        return Trajectories(played.states[..., :-1, :], actions, played.rewards, played.mask)

    def begin(
        self, world: Any, keys: Keys, stream: str, counter: Counter, count: int, dtype: torch.dtype
    ) -> Standing:
        ends = self.dynamics.start
        unit = uniform(keys, f"{stream} start", (count, len(ends)), counter, dtype)
        return tuple(low + (high - low) * unit[..., i] for i, (low, high) in enumerate(ends))

    def seen(self, standing: Standing) -> Tensor:
        return self.dynamics.observe(standing)

    def step(
        self, world: Any, standing: Standing, action: Tensor, luck: Tensor
    ) -> tuple[Standing, Tensor, Tensor]:
        strength = action.squeeze(-1) if self.choices is None else self._strength(action).to(luck.dtype)
        limit = self.dynamics.limit
        return self.dynamics.step(standing, strength.clamp(-limit, limit), 0.0)

    def _strength(self, choice: Tensor) -> Tensor:
        """What is done: the choices are evenly spaced over [-limit, limit]."""
        assert self.choices is not None
        return self.dynamics.limit * (2.0 * choice / (self.choices - 1) - 1)


@dataclass(frozen=True, kw_only=True)
class CartPole(Simulated):
    """The pole is to stay upright: two pushes."""

    episode_length: int = 200
    name = "cartpole"
    choices = 2
    ends = True


@dataclass(frozen=True, kw_only=True)
class Acrobot(Simulated):
    """The tip is to be swung up: three torques."""

    episode_length: int = 500
    name = "acrobot"
    choices = 3
    ends = True


@dataclass(frozen=True, kw_only=True)
class Pendulum(Simulated):
    """The pendulum is to stand: a normal torque."""

    episode_length: int = 200
    std: float | None = None
    name = "pendulum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std is not None:
            check_number("std", self.std, 0)

    @cached_property
    def policy(self) -> Gaussian:
        return Gaussian(self._network(self.dynamics.inputs, 1), self.std)


SIMULATED = (CartPole, Acrobot, Pendulum)
