"""A trained Stable-Baselines3 model as an agent."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, fold_in
from optenvs.core.struct import static, struct

from ..core import Agent, Observation

Seen = dict[str, np.ndarray]


@struct
class PolicyState:
    """The memory of a policy.

    Attributes:
        key, count: int64 ``(B,)``, and actions so far ``(B, 1)``; they seed a stochastic policy.
        recurrent: the states of a recurrent policy, each with leading dimension ``B``; none of another.
        axes: which axis of each of those is the batch in the policy's own form.
    """

    key: Int64[Tensor, "B"]
    count: Float[Tensor, "B 1"]
    recurrent: tuple[Tensor, ...] = ()
    axes: tuple[int, ...] = static(default=())


@dataclass(frozen=True, eq=False)
class SB3Agent(Agent):
    """The policy of a model, on the whole batch at once; it computes in float32, as it was trained.

    What a recurrent policy remembers (the second result of ``predict``, arrays) is part of the memory.

    A stochastic policy draws from torch's generator: that is seeded from the state for each action and put
    back afterwards, so that ``act`` stays a pure function; what a row draws depends on the batch.

    Args:
        model: a trained model with Dict observations, ``PPO("MultiInputPolicy", make_sb3(...))``.
        deterministic: the mean action in place of a sample.
    """

    model: Any
    deterministic: bool = True

    adapts = "model"
    on_host = True

    def init(self, problem: Any, observation: Observation, keys: Keys) -> PolicyState:
        wanted = self.model.observation_space.spaces
        for name, space in wanted.items():
            if name not in observation or tuple(observation[name].shape[1:]) != space.shape:
                raise ValueError(
                    f"from_sb3: the model was trained on {dict(wanted)}, but this environment shows "
                    f"{ {key: tuple(value.shape[1:]) for key, value in observation.items()} }"
                )
        recurrent, axes = self._recurrent(self._seen(observation))
        return PolicyState(key=keys, count=torch.zeros_like(observation["k"]), recurrent=recurrent, axes=axes)

    def _seen(self, observation: Observation) -> dict[str, np.ndarray]:
        names = self.model.observation_space.spaces
        return {name: observation[name].detach().cpu().numpy() for name in names}

    def _recurrent(self, seen: dict[str, np.ndarray]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Empty states, and the axes of their batch: those that grow with it."""
        with torch.random.fork_rng():
            _, one = self.model.policy.predict(seen, deterministic=True)
            if one is None:
                return (), ()
            twice = {name: np.concatenate((value, value)) for name, value in seen.items()}
            _, two = self.model.policy.predict(twice, deterministic=True)
        states, axes = [], []
        for left, right in zip(_arrays(one), _arrays(two), strict=True):
            grown = [axis for axis, size in enumerate(left.shape) if right.shape[axis] == 2 * size]
            if len(grown) != 1:
                raise TypeError(f"from_sb3: a state of shape {left.shape} has no axis of its instances")
            states.append(torch.from_numpy(np.zeros_like(left)).movedim(grown[0], 0).contiguous())
            axes.append(grown[0])
        return tuple(states), tuple(axes)

    def act(self, state: PolicyState, observation: Observation) -> tuple[Tensor, PolicyState]:
        seen = self._seen(observation)
        if self.deterministic:
            action, recurrent = self._predict(seen, state)
        else:
            seed = int(fold_in(state.key, state.count[:, 0].long()).sum().item())
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                action, recurrent = self._predict(seen, state)
        out = torch.from_numpy(action).to(observation["k"])
        return out, dataclasses.replace(state, count=state.count + 1, recurrent=recurrent)

    def _predict(self, seen: Seen, state: PolicyState) -> tuple[np.ndarray, tuple[Tensor, ...]]:
        begins = (state.count[:, 0] == 0).cpu().numpy()
        given = None
        if state.recurrent and not begins.all():  # a policy knows best how it begins
            pairs = zip(state.recurrent, state.axes, strict=True)
            given = tuple(part.movedim(0, axis).contiguous().cpu().numpy() for part, axis in pairs)
        options = {"state": given, "episode_start": begins} if state.recurrent else {}
        action, after = self.model.policy.predict(seen, deterministic=self.deterministic, **options)
        if not state.recurrent:
            return action, ()
        pairs = zip(_arrays(after), state.axes, strict=True)
        return action, tuple(torch.from_numpy(part).movedim(axis, 0).contiguous() for part, axis in pairs)


def _arrays(states: Any) -> tuple[np.ndarray, ...]:
    """The states of a recurrent policy.

    Raises:
        TypeError: they are no arrays; an agent could not keep them.
    """
    parts = states if isinstance(states, tuple | list) else (states,)
    if not all(isinstance(part, np.ndarray) for part in parts):
        kinds = ", ".join(sorted({type(part).__name__ for part in parts}))
        raise TypeError(f"from_sb3: the policy remembers {kinds}; only a tuple of arrays can be kept")
    return tuple(parts)


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
