"""The contract of many agents: nodes of a network, particles of a swarm, as a second leading dimension ``N``.

The tensor environment is the environment: one query of it is the query of all ``N`` agents at once, and a
tensor of theirs has shape ``(B, N, ...)``. PettingZoo's environments are views of it (``optenvs.faces``):
they show each agent its own row, the fields that all agents share, and nothing else.
"""

from __future__ import annotations

import abc
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from .env import Action, OptimizationEnv, State
from .nodes import Node
from .random import Keys
from .spaces import stacked
from .struct import tree_map


@dataclass(frozen=True, eq=False, kw_only=True)
class MultiAgentEnv(OptimizationEnv):
    """A problem that ``N`` agents work on together.

    An author declares the fields of one agent; the spaces of the whole stack ``N`` of them. Fields of the
    *team* have no agent dimension (a swarm's one recommendation); in a multi-agent view each agent
    proposes its own, and the mean of the proposals is taken.

    What an agent may know of a problem is ``problem``, whose field ``local``, where it has one, holds tensors
    ``(B, N, ...)`` of which an agent sees its row only.
    """

    agent_name: ClassVar[str] = "agent"
    """What one agent is called: ``node`` makes ``node_0``, ``node_1``, ..."""
    public: ClassVar[tuple[str, ...]] = ()
    """Observation fields of the agents that each of them sees whole, as ``all_<name>``."""
    announcement: ClassVar[tuple[str, ...]] = ()
    """Observation fields that say what is asked of an agent next; zero in a turn that hands an answer."""
    reply: ClassVar[tuple[str, ...]] = ()
    """Observation fields that hold the answer; zero in a turn that only asks, where answers have turns."""

    @property
    @abc.abstractmethod
    def agents(self) -> int:
        """The number ``N`` of agents."""

    @abc.abstractmethod
    def agent_action_fields(self) -> spaces.Box | dict[str, spaces.Box]:
        """The space of one agent's part of a query."""

    @abc.abstractmethod
    def agent_observation_fields(self) -> dict[str, spaces.Box]:
        """The spaces of one agent's part of an answer."""

    def team_action_fields(self) -> dict[str, spaces.Box]:
        """The parts of a query that belong to the team."""
        return {}

    def team_observation_fields(self) -> dict[str, spaces.Box]:
        """The parts of an answer that belong to the team."""
        return {}

    def asked(self, state: State) -> Bool[Tensor, "B N"]:
        """The agents whose query the next step reads; the others' rows are ignored."""
        return torch.ones(len(state.k), self.agents, dtype=torch.bool, device=state.k.device)

    def answered(self, state: State) -> Bool[Tensor, "B N"]:
        """The agents to whom the last answer is handed in a turn of its own, before any is asked again."""
        return torch.zeros(len(state.k), self.agents, dtype=torch.bool, device=state.k.device)

    def unattended(self, state: State) -> Action | None:
        """The query in which none of the agents that are asked takes part, because all have left.

        ``None`` where their last proposals can stand for it: whom the next step asks depends on the time
        alone. A problem that waits for its agents says what ends the wait.
        """
        return None

    def event_by_event(self) -> MultiAgentEnv:
        """The same problem with one event a step, in order of time, where a step can hold several."""
        return self

    def local(self, problem: Any, index: int) -> Any:
        """What agent ``index`` may know of ``problem``: as if it were the only one, ``N = 1``."""
        if getattr(problem, "local", None) is None:
            return problem
        own = tree_map(lambda leaf: leaf[:, index : index + 1], problem.local)
        return dataclasses.replace(problem, local=own)

    def node(self, keys: Keys, index: int) -> Node:
        """Agent ``index`` of the instance ``keys`` ``(1,)``, for a process of its own.

        Raises:
            TypeError: its agents cannot run apart.
        """
        raise TypeError(f"{self.name}: its {self.agent_name}s cannot run in processes of their own")

    def survey(
        self, keys: Keys, published: Float[Tensor, "R N d"], time: Float[Tensor, "R"]
    ) -> dict[str, Tensor]:
        """The metrics of the instance ``keys`` ``(1,)`` when its agents stand behind these iterates.

        Args:
            keys: the instance.
            published: the iterates of all agents at ``R`` times.
            time: those times.

        Returns:
            Metrics by name, ``(R,)`` each.
        """
        raise TypeError(f"{self.name}: its {self.agent_name}s cannot run in processes of their own")

    @property
    def common(self) -> tuple[str, ...]:
        """Observation fields without agent dimension that every agent sees; by default the time."""
        return self.time_fields

    # What it gets ------------------------------------------------------------------------------

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        fields, team = self._action_parts
        if self._single:
            return stacked(fields["query"], self.agents)
        whole: dict[str, spaces.Space] = {n: stacked(space, self.agents) for n, space in fields.items()}
        return whole | team

    def observation_fields(self) -> dict[str, spaces.Space]:
        fields = self.agent_observation_fields()
        whole: dict[str, spaces.Space] = {n: stacked(space, self.agents) for n, space in fields.items()}
        return whole | self.team_observation_fields()

    @cached_property
    def _action_parts(self) -> tuple[dict[str, spaces.Box], dict[str, spaces.Box]]:
        fields = self.agent_action_fields()
        return fields if isinstance(fields, dict) else {"query": fields}, self.team_action_fields()

    @property
    def _single(self) -> bool:
        """Whether an action has one field only, and is no dict."""
        return not isinstance(self.agent_action_fields(), dict) and not self.team_action_fields()

    @cached_property
    def agent_action_space(self) -> spaces.Space:
        """The space of one agent's action in a multi-agent view; a Box where it has one field."""
        fields, team = self._action_parts
        parts: dict[str, spaces.Space] = {**fields, **team}
        return parts["query"] if self._single else spaces.Dict(parts)

    @cached_property
    def agent_observation_space(self) -> spaces.Dict:
        """The space of what one agent sees in a multi-agent view."""
        fields: dict[str, spaces.Space] = dict(self.agent_observation_fields())
        fields |= {name: self.observation_space[name] for name in self.common}
        fields |= {f"all_{name}": self.observation_space[name] for name in self.public}
        return spaces.Dict(fields)
