"""The agents' actions as one query of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import InvalidAction
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.spaces import as_action, check_action

Rows = dict[str, np.ndarray]
"""What every agent proposes, by field, ``(N, *shape)`` each; a plain Box is the field ``action``."""
_HOST = torch.device("cpu")


class Proposals:
    """Between one action an agent and one query: checks, stacks, and averages what belongs to the team.

    Args:
        core: the problem.
        names: what its agents are called.
    """

    def __init__(self, core: MultiAgentEnv, names: Sequence[str]) -> None:
        self.space = core.agent_action_space
        self.names = names
        self.team = frozenset(core.team_action_fields())
        self.device = core.torch_device
        self.plain = not isinstance(self.space, spaces.Dict)
        self.fields: tuple[str, ...] = (
            tuple(self.space) if isinstance(self.space, spaces.Dict) else ("action",)
        )

    def collect(self, actions: Mapping[str, Any]) -> Action:
        """The query of all agents, ``(1, N, *shape)`` a field, from their actions by name.

        Raises:
            InvalidAction: an agent or a field of its action is missing, unknown, of another form, no finite
                number or out of bounds; the message names both.
        """
        if not isinstance(actions, Mapping):
            raise InvalidAction(f"actions: expected a dict by agent, got {type(actions).__name__}")
        try:
            given = [actions[name] for name in self.names]
        except KeyError as error:
            raise InvalidAction(f"{error.args[0]}: its action is missing") from None
        if len(actions) != len(given):
            unknown = next(name for name in actions if name not in set(self.names))
            raise InvalidAction(f"{unknown}: is no agent of this episode, and cannot act")
        try:
            stacked = as_action(self.space, self._stacked(given), len(given), _HOST)
            check_action(self.space, stacked)
        except (InvalidAction, ValueError, TypeError, KeyError, IndexError):
            # whose fault it is takes N times as long to find out
            single = [self.check(name, action) for name, action in zip(self.names, given, strict=True)]
            return self.query({name: np.stack([row[name] for row in single]) for name in self.fields})
        return self._query(stacked if isinstance(stacked, dict) else {"action": stacked})

    def check(self, name: str, action: Any) -> Rows:
        """The action of agent ``name`` as arrays of the space's form, ``(*shape)`` each.

        Raises:
            InvalidAction: see :meth:`collect`.
        """
        try:
            made = as_action(self.space, action, None, _HOST)
            check_action(self.space, made)
        except InvalidAction as error:
            raise InvalidAction(f"{name}: {str(error).removesuffix(' for instance 0')}") from None
        tensors = made if isinstance(made, dict) else {"action": made}
        return {field: value.numpy()[0] for field, value in tensors.items()}

    def rows(self, query: Action) -> Rows:
        """A query, ``(1, N, *shape)`` a field, taken apart; what is the team's, everyone proposes."""
        tensors = query if isinstance(query, dict) else {"action": query}
        return {field: self._own(field, value[0].cpu()) for field, value in tensors.items()}

    def _own(self, field: str, value: Tensor) -> np.ndarray:
        rows = value.expand(len(self.names), *value.shape) if field in self.team else value
        return rows.numpy().copy()

    def query(self, rows: Rows) -> Action:
        """The query that ``rows`` (checked before) make together."""
        return self._query({field: torch.from_numpy(value.copy()) for field, value in rows.items()})

    def _query(self, tensors: dict[str, Tensor]) -> Action:
        joined = {
            field: (_mean(value) if field in self.team else value.unsqueeze(0)).to(self.device)
            for field, value in tensors.items()
        }
        return joined["action"] if self.plain else joined

    def _stacked(self, given: list[Any]) -> Any:
        if self.plain:
            return np.array(given)
        if any(len(action) != len(self.fields) for action in given):
            raise InvalidAction("action: another number of fields")
        return {field: np.array([action[field] for action in given]) for field in self.fields}


def _mean(proposals: Tensor) -> Tensor:
    """The mean over the agents, ``(1, *shape)``; of whole numbers the nearest whole number."""
    mean = proposals.to(torch.float64).mean(0, keepdim=True)
    return (mean if proposals.is_floating_point() else mean.round()).to(proposals.dtype)
