"""Stable-Baselines3's algorithms on the tasks of policy search, at equal transitions.

    from stable_baselines3 import PPO
    course = search_by_sb3(optenvs.make("PolicySearch", task="cartpole"), PPO, transitions=20_000)

A model learns on walkers of one instance (:mod:`.walk`); its actor is the search's own policy with the
search's first weights, so that its weights are a point ``x`` of the search at any time, and the search's own
merit judges them. Its critic, and all that it does with the transitions, are its own. Billed: transitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from optenvs.core.random import keys_from_seed
from optenvs.models.policies import Categorical
from optenvs.models.trajectories import Policy

from .search import PolicySearch
from .walk import Walkers


class WalkersVecEnv(VecEnv):
    """Walkers as Stable-Baselines3 has them: one that has finished begins again in the same step.

    Attributes:
        walkers: they.
    """

    def __init__(self, walkers: Walkers) -> None:
        self.walkers = walkers
        self.render_mode = None
        self._actions: Any = None
        super().__init__(walkers.count, walkers.observation_space, walkers.action_space)

    def reset(self) -> np.ndarray:
        """Begin all episodes; the same ones whenever it is called."""
        self.walkers.begin()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self.walkers.seen()

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Act."""
        walkers = self.walkers
        reward, over, late = walkers.step(walkers.given(self._actions))
        done = over | late
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if bool(done.any()):
            final = walkers.seen()
            walkers.again(done)
            for i in np.flatnonzero(done.numpy()):
                infos[i] = {"terminal_observation": final[i], "TimeLimit.truncated": bool(late[i])}
        return walkers.seen(), (walkers.env.scale * reward).float().numpy(), done.numpy(), infos

    def close(self) -> None:
        """Nothing to release."""

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """The walkers' luck is that of the seed they were made with."""
        return [self.walkers.seed] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the walkers, once for each of ``indices``."""
        owner = self if attr_name == "render_mode" else self.walkers
        return [getattr(owner, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not offered: walkers are made with what they are."""
        raise AttributeError(f"{attr_name}: make other walkers")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the walkers once; its result stands for each of ``indices``."""
        found = getattr(self.walkers, method_name)(*method_args, **method_kwargs)
        return [found] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No Gymnasium wrapper is inside."""
        return [False] * len(list(self._get_indices(indices)))


class Actor(NamedTuple):
    """What the actor of a model is: a policy of flat weights, and the first ones."""

    policy: Policy
    start: Tensor


class SearchedPolicy(ActorCriticPolicy):
    """An actor that is the search's policy, its weights the one parameter ``x``, and a critic of its own."""

    def __init__(self, *args: Any, actor: Actor, **options: Any) -> None:
        self._actor = actor
        super().__init__(*args, **options)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        del self.action_net
        if "log_std" in self._parameters:
            del self.log_std
        self.x = torch.nn.Parameter(self._actor.start.float().clone())
        options: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **options)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
        """The distribution; nothing lies between the observation and ``latent_pi``."""
        policy, x = self._actor.policy, self.x.unsqueeze(0)
        seen = latent_pi.unsqueeze(0)
        if isinstance(policy, Categorical):
            assert isinstance(self.action_dist, CategoricalDistribution)
            return self.action_dist.proba_distribution(policy.logarithms(x, seen)[0])
        assert isinstance(self.action_dist, DiagGaussianDistribution)
        mean, log_std = policy.moments(x, seen)
        return self.action_dist.proba_distribution(mean[0], log_std[0, 0])


@dataclass(frozen=True)
class Course:
    """What a model has come to.

    Attributes:
        transitions: when its weights were looked at, in transitions billed, ``(T,)``; 0 first.
        points: the weights then, ``(T, n)``.
        merit: of these weights, the search's own, ``(T,)``.
        trajectories: episodes that had been begun by then, ``(T,)``.
        model: the model.
    """

    transitions: Int64[Tensor, "T"]
    points: Float[Tensor, "T n"]
    merit: Float[Tensor, "T"]
    trajectories: Int64[Tensor, "T"]
    model: Any


class _Notes(BaseCallback):
    """Notes the weights after each update."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[int, int, Tensor]] = []
        self._spent = False

    def note(self) -> None:
        """Where the model stands."""
        env: Any = self.training_env
        policy: Any = self.model.policy
        episodes = int((env.walkers.episode // env.num_envs + 1).sum())
        self.noted.append((self.num_timesteps, episodes, policy.x.detach().clone()))

    def _on_rollout_start(self) -> None:
        self.note()

    def _on_step(self) -> bool:
        return True


def search_by_sb3(
    env: PolicySearch,
    algorithm: Any,
    *,
    transitions: int,
    key: int | None = None,
    seed: int = 0,
    walkers: int = 4,
    at: Sequence[int] | None = None,
    **options: Any,
) -> Course:
    """Train a model on one instance of a policy search, and judge its weights as the search does.

    Args:
        env: the search.
        algorithm: ``PPO``, ``A2C``, sb3-contrib's ``TRPO``, or another class of on-policy algorithms.
        transitions: that it may buy: it buys as many whole rollouts as they pay.
        key: of the instance; ``None``: the first of ``seed``.
        seed: of the model's draws, and of the walkers' luck.
        walkers: side by side.
        at: transitions at which the weights are looked at, the last ones by then; ``None``: after each
            update.
        **options: the algorithm's own: ``n_steps``, ``learning_rate``, ... ``gamma`` is the search's discount
            unless it is given.

    Raises:
        ValueError: the first rollout cannot be paid, or ``at`` has numbers beyond ``transitions``.
        TypeError: the algorithm takes no such option, or is none of on-policy algorithms.
    """
    if not (isinstance(algorithm, type) and issubclass(algorithm, OnPolicyAlgorithm)):
        came = getattr(algorithm, "__name__", algorithm)
        raise TypeError(f"algorithm: expected one of on-policy algorithms, PPO say, got {came}")
    key = int(keys_from_seed(seed, 1)[0]) if key is None else key
    group = Walkers(env, key, walkers, seed)
    policy = {"actor": Actor(env.process.policy, group.start), "net_arch": {"pi": [], "vf": [64, 64]}}
    given = {"gamma": env.process.discount, "device": "cpu", "seed": seed} | options
    model = algorithm(SearchedPolicy, WalkersVecEnv(group), policy_kwargs=policy, **given)
    each = model.n_steps * walkers
    if each > transitions:
        raise ValueError(f"transitions: {transitions} do not pay a rollout, n_steps * walkers = {each}")
    if at is not None and (not at or max(at) > transitions):
        raise ValueError(f"at: expected numbers up to transitions, {transitions}, got {at!r}")
    notes = _Notes()
    model.learn(transitions // each * each, callback=notes)
    notes.note()
    bought, begun, points = zip(*notes.noted, strict=True)
    bought, begun = torch.tensor(bought), torch.tensor(begun)
    points = torch.stack(points).to(env.torch_device, env.torch_dtype)
    if at is not None:
        last = [int((bought <= most).sum()) - 1 for most in at]
        bought, begun, points = bought[last], begun[last], points[last]
    same = torch.full((len(points),), key, dtype=torch.int64, device=env.torch_device)
    with torch.no_grad():
        merit = env.judged(env.reset(same, evaluate=False), points)
    return Course(bought, points, merit, begun, model)
