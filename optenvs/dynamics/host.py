"""Any task of Gymnasium's with continuous actions, on the host: episodes of many policies side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor


class HostEpisodes(NamedTuple):
    """Episodes of at most H steps.

    Attributes:
        states: what the policy saw before each step, ``(n, H, s)``; 0 after the end, as the others.
        actions: what it did, before it was cut to the task's bounds, ``(n, H, a)``.
        rewards: ``(n, H)``.
        mask: whether the step was part of the episode.
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    mask: np.ndarray


class _Step(NamedTuple):
    seen: np.ndarray
    done: np.ndarray
    reward: np.ndarray
    goes_on: np.ndarray


class HostTask:
    """A task by its Gymnasium id. The environments that it makes are kept; each episode begins from a seed.

    Attributes:
        inputs, outputs: coordinates of an observation and of an action.

    Raises:
        ValueError: no such task, or one whose observation or action is no vector.
        ModuleNotFoundError: the task needs a package that is not installed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._made: dict[tuple[int, int], Any] = {}
        try:
            env = gym.make(name)
        except gym.error.DependencyNotInstalled as error:
            raise ModuleNotFoundError(f"task: {name} needs a package: {error}") from error
        except gym.error.UnregisteredEnv as error:
            raise ValueError(
                f"task: expected cartpole, pendulum or a Gymnasium id, got {name!r} ({error})"
            ) from error
        seen, done = env.observation_space, env.action_space
        env.close()
        for kind, space in (("observation", seen), ("action", done)):
            if not isinstance(space, spaces.Box) or len(space.shape) != 1:
                raise ValueError(f"task: {name} has the {kind} space {space}; a policy needs vectors")
        assert isinstance(seen, spaces.Box)
        assert isinstance(done, spaces.Box)
        self.inputs, self.outputs = seen.shape[0], done.shape[0]
        self._low, self._high = done.low, done.high

    def returns(
        self, policies: Float[Tensor, "B m a s"], seeds: Int64[Tensor, "B E"], length: int
    ) -> Float[Tensor, "B m"]:
        """The mean return of each policy over the episodes of the seeds, of at most ``length`` steps."""
        batch, count = policies.shape[:2]
        episodes = seeds.shape[1]
        shape = (batch, episodes, count)
        weights = policies.detach().double().cpu().numpy()
        weights = np.broadcast_to(weights[:, None], (*shape, *weights.shape[2:])).reshape(
            -1, *weights.shape[2:]
        )
        # all policies of one query meet the same episodes
        begin = np.broadcast_to(seeds.cpu().numpy()[..., None], shape).reshape(-1)
        total = np.zeros(len(weights))
        for step in self._steps(
            lambda seen, _: np.einsum("nas,ns->na", weights, seen), begin.tolist(), length
        ):
            total += step.reward
        mean = torch.from_numpy(total.reshape(shape).mean(1))
        return mean.to(policies)

    def play(
        self, act: Callable[[np.ndarray, int], np.ndarray], seeds: Sequence[int], length: int
    ) -> HostEpisodes:
        """One episode a seed, of at most ``length`` steps.

        Args:
            act: what is done in what is seen, ``(n, s)``, at a step: ``(n, a)``, cut to the task's bounds.
            seeds: of the episodes.
            length: H.
        """
        count = len(seeds)
        made = HostEpisodes(
            states=np.zeros((count, length, self.inputs)),
            actions=np.zeros((count, length, self.outputs)),
            rewards=np.zeros((count, length)),
            mask=np.zeros((count, length), dtype=bool),
        )
        for t, step in enumerate(self._steps(act, seeds, length)):
            on = step.goes_on
            made.states[on, t], made.actions[on, t] = step.seen[on], step.done[on]
            made.rewards[:, t], made.mask[:, t] = step.reward, on
        return made

    def _steps(
        self, act: Callable[[np.ndarray, int], np.ndarray], seeds: Sequence[int], length: int
    ) -> Iterator[_Step]:
        """Step by step, until all have ended; rewards after an end are 0."""
        envs = self._environments(len(seeds), length)
        seen, _ = envs.reset(seed=list(seeds))
        goes_on = np.ones(len(seeds), dtype=bool)
        for t in range(length):
            done = act(seen, t)
            cut = done.clip(self._low, self._high).astype(self._low.dtype)
            after, reward, terminated, truncated, _ = envs.step(cut)
            yield _Step(np.array(seen), done, np.where(goes_on, reward, 0.0), goes_on)
            goes_on = goes_on & ~(terminated | truncated)
            seen = after
            if not goes_on.any():
                break

    def _environments(self, count: int, length: int) -> Any:
        if (count, length) not in self._made:
            self._made[count, length] = gym.make_vec(
                self.name, num_envs=count, vectorization_mode="sync", max_episode_steps=length
            )
        return self._made[count, length]
