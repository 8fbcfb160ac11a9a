"""Linear policies ranked by the returns of their episodes: reinforcement learning from an order.

The setting of Tang, Rybin, Chang (2024): a point is the matrix W of a policy a = clip(W s), its hidden value
the return of an episode with the sign changed. All policies of one query meet the same episode (start and
disturbances), and each query a new one: an order is noisy as a whole, but no policy is luckier than another.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.random import Keys, bits, normal, uniform
from optenvs.dynamics import TASKS, Draws, Task, returns
from optenvs.dynamics.host import HostTask

from .base import RankingOracle

BOX = 5.0
"""Half the width of the box of weights that an agent is told."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RankingPolicy(RankingOracle):
    """Linear policies are ranked by return. Billed: the policies shown, and the rankings.

    Merit is minus the mean return of the recommended policy over episodes that are the instance's own and
    never change; the metric ``return`` is that mean return.

    Args:
        task: ``cartpole``, ``acrobot`` or ``pendulum`` (many policies at once in torch: the equations of
            Gymnasium's ``CartPole-v1`` and ``Acrobot-v1``, with any force or torque between its extremes, and
            ``Pendulum-v1``), or the id of a Gymnasium
            task with continuous actions, as ``Swimmer-v5`` (on the host; MuJoCo tasks need
            ``gymnasium[mujoco]``).
        episode_length: steps of an episode, at most.
        episodes: episodes over whose mean return a query ranks.
        test_episodes: episodes of the merit.
        disturbance: standard deviation of random pushes at each step, in units of the action's; of tasks in
            torch alone.
        start_std: standard deviation of the weights of the starting point.
        shown, ranked, recommend, noise, ...: see :class:`optenvs.envs.ranking.base.RankingOracle`.
    """

    task: str = "cartpole"
    episode_length: int = 200
    episodes: int = 1
    test_episodes: int = 4
    disturbance: float = 0.0
    start_std: float = 0.1
    shown: int = 5

    meanings: ClassVar[dict[str, str]] = {
        "return": "the sum of rewards of an episode of the recommended policy",
    }

    def __post_init__(self) -> None:
        for name in ("episode_length", "episodes", "test_episodes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
        for name in ("disturbance", "start_std"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a number >= 0, got {getattr(self, name)!r}")
        # an unknown task or a missing package is an error now, not at the first reset
        if isinstance(self.dynamics, HostTask) and self.disturbance:
            raise ValueError(f"disturbance: only {', '.join(TASKS)} have it, got {self.disturbance}")
        super().__post_init__()

    @cached_property
    def dynamics(self) -> Task | HostTask:
        """What the policies act on."""
        return TASKS[self.task]() if self.task in TASKS else HostTask(self.task)

    @property
    def size(self) -> int:
        task = self.dynamics
        return task.inputs * (task.outputs if isinstance(task, HostTask) else 1)

    @property
    def vectorizable(self) -> bool:
        return not isinstance(self.dynamics, HostTask)

    @property
    def bounded_below(self) -> bool:
        return not isinstance(self.dynamics, HostTask)

    def sample(self, keys: Keys) -> Instance:
        start = self.start_std * normal(keys, "policy", self.size, dtype=self.torch_dtype)
        floor = None
        if not isinstance(self.dynamics, HostTask):
            floor = torch.full_like(start[:, 0], -self.dynamics.best_reward * self.episode_length)
        return Instance(
            problem=self.problem(torch.full_like(start, -BOX), torch.full_like(start, BOX)),
            hidden=self.memory(None, start),
            start=self.first_query(start),
            floor=floor,
        )

    def values(self, state: State, points: Float[Tensor, "B m d"]) -> Float[Tensor, "B m"]:
        return self._losses(state.key, "episode", state.k, self.episodes, points)

    def truth(self, state: State, recommendation: Float[Tensor, "B d"]) -> Float[Tensor, "B"]:
        return self._losses(state.key, "test", None, self.test_episodes, recommendation.unsqueeze(1)).squeeze(
            1
        )

    def _losses(self, keys: Keys, stream: str, k: Tensor | None, episodes: int, points: Tensor) -> Tensor:
        """Minus the mean returns over episodes that keys, stream and k name."""
        task, length = self.dynamics, self.episode_length
        if isinstance(task, HostTask):
            seeds = bits(keys, stream, episodes, k) & (2**31 - 1)  # what Gymnasium takes
            return -task.returns(points.unflatten(-1, (task.outputs, task.inputs)), seeds, length)
        unit = uniform(keys, stream, (episodes, len(task.start)), k, points.dtype)
        pushes = None
        if self.disturbance:
            pushes = self.disturbance * normal(
                keys, f"{stream} pushes", (episodes, length), k, points.dtype
            )  # fmt: skip
        # all policies of a query meet the same episodes
        start = unit.unsqueeze(2).expand(-1, -1, points.shape[1], -1)
        draws = Draws(start=start, pushes=None if pushes is None else pushes.unsqueeze(2))
        weights = points.unsqueeze(1)
        return -returns(task, lambda seen, _: torch.linalg.vecdot(weights, seen), draws, length).mean(1)

    def answer(self, state: State, action: Action) -> Answer:
        answer = super().answer(state, action)
        return dataclasses.replace(answer, metrics=answer.metrics | {"return": -answer.merit})
