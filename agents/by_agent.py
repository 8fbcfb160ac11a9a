"""The classic loop of many agents: one agent object as the policy of each, through PettingZoo's faces.

    policy = agents.bind(agent, env)                      # env = optenvs.aec_env(...)
    env.reset(seed=0)
    for name in env.agent_iter():
        observation, reward, terminated, truncated, info = env.last()
        env.step(None if terminated or truncated else policy(name, observation))

and with ``optenvs.parallel_env``

    observations, infos = env.reset(seed=0)
    while env.agents:
        actions = {name: policy(name, observations[name]) for name in env.agents}
        observations, rewards, terminations, truncations, infos = env.step(actions)

Each of the problem's agents has a memory of its own, and sees nothing but its own observation. An agent
object that treats the agents of a tensor alike gives the actions of :func:`optenvs.rollout`, to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.random import fold_in
from optenvs.core.rollout import SupportsActing, agent_keys
from optenvs.core.stepper import finished


class PolicyByAgent:
    """An agent object with one memory for each of the problem's agents.

    ``memories[name]`` begins with ``agent.init`` on the agent's own row of the first answer (``N = 1``), what
    it may know of the problem, and a key of its own, when an episode has begun.

    Attributes:
        memories: by name; copy the dict to go on from here later, together with ``env.get_state()``.
    """

    def __init__(self, agent: SupportsActing, base: Any) -> None:
        self.agent = agent
        self.memories: dict[str, Any] = {}
        self._base = base
        self._resets = 0
        core = base.core
        self._own = tuple(core.agent_observation_fields())
        self._shared = {name: name for name in core.common} | {f"all_{name}": name for name in core.public}
        self._team = frozenset(core.team_action_fields())
        self._space: spaces.Space = core.agent_action_space

    def reset(self) -> None:
        """Give every agent a fresh memory, after ``env.reset``; without it the first call does."""
        state: State = self._base.get_state().state
        if int(state.k) != 0:
            raise RuntimeError("policy: an episode is under way whose beginning it has not seen")
        keys = agent_keys(state.key)
        shared = {shown: state.observation[name] for shown, name in self._shared.items()}
        with torch.no_grad():
            for i, name in enumerate(self._base.possible_agents):
                row = {field: state.observation[field][:, i : i + 1] for field in self._own}
                known = self._base.core.local(state.problem, i)
                self.memories[name] = self.agent.init(known, row | shared, fold_in(keys, i))
        self._resets = self._base.resets

    def __call__(self, name: str, observation: dict[str, np.ndarray]) -> Any:
        """The action of agent ``name``, a numpy array or a dict of them.

        When all agents have finished, the next query ends the episode, unbilled.
        """
        self._check(name, observation)
        if self._resets != self._base.resets:
            self.reset()
        device = self._base.core.torch_device
        # copies: an array may be filled again, and agents keep what they see
        seen = {
            field: torch.tensor(value, device=device).unsqueeze(0) for field, value in observation.items()
        }
        seen |= {field: seen[field].unsqueeze(0) for field in self._own}
        with torch.no_grad():
            action, memory = self.agent.act(self.memories[name], seen)
        taken = self._taken(action)
        self.memories[name] = memory
        if all(_has_finished(memory) for memory in self.memories.values()):
            self._base.finish()
        return taken

    def _taken(self, action: Any) -> Any:
        if not isinstance(self._space, spaces.Dict):
            return self._row("action", self._space, action)
        if not isinstance(action, dict) or set(action) != set(self._space):
            came = sorted(action) if isinstance(action, dict) else type(action).__name__
            raise TypeError(f"action: expected the fields {sorted(self._space)}, got {came}")
        return {field: self._row(field, space, action[field]) for field, space in self._space.items()}

    def _row(self, field: str, space: spaces.Space, value: Tensor) -> np.ndarray:
        leading = (1,) if field in self._team else (1, 1)
        expected = (*leading, *(space.shape or ()))
        if tuple(value.shape) != expected:
            raise TypeError(
                f"{field}: expected shape {expected} from {type(self.agent).__name__} for one agent alone, "
                f"got {tuple(value.shape)}; an agent that moves all together needs optenvs.rollout"
            )
        return value.cpu().numpy().reshape(space.shape).copy()

    def _check(self, name: str, observation: Any) -> None:
        if name not in self._base.possible_agents:
            raise TypeError(f"policy: expected the name of an agent and its observation, got {name!r}")
        wanted = {*self._own, *self._shared}
        if not isinstance(observation, dict) or set(observation) != wanted:
            came = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
            raise TypeError(f"observation: expected the fields {sorted(wanted)}, got {came}")


def _has_finished(memory: Any) -> bool:
    said = finished(memory)
    return said is not None and bool(said.all())
