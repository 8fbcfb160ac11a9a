"""Cart-pole, acrobot and pendulum, any number of them at once: the equations of Gymnasium's tasks.

Cart-pole: Barto, Sutton, Anderson 1983, as ``CartPole-v1`` steps it (Euler), with a force anywhere between
the two that it knows. Acrobot: Sutton 1996, as ``Acrobot-v1`` steps it (Runge and Kutta's method, the book's
equations), with any torque of [-1, 1]. Pendulum: ``Pendulum-v1``. A task's state is a tuple of tensors of one
shape.
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


class Acrobot(Task):
    """``Acrobot-v1``; the action is the torque at the second joint. An episode ends with the tip above 1."""

    inputs = 6
    start = ((-0.1, 0.1),) * 4
    limit = 1.0
    best_reward = 0.0

    gravity, dt = 9.8, 0.2  # both links: mass 1, length 1, centre at half of it, moment of inertia 1
    fastest = (4 * math.pi, 9 * math.pi)

    def observe(self, state: States) -> Float[Tensor, "*n 6"]:
        first, second, *spins = state
        return torch.stack((first.cos(), first.sin(), second.cos(), second.sin(), *spins), -1)

    def step(
        self, state: States, action: Tensor, push: Tensor | float
    ) -> tuple[States, Float[Tensor, "*n"], Bool[Tensor, "*n"]]:
        torque, dt = action + push, self.dt
        k1 = self._slope(state, torque)
        k2 = self._slope(_moved(state, k1, dt / 2), torque)
        k3 = self._slope(_moved(state, k2, dt / 2), torque)
        k4 = self._slope(_moved(state, k3, dt), torque)
        mean = tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
        first, second, spin, turn = _moved(state, mean, dt)
        angles = (torch.remainder(angle + math.pi, 2 * math.pi) - math.pi for angle in (first, second))
        spins = (x.clamp(-most, most) for x, most in zip((spin, turn), self.fastest, strict=True))
        after = (*angles, *spins)
        up = -after[0].cos() - (after[1] + after[0]).cos() > 1.0
        return after, torch.where(up, 0.0, -1.0).to(torque), up

    def _slope(self, state: States, torque: Tensor) -> States:
        """The time derivative of the state."""
        first, second, spin, turn = state
        cos, sin = second.cos(), second.sin()
        d1, d2 = 3.5 + cos, 1.25 + 0.5 * cos
        phi2 = 0.5 * self.gravity * torch.cos(first + second - math.pi / 2)
        phi1 = -0.5 * turn**2 * sin - turn * spin * sin
        phi1 = phi1 + 1.5 * self.gravity * torch.cos(first - math.pi / 2) + phi2
        turning = (torque + d2 / d1 * phi1 - 0.5 * spin**2 * sin - phi2) / (1.25 - d2**2 / d1)
        return spin, turn, -(d2 * turning + phi1) / d1, turning


def _moved(state: States, slope: States, by: float) -> States:
    return tuple(x + by * v for x, v in zip(state, slope, strict=True))


TASKS: dict[str, type[Task]] = {"acrobot": Acrobot, "cartpole": CartPole, "pendulum": Pendulum}
