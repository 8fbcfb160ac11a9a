"""Any task of Gymnasium's with continuous actions, as MuJoCo's, by a neural policy: on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from optenvs.core.random import Keys, bits, normal
from optenvs.dynamics.host import HostTask
from optenvs.models.policies import Gaussian
from optenvs.models.trajectories import Trajectories

from .simulated import Neural
from .task import Counter, check_number

_SEEDS = 2**31 - 1
"""Gymnasium takes seeds of these bits."""


@dataclass(frozen=True, kw_only=True)
class Hosted(Neural):
    """Episodes of a task by its Gymnasium id; each begins from a seed of the row's key.

    The policy's actions are normal about a network's outputs, and cut to the task's bounds by the task. What
    it sees is not normalised.

    Args:
        id: of the task.
        std: of the actions; ``None`` to have its logarithms, 0 at first, among the weights.
    """

    id: str
    episode_length: int = 500
    widths: tuple[int, ...] = (64, 64)
    std: float | None = None

    ends = True
    usual: ClassVar[Mapping[str, Any]] = {**Neural.usual, "trajectories": 2}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std is not None:
            check_number("std", self.std, 0)
        _ = self.task  # an unknown task or a missing package is an error now

    @property
    def title(self) -> str:
        return self.id

    @cached_property
    def task(self) -> HostTask:
        """The task on the host."""
        return HostTask(self.id)

    @cached_property
    def policy(self) -> Gaussian:
        return Gaussian(self._network(self.task.inputs, self.task.outputs), self.std)

    def play(
        self, world: Any, x: Tensor, keys: Keys, stream: str, counter: Counter, count: int
    ) -> Trajectories:
        policy, rows, H = self.policy, len(keys), self.episode_length
        luck = normal(keys, stream, (count, H, *policy.draws), counter, x.dtype).transpose(1, 2)
        seeds = (bits(keys, f"{stream} start", count, counter) & _SEEDS).flatten().tolist()
        weights = x.detach()

        def act(seen: np.ndarray, t: int) -> np.ndarray:
            states = torch.from_numpy(seen).to(x).unflatten(0, (rows, count))
            with torch.no_grad():
                return policy.act(weights, states, luck[:, t]).flatten(0, 1).cpu().numpy()

        played = self.task.play(act, seeds, H)
        states, actions, rewards = (torch.from_numpy(part).to(x) for part in played[:3])
        parts = (states, actions, rewards, torch.from_numpy(played.mask).to(x.device))
        return Trajectories(*(part.unflatten(0, (rows, count)) for part in parts))
