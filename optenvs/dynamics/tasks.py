"""Cart-pole and pendulum, any number of them at once: the equations and constants of Gymnasium's tasks.

Cart-pole: Barto, Sutton, Anderson 1983, as ``CartPole-v1`` steps it (Euler), with a force anywhere between
the two that it knows. Pendulum: ``Pendulum-v1``. A task's state is a tuple of tensors of one shape.
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

States = tuple[Tensor, ...]


class Task(abc.ABC):
    """A task with one action.

    Attributes:
        inputs: coordinates of an observation.
        start: the ends of the box in which episodes begin, a pair for each coordinate of the state.
        limit: the greatest action; the least is its negative.
        best_reward: the greatest reward of a step.
    """

    inputs: ClassVar[int]
    start: ClassVar[tuple[tuple[float, float], ...]]
    limit: ClassVar[float]
    best_reward: ClassVar[float]

    @abc.abstractmethod
    def observe(self, state: States) -> Float[Tensor, "*n s"]:
        """What a policy sees."""

    @abc.abstractmethod
    def step(self, state: States, action: Tensor, push: Tensor | float) -> tuple[States, Tensor, Tensor]:
        """The next state, the reward, and whether the episode ends; ``push`` adds to the force applied."""


class CartPole(Task):
    """``CartPole-v1``; the action 1 is its push to the right, -1 that to the left."""

    inputs = 4
    start = ((-0.05, 0.05),) * 4
    limit = 1.0
    best_reward = 1.0

    gravity, cart, pole, half_length, force, dt = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    reach, tilt = 2.4, 12 * 2 * math.pi / 360

    def observe(self, state: States) -> Float[Tensor, "*n 4"]:
        return torch.stack(state, -1)

    def step(
        self, state: States, action: Tensor, push: Tensor | float
    ) -> tuple[States, Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
        x, speed, angle, spin = state
        sin, cos = torch.sin(angle), torch.cos(angle)
        mass, arm = self.cart + self.pole, self.pole * self.half_length
        rest = (self.force * (action + push) + arm * spin**2 * sin) / mass
        turn = (self.gravity * sin - cos * rest) / (
            self.half_length * (4.0 / 3.0 - self.pole * cos**2 / mass)
        )
        pull = rest - arm * turn * cos / mass
        after = (x + self.dt * speed, speed + self.dt * pull, angle + self.dt * spin, spin + self.dt * turn)
        fallen = (after[0].abs() > self.reach) | (after[2].abs() > self.tilt)
        return after, torch.ones_like(x), fallen


class Pendulum(Task):
    """``Pendulum-v1``; the action is the torque."""

    inputs = 3
    start = ((-math.pi, math.pi), (-1.0, 1.0))
    limit = 2.0
    best_reward = 0.0

    gravity, mass, length, dt, fastest = 10.0, 1.0, 1.0, 0.05, 8.0

    def observe(self, state: States) -> Float[Tensor, "*n 3"]:
        angle, spin = state
        return torch.stack((torch.cos(angle), torch.sin(angle), spin), -1)

    def step(
        self, state: States, action: Tensor, push: Tensor | float
    ) -> tuple[States, Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
        angle, spin = state
        upright = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        cost = upright**2 + 0.1 * spin**2 + 0.001 * action**2
        fall = 3 * self.gravity / (2 * self.length) * torch.sin(angle)
        turn = fall + 3.0 / (self.mass * self.length**2) * (action + push)
        spin = (spin + turn * self.dt).clamp(-self.fastest, self.fastest)
        return (angle + spin * self.dt, spin), -cost, torch.zeros_like(cost, dtype=torch.bool)


TASKS: dict[str, type[Task]] = {"cartpole": CartPole, "pendulum": Pendulum}
