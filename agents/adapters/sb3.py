"""A trained Stable-Baselines3 model as an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, fold_in
from optenvs.core.struct import struct

from ..core import Agent, Observation


@struct
class PolicyState:
    """``key``: int64 ``(B,)``; ``count``: actions so far ``(B, 1)``. Both only seed a stochastic policy."""

    key: Int64[Tensor, "B"]
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class SB3Agent(Agent):
    """The policy of a model, on the whole batch at once; it computes in float32, as it was trained.

    A stochastic policy draws from torch's generator: that is seeded from the state for each action and put
    back afterwards, so that ``act`` stays a pure function; what a row draws depends on the batch.

    Args:
        model: a trained model with Dict observations, ``PPO("MultiInputPolicy", make_sb3(...))``.
        deterministic: the mean action in place of a sample.
    """

    model: Any
    deterministic: bool = True

    def init(self, problem: Any, observation: Observation, keys: Keys) -> PolicyState:
        wanted = self.model.observation_space.spaces
        for name, space in wanted.items():
            if name not in observation or tuple(observation[name].shape[1:]) != space.shape:
                raise ValueError(
                    f"from_sb3: the model was trained on {dict(wanted)}, but this environment shows "
                    f"{ {key: tuple(value.shape[1:]) for key, value in observation.items()} }"
                )
        return PolicyState(key=keys, count=torch.zeros_like(observation["k"]))

    def act(self, state: PolicyState, observation: Observation) -> tuple[Tensor, PolicyState]:
        names = self.model.observation_space.spaces
        seen = {name: observation[name].detach().cpu().numpy() for name in names}
        if self.deterministic:
            action = self._predict(seen)
        else:
            seed = int(fold_in(state.key, state.count[:, 0].long()).sum().item())
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                action = self._predict(seen)
        out = torch.from_numpy(action).to(observation["k"])
        return out, PolicyState(key=state.key, count=state.count + 1)

    def _predict(self, seen: dict[str, np.ndarray]) -> np.ndarray:
        action, _ = self.model.policy.predict(seen, deterministic=self.deterministic)
        return action


def from_sb3(model: Any, deterministic: bool = True) -> SB3Agent:
    """The agent of a trained Stable-Baselines3 model; see :class:`SB3Agent`.

    Raises:
        TypeError: not a model, or one that was not trained on Dict observations with one Box of actions.
    """
    space = getattr(model, "observation_space", None)
    if not hasattr(model, "policy") or space is None:
        raise TypeError(f"model: expected a Stable-Baselines3 model, got {type(model).__name__}")
    if not hasattr(space, "spaces") or not hasattr(model.action_space, "low"):
        raise TypeError(
            "model: expected one trained on Dict observations and a Box of actions (make_sb3 gives both), "
            f"got {space} and {model.action_space}"
        )
    return SB3Agent(model, deterministic)
