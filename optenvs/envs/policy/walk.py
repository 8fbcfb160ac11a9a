"""The tasks of policy search step by step: a plain Gymnasium environment for algorithms that bring a policy.

No oracle: an action is what the task's policy would do (a number of ``Discrete``, or a vector), the
observation what it would see. ``optenvs/PolicySearch-v0`` and this are two faces of one task: what is learned
here can be judged there, see :mod:`.sb3`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import as_seed, fold_in, keys_from_seed, uniform
from optenvs.core.struct import select
from optenvs.models.policies import Categorical

from .search import PolicySearch
from .task import Standing

FAR = 1e6
"""Where actions of tasks without bounds end: no policy comes near."""


class Walkers:
    """Episodes of some walkers on one instance of a task, one a row.

    Attributes:
        observation_space, action_space: of one walker, as PPO and others want them: finite.
        start: the first weights of the instance, ``(n,)``.
        world: the instance, as many rows.

    Args:
        env: the search, whose task and instances these are.
        key: of the instance.
        count: walkers.
        seed: of their luck.
    """

    def __init__(self, env: PolicySearch, key: int, count: int, seed: int = 0) -> None:
        self.env, self.process, self.count = env, env.process, count
        if not env.vectorizable:
            raise ValueError(f"task: {env.task} is Gymnasium's own: gymnasium.make({env.task!r}) walks in it")
        self.seed = as_seed(seed)
        keys = torch.full((count,), key, dtype=torch.int64)
        self.world, weights = self.process.draw(keys, env.torch_dtype)
        self.start = weights[0]
        self._keys = fold_in(keys, torch.full_like(keys, self.seed))
        self._standing: Standing = ()
        policy = self.process.policy
        inputs = policy.model.shape[0]
        self.observation_space = spaces.Box(-np.inf, np.inf, (inputs,), np.float32)
        self.action_space: spaces.Discrete | spaces.Box
        if isinstance(policy, Categorical):
            self.action_space = spaces.Discrete(policy.model.classes)
        else:
            dynamics = getattr(self.process, "dynamics", None)
            limit = FAR if dynamics is None else dynamics.limit
            self.action_space = spaces.Box(-limit, limit, (policy.model.classes,), np.float32)
        self.episode = torch.arange(count)
        self.time = torch.zeros(count, dtype=torch.int64)

    def begin(self) -> None:
        """The first episodes."""
        self.episode, self.time = torch.arange(self.count), torch.zeros_like(self.time)
        self._standing = self._begun()

    def again(self, over: Bool[Tensor, "B"]) -> None:
        """The next episodes of some rows."""
        self.episode = torch.where(over, self.episode + self.count, self.episode)
        self._standing = select(over, self._begun(), self._standing)
        self.time = torch.where(over, 0, self.time)

    def _begun(self) -> Standing:
        dtype = self.env.torch_dtype
        return self.process.begin(self.world, self._keys, "walk", self.episode, 1, dtype)

    def seen(self) -> np.ndarray:
        """What the walkers see, float32 ``(B, s)``."""
        return self.process.seen(self._standing)[:, 0].float().numpy()

    def step(
        self, action: Int64[Tensor, "B"] | Float[Tensor, "B a"]
    ) -> tuple[Float[Tensor, "B"], Bool[Tensor, "B"], Bool[Tensor, "B"]]:
        """The reward, whether the episode has ended by itself, and whether its length is over."""
        number = self.episode * self.process.episode_length + self.time
        luck = uniform(self._keys, "walk luck", 1, number, self.env.torch_dtype)
        self._standing, reward, over = self.process.step(
            self.world, self._standing, action.unsqueeze(1), luck
        )
        self.time = self.time + 1
        late = self.time >= self.process.episode_length
        return reward[:, 0], over[:, 0], late & ~over[:, 0]

    def given(self, actions: Any) -> Tensor:
        """Actions as tensors.

        Raises:
            gymnasium.error.InvalidAction: they are not of the space, one a walker.
        """
        came = np.asarray(actions)
        discrete = isinstance(self.action_space, spaces.Discrete)
        shape = (self.count,) if discrete else (self.count, *(self.action_space.shape or ()))
        fits = came.shape == shape and came.dtype.kind in ("iu" if discrete else "iuf")
        if not fits or not all(self.action_space.contains(one) for one in came.astype(self._kind)):
            raise gym.error.InvalidAction(
                f"action: expected {self.count} of {self.action_space}, got {actions!r}"
            )
        return torch.from_numpy(came.astype(self._kind)).to(torch.int64 if discrete else self.env.torch_dtype)

    @property
    def _kind(self) -> type:
        return np.int64 if isinstance(self.action_space, spaces.Discrete) else np.float32


class PolicyTask(gym.Env):
    """One walker in the task of an instance of a policy search.

    ``terminated``: the task has ended the episode. ``truncated``: ``episode_length`` steps are over. Rewards
    are multiplied by the search's ``reward_scale``, as its answers are.

    Args:
        env: the search, or its ``task`` by name.
        instance: a seed, whose first instance it is.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: PolicySearch | str = "cartpole", instance: int = 0) -> None:
        self.search = PolicySearch(task=env) if isinstance(env, str) else env
        self.key = int(keys_from_seed(instance, 1)[0])
        self._walkers = Walkers(self.search, self.key, 1)
        self.observation_space = self._walkers.observation_space
        self.action_space = self._walkers.action_space
        self._begun, self._over = False, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: the first of the seed, or the next."""
        super().reset(seed=seed)
        if seed is not None or not self._begun:
            drawn = as_seed(seed) if seed is not None else int(self.np_random.integers(1 << 62))
            self._walkers = Walkers(self.search, self.key, 1, drawn)
            self._walkers.begin()
        else:
            self._walkers.again(torch.tensor([True]))
        self._begun, self._over = True, False
        return self._walkers.seen()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Act."""
        if self._over:
            raise gym.error.ResetNeeded("step: the episode is over; reset begins the next")
        reward, over, late = self._walkers.step(self._walkers.given(np.asarray(action)[None]))
        ended, cut = bool(over[0]), bool(late[0])
        self._over = ended or cut
        return self._walkers.seen()[0], float(reward[0]) * self.search.scale, ended, cut, {}
