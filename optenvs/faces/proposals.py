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
"""What the agents propose, by field, ``(N, *shape)`` each; a plain Box is the field ``action``."""
_HOST = torch.device("cpu")


class Proposals:
    """Between one action an agent and one query: checks, stacks, and averages what belongs to the team.

    Args:
        core: the problem.
        names: what its agents are called.
    """

    def __init__(self, core: MultiAgentEnv, names: Sequence[str]) -> None:
        space = core.agent_action_space
        self._space = space
        self._names = names
        self._team = frozenset(core.team_action_fields())
        self._device = core.torch_device
        self._plain = not isinstance(space, spaces.Dict)
        self._fields: dict[str, spaces.Space] = (
            dict(space.items()) if isinstance(space, spaces.Dict) else {"action": space}
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
            given = [actions[name] for name in self._names]
        except KeyError as error:
            raise InvalidAction(f"{error.args[0]}: its action is missing") from None
        if len(actions) != len(given):
            unknown = next(name for name in actions if name not in self._names)
            raise InvalidAction(f"{unknown}: is no agent of this episode, and cannot act")
        rows = self._stacked(given)
        if rows is None:  # one by one it takes N times as long, and says whose fault it is
            single = [self.check(name, action) for name, action in zip(self._names, given, strict=True)]
            rows = {field: np.stack([row[field] for row in single]) for field in self._fields}
        return self._query(rows)

    def check(self, name: str, action: Any) -> Rows:
        """The action of agent ``name`` as arrays of the space's form, ``(*shape)`` each.

        Raises:
            InvalidAction: see :meth:`collect`.
        """
        try:
            made = as_action(self._space, action, None, _HOST)
            check_action(self._space, made)
        except InvalidAction as error:
            raise InvalidAction(f"{name}: {str(error).removesuffix(' for instance 0')}") from None
        tensors = made if isinstance(made, dict) else {"action": made}
        return {field: value.numpy()[0] for field, value in tensors.items()}

    def rows(self, query: Action) -> Rows:
        """A query, ``(1, N, *shape)`` a field, taken apart; what is the team's, everyone proposes."""
        tensors = query if isinstance(query, dict) else {"action": query}
        return {
            field: self._row_each(field, value[0].cpu()).numpy().copy() for field, value in tensors.items()
        }

    def query(self, rows: Rows) -> Action:
        """The query that ``rows`` (checked before, and kept) make together."""
        return self._query({field: value.copy() for field, value in rows.items()})

    def _row_each(self, field: str, value: Tensor) -> Tensor:
        return value.expand(len(self._names), *value.shape) if field in self._team else value

    def _query(self, rows: Rows) -> Action:
        tensors = {
            field: torch.from_numpy(_mean(value) if field in self._team else value[None])
            for field, value in rows.items()
        }
        if self._device.type != "cpu":
            tensors = {field: value.to(self._device) for field, value in tensors.items()}
        return tensors["action"] if self._plain else tensors

    def _stacked(self, given: list[Any]) -> Rows | None:
        """The actions of all agents, copied; ``None`` if one of them does not fit."""
        if self._plain:
            array = _array(self._space, given)
            return None if array is None else {"action": array}
        if not all(isinstance(action, dict) and len(action) == len(self._fields) for action in given):
            return None
        rows: Rows = {}
        for field, space in self._fields.items():
            try:
                array = _array(space, [action[field] for action in given])
            except KeyError:
                return None
            if array is None:
                return None
            rows[field] = array
        return rows


def _array(space: spaces.Space, given: list[Any]) -> np.ndarray | None:
    """``given`` as one array of the space's form; ``None`` if anything in it does not fit."""
    try:
        array = np.array(given)
        if array.dtype != space.dtype or array.shape != (len(given), *(space.shape or ())):
            made = as_action(space, array, len(given), _HOST)
            assert isinstance(made, Tensor)
            array = made.numpy()
        check_action(space, torch.from_numpy(array))
    except (InvalidAction, ValueError, TypeError):
        return None
    return array


def _mean(proposals: np.ndarray) -> np.ndarray:
    """The mean over the agents, ``(1, *shape)``; of whole numbers the nearest whole number."""
    mean = proposals.mean(0, keepdims=True, dtype=np.float64)
    return (mean if proposals.dtype.kind == "f" else mean.round()).astype(proposals.dtype)
