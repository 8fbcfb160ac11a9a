"""Objects with ``ask()`` and ``tell()`` as agents.

Such an object changes in place and cannot be looked into. What makes it a pure agent is replay: the state
holds the values told so far, and the live object of any state is rebuilt from its seed by asking and telling
again. Along a run that goes on this is never done (the agent keeps the live objects of the last state that it
returned); when a saved state is resumed or an older one is asked again, it costs the object's whole past.

What it cannot give: batching (a loop over instances on the host), gradients, and purity of an object that
draws from anywhere but its seed. The last is noticed at replay, and is an error.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation

_ROOM = 256


class AskTell(Protocol):
    """What the adapter drives.

    ``ask`` gives one point ``(n,)``, or a population of them, ``(m, n)`` or a list; ``tell`` is given what
    ``ask`` returned and the value, or the ``m`` values as an array. An object whose attribute ``finished`` is
    ``True`` after ``ask`` ends its row: that point is not evaluated, and the object is not called again.
    """

    def ask(self) -> Any: ...

    def tell(self, points: Any, values: Any) -> Any: ...


Factory = Callable[[np.ndarray, int], AskTell]


@struct
class AskTellState:
    """The past of ``B`` objects, from which they can be rebuilt.

    Attributes:
        seed: what each was made with, ``(B,)``.
        start: the first point of its instance, ``(B, n)``.
        asked: its last question, ``(B, n)``, whose value comes next.
        values: the answers to its questions, ``(B, room)``, or ``(B, room, w)`` where an answer is w numbers.
        count: questions so far, ``(B,)``.
        finished: whether the object says that it asks nothing more, ``(B,)``.
    """

    seed: Int64[Tensor, "B"]
    start: Float[Tensor, "B n"]
    asked: Float[Tensor, "B n"]
    values: Float[Tensor, "B room *w"]
    count: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]


class _Live:
    """One object and the population that it waits for; points are asked one by one."""

    def __init__(self, optimizer: AskTell) -> None:
        self._optimizer = optimizer
        self._returned: Any = None
        self._points: list[np.ndarray] = []
        self._values: list[Any] = []
        self._single = False

    @property
    def finished(self) -> bool:
        """Whether the object says that it has finished: its attribute of that name, where it has one."""
        return getattr(self._optimizer, "finished", False) is True

    def ask(self) -> np.ndarray:
        """The next point."""
        if not self._points:
            self._returned = self._optimizer.ask()
            points = np.asarray(self._returned, dtype=np.float64)
            if points.ndim not in (1, 2) or not points.size:
                raise ValueError(f"ask(): expected a point or a population, got shape {points.shape}")
            self._single = points.ndim == 1
            self._points = list(np.atleast_2d(points))
        return self._points[len(self._values)]

    def tell(self, value: Any) -> None:
        """The value of the point that :meth:`ask` gave."""
        self._values.append(value)
        if len(self._values) == len(self._points):
            told = self._values[0] if self._single else np.array(self._values)
            self._optimizer.tell(self._returned, told)
            self._points, self._values = [], []


@dataclass(frozen=True, eq=False)
class ReplayedAgent(Agent):
    """What the agents of objects with ``ask`` and ``tell`` share; a subclass makes the object of a row."""

    _live: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    needs = ("value",)
    on_host = True

    @abc.abstractmethod
    def build(self, state: Any, row: int) -> AskTell:
        """A new object for the instance ``row`` of ``state``."""

    def answers(self, observation: Observation) -> Float[Tensor, "B *w"]:
        """What the objects are told."""
        return observation["value"][:, 0]

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AskTellState:
        start, horizon = observation["point"], float(observation["N"].max())
        room = int(horizon) if math.isfinite(horizon) else _ROOM
        answer = self.answers(observation)
        return AskTellState(
            seed=keys & (2**31 - 1),  # what numpy and others take
            start=start,
            asked=start,
            values=answer.new_zeros((len(start), max(room, 1), *answer.shape[1:])),
            count=torch.zeros_like(keys),
            finished=torch.zeros_like(keys, dtype=torch.bool),
        )

    def act(self, state: Any, observation: Observation) -> tuple[Tensor, Any]:
        objects, values, over = self._objects(state), state.values, state.finished
        answers = self.answers(observation)
        counts, rest = state.count.tolist(), over.tolist()
        if max(counts) > values.shape[1]:  # without a budget the past has no known length
            values = torch.cat((values, torch.zeros_like(values)), 1)
        told = torch.arange(values.shape[1], device=values.device) == state.count.unsqueeze(1) - 1
        told = (told & ~over.unsqueeze(1)).reshape(told.shape + (1,) * (values.ndim - 2))
        values = torch.where(told, answers.unsqueeze(1), values)
        questions = []
        for row, (live, count, answer) in enumerate(zip(objects, counts, answers.tolist(), strict=True)):
            if rest[row]:  # it has nothing more to say, while others go on
                questions.append(state.asked[row].double().cpu().numpy())
                continue
            if count:  # the first answer is to the environment's own question
                live.tell(answer)
            questions.append(live.ask())
        asked = torch.from_numpy(np.stack(questions)).to(state.start)
        if asked.shape != state.start.shape:
            raise ValueError(
                f"ask(): expected points of {state.start.shape[1]} coordinates, got {asked.shape[1]}"
            )
        ended = torch.tensor([live.finished for live in objects], device=asked.device)
        after = replace(state, asked=asked, values=values, count=state.count + ~over, finished=ended)
        self._live.update(values=values, objects=objects)
        return asked, after

    def _objects(self, state: Any) -> list[_Live]:
        """The live objects of ``state``: those at hand, or rebuilt."""
        if self._live.get("values") is state.values:
            return self._live.pop("objects")
        return [self._replay(state, row) for row in range(len(state.seed))]

    def _replay(self, state: Any, row: int) -> _Live:
        live = _Live(self.build(state, row))
        count = int(state.count[row])
        for value in state.values[row, : max(count - 1, 0)].tolist():
            live.ask()
            live.tell(value)
        if count:
            again = torch.from_numpy(np.array(live.ask())).to(state.asked)
            if not torch.equal(again, state.asked[row]):
                raise RuntimeError(
                    "from_ask_tell: the object asks something else when it is rebuilt from its seed and told "
                    "the same values; it can be run once, but neither resumed nor branched"
                )
        return live


@dataclass(frozen=True, eq=False)
class AskTellAgent(ReplayedAgent):
    """One ask/tell object for each instance; see the module's docstring for its limits.

    Args:
        factory: makes the object from the instance's first point and an integer seed.
    """

    factory: Factory

    adapts = "factory"

    def build(self, state: AskTellState, row: int) -> AskTell:
        return self.factory(state.start[row].double().cpu().numpy(), int(state.seed[row]))


def from_ask_tell(factory: Factory) -> AskTellAgent:
    """The agent of an ask/tell optimizer.

    Args:
        factory: ``(start, seed) -> object`` with ``ask()`` and ``tell(points, values)``; ``start`` is a
            float64 array ``(n,)``. With pycma:
            ``lambda start, seed: cma.CMAEvolutionStrategy(start, 0.5, {"seed": seed + 1})``.

    Raises:
        TypeError: ``factory`` cannot be called.
    """
    if not callable(factory):
        raise TypeError(f"factory: expected a callable, got {type(factory).__name__}")
    return AskTellAgent(factory)
