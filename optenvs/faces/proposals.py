"""The agents' actions as one query of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

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
_FEW = 64  # so many numbers are looked at one by one: a pass over the array costs as much


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
        self._on_host = self._device.type == "cpu"
        self._pick = itemgetter(*names) if len(names) > 1 else lambda actions: (actions[names[0]],)
        self._plain = not isinstance(space, spaces.Dict)
        parts = space.items() if isinstance(space, spaces.Dict) else [("action", space)]
        self._fields = {field: _Form.of(part) for field, part in parts}

    def collect(self, actions: Mapping[str, Any]) -> Action:
        """The query of all agents, ``(1, N, *shape)`` a field, from their actions by name.

        Raises:
            InvalidAction: an agent or a field of its action is missing, unknown, of another form, no finite
                number or out of bounds; the message names both.
        """
        if not isinstance(actions, dict | Mapping):  # of a dict the first answers, in a tenth of the time
            raise InvalidAction(f"actions: expected a dict by agent, got {type(actions).__name__}")
        try:
            given = self._pick(actions)
        except KeyError as error:
            raise InvalidAction(f"{error.args[0]}: its action is missing") from None
        if len(actions) != len(given):
            unknown = next(name for name in actions if name not in self._names)
            raise InvalidAction(f"{unknown}: is no agent of this episode, and cannot act")
        rows = self._stacked(given)
        if rows is None:  # one by one it takes N times as long, and says whose fault it is
            single = [self._checked(name, action) for name, action in zip(self._names, given, strict=True)]
            rows = {field: np.stack([row[field] for row in single]) for field in self._fields}
        return self._query(rows)

    def put(self, rows: Rows, index: int, action: Any) -> None:
        """Write the action of agent ``index`` into its row of ``rows``.

        Raises:
            InvalidAction: see :meth:`collect`; ``rows`` are as they were.
        """
        if self._plain:
            if self._fields["action"].fits(action):
                rows["action"][index] = action
                return
        elif self._fits(action):
            for field, array in rows.items():
                array[index] = action[field]
            return
        given = self._checked(self._names[index], action)
        for field, array in rows.items():
            array[index] = given[field]

    def _fits(self, given: Any) -> bool:
        if not isinstance(given, dict) or given.keys() != self._fields.keys():
            return False
        for field, form in self._fields.items():  # noqa: SIM110 (all() of a generator takes longer)
            if not form.fits(given[field]):
                return False
        return True

    def _checked(self, name: str, action: Any) -> Rows:
        """The action of agent ``name`` as arrays of the space's form, ``(*shape)`` each."""
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
        if self._plain and self._on_host:
            return torch.from_numpy(rows["action"][None])  # the usual case, in half the time
        tensors = {
            field: torch.from_numpy(_mean(value) if field in self._team else value[None])
            for field, value in rows.items()
        }
        if not self._on_host:
            tensors = {field: value.to(self._device) for field, value in tensors.items()}
        return tensors["action"] if self._plain else tensors

    def _stacked(self, given: Sequence[Any]) -> Rows | None:
        """The actions of all agents, copied; ``None`` if one of them does not fit."""
        if self._plain:
            array = self._fields["action"].stack(given)
            return None if array is None else {"action": array}
        if not all(isinstance(action, dict) and action.keys() == self._fields.keys() for action in given):
            return None
        rows: Rows = {}
        for field, form in self._fields.items():
            array = form.stack([action[field] for action in given])
            if array is None:
                return None
            rows[field] = array
        return rows


class _Form(NamedTuple):
    """What an action's field must be: found once, because asking a space costs more than the check.

    Attributes:
        ends: the least and the greatest number, where they are the same for all coordinates; without a bound
            those of the dtype, so that an infinity is out of them, too.
        bounds: the least and the greatest by coordinate, where they are not.
    """

    space: spaces.Space
    dtype: np.dtype
    shape: tuple[int, ...]
    ends: tuple[float, float] | None
    bounds: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, space: spaces.Space) -> _Form:
        assert isinstance(space, spaces.Box) and space.dtype is not None
        dtype, ends, bounds = np.dtype(space.dtype), None, (space.low, space.high)
        if dtype.kind in "fi":
            limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            if _constant(space.low) and _constant(space.high):
                low, high = (np.clip(bound.flat[0], limits.min, limits.max) for bound in bounds)
                ends = (low.item(), high.item())
            else:
                bounds = (np.maximum(space.low, limits.min), np.minimum(space.high, limits.max))
        return cls(space, dtype, tuple(space.shape), ends, bounds)

    def fits(self, array: Any) -> bool:
        """Whether ``array`` is one of this dtype and shape, finite, and within the bounds."""
        # the very class: a masked array is of a subclass, and its mask must not be dropped
        if not (type(array) is np.ndarray and array.dtype == self.dtype and array.shape == self.shape):
            return False
        return self._allows(array)

    def _allows(self, array: np.ndarray) -> bool:
        """Whether all numbers are finite and within the bounds."""
        if self.ends is None:
            return bool(((array >= self.bounds[0]) & (array <= self.bounds[1])).all())
        low, high = self.ends
        if array.size <= _FEW:
            for number in array.ravel().tolist():  # noqa: SIM110 (all() of a generator takes longer)
                if not low <= number <= high:  # of NaN no comparison holds
                    return False
            return True
        # torch's pass finds both ends at once, and NaN if there is one; it shares memory of this form only
        least, most = torch.from_numpy(array if array.flags.carray else array.copy()).aminmax()
        return low <= least.item() and most.item() <= high

    def stack(self, given: Sequence[Any]) -> np.ndarray | None:
        """``given`` as one array, a row each; ``None`` if anything in it does not fit."""
        for one in given:  # before a copy: what is large, masked or no number goes the way that says so
            if type(one) is not np.ndarray or one.shape != self.shape or one.dtype.kind == "b":
                return None
        try:
            array = np.array(given)
            if array.dtype != self.dtype:
                made = as_action(self.space, array, len(given), _HOST)
                assert isinstance(made, Tensor)
                array = made.numpy()
        except (InvalidAction, ValueError, TypeError, RuntimeError):
            return None
        return array if array.shape == (len(given), *self.shape) and self._allows(array) else None


def _constant(bound: np.ndarray) -> bool:
    """Whether all coordinates have one bound; a broadcast one need not be looked through."""
    return bound.strides == (0,) * bound.ndim or bool(bound.size and (bound == bound.flat[0]).all())


def _mean(proposals: np.ndarray) -> np.ndarray:
    """The mean over the agents, ``(1, *shape)``; of whole numbers the nearest whole number."""
    mean = proposals.mean(0, keepdims=True, dtype=np.float64)
    return (mean if proposals.dtype.kind == "f" else mean.round()).astype(proposals.dtype)
