"""The classic loop: an agent as the policy of an environment made by ``gym.make`` or ``gym.make_vec``.

    policy = agents.bind(agents.Adam(lr=0.1), env)
    observation, info = env.reset(seed=0)
    policy.reset(observation, info)
    while not done:
        observation, reward, terminated, truncated, info = env.step(policy(observation))

It gives the actions of :func:`optenvs.rollout` on the same instances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from optenvs.core.errors import check_oracles, explained
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.rollout import SupportsActing, agent_keys
from optenvs.core.stepper import finished
from optenvs.core.struct import select, tree_map

from .by_agent import PolicyByAgent


def bind(agent: SupportsActing, env: Any) -> Policy | PolicyByAgent:
    """``agent`` as a policy on ``env``: numpy for ``gym.make``, tensors or numpy for ``gym.make_vec``.

    On PettingZoo's faces it is the policy of each of the problem's agents, see
    :class:`agents.by_agent.PolicyByAgent`.

    Args:
        agent: anything with ``init`` and ``act``.
        env: an environment of this project, or wrappers of Gymnasium's or PettingZoo's around one that leave
            observation and action as they are.

    Raises:
        TypeError: ``env`` or ``agent`` is something else, or the agent moves all agents together (it says so
            by ``together = True``), and the environment shows them one by one.
        OracleMismatch: the agent needs an oracle that the environment does not answer.
    """
    base = getattr(env, "unwrapped", env)
    core = getattr(base, "core", None)
    if core is None or not hasattr(base, "get_state"):
        raise TypeError(
            "env: expected an environment of optenvs made by gym.make or gym.make_vec, or a face of "
            f"PettingZoo's, got {type(base).__name__}; for a pure environment use optenvs.rollout"
        )
    if not isinstance(agent, SupportsActing):
        raise TypeError(f"agent: expected an object with init and act, got {type(agent).__name__}")
    check_oracles(type(agent).__name__, getattr(agent, "needs", ()), core.name, core.oracles)
    if isinstance(core, MultiAgentEnv) and hasattr(base, "possible_agents"):
        if getattr(agent, "together", False):
            raise TypeError(
                f"agent: {type(agent).__name__} moves all {core.agents} agents of {core.name} together and "
                f"cannot run {core.agent_name} by {core.agent_name}; use optenvs.rollout, or gym.make"
            )
        return PolicyByAgent(agent, base)
    return Policy(agent, base, batched=hasattr(base, "num_envs"))


class Policy:
    """An agent with its memory. Rows that begin an episode (``k == 0``) are given a fresh memory.

    Attributes:
        state: the agent's memory.
    """

    def __init__(self, agent: SupportsActing, base: Any, batched: bool) -> None:
        self.agent = agent
        self.state: Any = None
        self._base, self._batched = base, batched
        self._seen_one = False  # whether some episode has begun
        self._begun = False  # whether its memory is that of the observation to come

    def reset(self, observation: dict[str, Any], info: dict[str, Any] | None = None) -> None:
        """Begin with the first observation of ``env.reset``: in all rows, or in those that it has reset."""
        self._check(observation)
        self._begun = False
        with torch.no_grad():
            self._begin(self._tensors(observation))

    def __call__(self, observation: dict[str, Any]) -> Any:
        """The action, or a dict of its parts: for one instance in numpy, for a batch as it was observed.

        Where the agent has finished, the next step ends the episode, whatever the action, unbilled.
        """
        self._check(observation)
        with torch.no_grad():
            seen = self._tensors(observation)
            self._begin(seen)
            action, self.state = self.agent.act(self.state, seen)
            said = finished(self.state)
            if said is not None and bool(said.any()):
                self._base.finish(said) if self._batched else self._base.finish()
        self._begun = False
        if isinstance(observation["k"], Tensor):
            return action
        return tree_map(lambda leaf: (leaf if self._batched else leaf[0]).cpu().numpy().copy(), action)

    def _begin(self, seen: dict[str, Tensor]) -> None:
        """Give a fresh memory to the rows whose episode begins, unless ``reset`` just has."""
        first = seen["k"][:, 0] == 0
        if not self._seen_one and not bool(first.all()):
            raise RuntimeError("policy: an episode is under way whose beginning it has not seen")
        if self._begun or not bool(first.any()):
            return
        episode = self._base.get_state().state
        try:
            fresh = self.agent.init(episode.problem, seen, agent_keys(episode.key))
        except KeyError as error:
            raise explained(error, self.agent, self._base.core.name, seen) from error
        self.state = fresh if bool(first.all()) else select(first, fresh, self.state)
        self._seen_one = self._begun = True

    def _tensors(self, observation: dict[str, Any]) -> dict[str, Tensor]:
        if isinstance(observation["k"], Tensor):
            return observation
        device = self._base.core.torch_device
        # copies: an environment may fill the same arrays again, and agents keep what they see
        seen = {name: torch.tensor(value, device=device) for name, value in observation.items()}
        return seen if self._batched else {name: value.unsqueeze(0) for name, value in seen.items()}

    def _check(self, observation: Any) -> None:
        if not isinstance(observation, dict) or "k" not in observation:
            kind = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
            raise TypeError(
                "observation: expected the environment's own dict with 'k', got "
                f"{kind}; a wrapper has changed it, and an agent could not read it"
            )
        wanted = (Tensor, np.ndarray) if self._batched else (np.ndarray,)
        if not isinstance(observation["k"], wanted):
            names = "Tensors or ndarrays" if self._batched else "ndarrays"
            raise TypeError(f"observation: expected {names}, got {type(observation['k']).__name__} in 'k'")
