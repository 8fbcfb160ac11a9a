"""Plain steps against a gradient, with the momentum of SGD, at nodes that compute at times of their own."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import Observation, each_row, require
from ._events import GRADIENT, answer_to


def check_steps(agent: Any) -> None:
    """Refuse step sizes that are not positive, and momenta outside [0, 1)."""
    if agent.lr is not None:
        lr = torch.as_tensor(agent.lr, dtype=torch.float64)
        require(agent, "lr", ((lr > 0) & lr.isfinite()).all(), "a finite number > 0, or None")
    momentum = torch.as_tensor(agent.momentum)
    require(agent, "momentum", ((momentum >= 0) & (momentum < 1)).all(), "a number in [0, 1)")


def step_size(lr: Any, problem: Any, point: Float[Tensor, "B N d"]) -> Float[Tensor, "B 1 1"]:
    """The step size of each instance: the one given, or 1 / (2 L)."""
    return each_row("lr", 1 / (2 * problem.L) if lr is None else lr, point)


def descent(
    momentum: Any, lr: Tensor, velocity: Tensor | None, observation: Observation
) -> tuple[Tensor, Tensor | None]:
    """The step against the gradient, 0 at nodes without one; and the next velocity."""
    answered, gradient = answer_to(observation, GRADIENT), observation["gradient"]
    if velocity is not None:
        gradient = each_row("momentum", momentum, gradient) * velocity + gradient
        velocity = torch.where(answered, gradient, velocity)
    return torch.where(answered, lr * gradient, 0.0), velocity


def resting(momentum: Any, point: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"] | None:
    """The first velocity: none at all without momentum."""
    return torch.zeros_like(point) if torch.as_tensor(momentum).any() else None
