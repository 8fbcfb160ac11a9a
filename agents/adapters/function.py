"""A plain function as an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from optenvs.core.env import Action
from optenvs.core.random import Keys

from ..core import Agent, Observation


@dataclass(frozen=True, eq=False)
class FunctionAgent(Agent):
    """An agent without memory: ``function(observation)`` is the action.

    Args:
        function: from a dict of tensors with leading dimension ``B`` to the queries of the ``B`` instances.
        needs: the oracle kinds without which it cannot run.
    """

    function: Callable[[Observation], Action]
    # the object's, where other agents have the class's
    needs: tuple[str, ...] = field(default=(), kw_only=True)  # type: ignore[misc]

    def init(self, problem: Any, observation: Observation, keys: Keys) -> None:
        return None

    def act(self, state: None, observation: Observation) -> tuple[Action, None]:
        return self.function(observation), None


def from_function(function: Callable[[Observation], Action], needs: Iterable[str] = ()) -> FunctionAgent:
    """The agent of a function ``observation -> action`` over a batch.

    Args:
        function: pure; see :class:`FunctionAgent`. Gradient descent is
            ``lambda seen: seen["point"] - 0.1 * seen["gradient"]``.
        needs: the oracle kinds that it reads.

    Raises:
        TypeError: ``function`` cannot be called, or ``needs`` is a single string.
    """
    if not callable(function):
        raise TypeError(f"function: expected a callable, got {type(function).__name__}")
    if isinstance(needs, str):
        raise TypeError(f"needs: expected a tuple of oracle kinds, got the string {needs!r}")
    return FunctionAgent(function, needs=tuple(needs))
