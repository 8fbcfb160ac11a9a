"""Any task of Gymnasium's with continuous actions, on the host: linear policies run side by side."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor


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
                raise ValueError(f"task: {name} has the {kind} space {space}; a linear policy needs vectors")
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
        envs = self._environments(len(weights), length)
        # all policies of one query meet the same episodes
        begin = np.broadcast_to(seeds.cpu().numpy()[..., None], shape).reshape(-1)
        observation, _ = envs.reset(seed=begin.tolist())
        total, goes_on = np.zeros(len(weights)), np.ones(len(weights), dtype=bool)
        for _ in range(length):
            action = np.einsum("nas,ns->na", weights, observation).clip(self._low, self._high)
            observation, reward, terminated, truncated, _ = envs.step(action.astype(self._low.dtype))
            total += np.where(goes_on, reward, 0.0)
            goes_on &= ~(terminated | truncated)
            if not goes_on.any():
                break
        mean = torch.from_numpy(total.reshape(shape).mean(1))
        return mean.to(policies)

    def _environments(self, count: int, length: int) -> Any:
        if (count, length) not in self._made:
            self._made[count, length] = gym.make_vec(
                self.name, num_envs=count, vectorization_mode="sync", max_episode_steps=length
            )
        return self._made[count, length]
