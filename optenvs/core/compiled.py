"""An episode under way: one step of agent and environment at a time, or some as one compiled function."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree

from .env import OptimizationEnv, State
from .struct import select, tensors, tree_map

T = TypeVar("T")


class Entry(NamedTuple):
    """What a record keeps of a state."""

    metrics: dict[str, Tensor]
    calls: Tensor
    merit: Tensor
    best: Tensor
    reward: Tensor
    done: Tensor
    recorded: dict[str, Tensor]


Place = tuple[Any, State]
"""The agent's memory and the state of the environment."""

Advance = Callable[[Any, State], tuple[Any, State, list[Entry]]]

KEPT = 8
"""Compiled functions that are kept, each for one environment, agent, record and size."""


def freeze(before: State, after: State) -> State:
    """``after``, but rows whose episode was over in ``before`` stay as they were, with reward 0."""
    still = dataclasses.replace(before, reward=torch.zeros_like(before.reward))
    return select(before.done, still, after)


@dataclasses.dataclass(frozen=True)
class Stepper:
    """Steps of one agent on one environment, and what the record keeps of them.

    Attributes:
        env, agent: as in ``rollout``.
        record: observation fields to keep.
        seen: what the agent gets of an observation; ``None`` for all of it.
    """

    env: OptimizationEnv
    agent: Any
    record: tuple[str, ...] = ()
    seen: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None

    def entry(self, state: State) -> Entry:
        """What the record keeps of ``state``."""
        recorded = {field: state.observation[field] for field in self.record}
        return Entry(
            state.metrics, state.calls.counts, state.merit, state.best, state.reward, state.done, recorded
        )

    def sight(self, state: State) -> dict[str, Tensor]:
        """What the agent gets to see."""
        return state.observation if self.seen is None else self.seen(state.observation)

    def step(self, agent_state: Any, state: State, over: bool) -> Place:
        """One step; ``over`` says whether a row may be done."""
        action, agent_state = self.agent.act(agent_state, self.sight(state))
        after = self.env.step(state, action)
        return agent_state, freeze(state, after) if over else after

    def steps(
        self, fused: Advance, agent_state: Any, state: State, over: bool
    ) -> tuple[Any, State, list[Entry]]:
        """The steps of a compiled function; ``over`` says whether a row may be done."""
        agent_state, after, entries = fused(agent_state, state)
        if over and len(entries) == 1:  # several steps see to it by themselves
            after = freeze(state, after)
            entries = [self.entry(after)]
        return agent_state, after, entries

    def fused(self, agent_state: Any, state: State, steps: int) -> Advance:
        """``steps`` steps as one compiled function. Where it is new it is called here once, to compile it.

        It does for places with tensors of the same shapes as in the one given.

        Raises:
            TypeError: the agent's memory or the state keeps numbers or objects that a step changes.
        """
        place = agent_state, state
        shapes = tuple((name, x.shape, x.dtype, x.device) for name, x in tensors(place).items())
        settings = torch.get_num_threads(), torch.get_default_dtype()
        program = _compiled(_Same(self.env), _Same(self.agent), self.record, steps, (shapes, settings))
        if not program.ready:
            self._compile(program, place)
        return program.advance

    def _compile(self, program: _Program, place: Place) -> None:
        with warnings.catch_warnings():
            # what is cached depends on its arguments alone; pairs of normal numbers are made as complex ones
            for known in (
                "Dynamo detected a call to a `functools.lru_cache`",
                "Torchinductor does not .*complex",
            ):
                warnings.filterwarnings("ignore", known, UserWarning)
            reached = program.advance(*_apart(place))[:2]
        if _constants(reached) != _constants(place):
            raise TypeError(
                f"compile: what {type(self.agent).__name__} or {self.env.name} keeps must be tensors; "
                "something else changed in a step and would be held fixed"
            )
        program.ready = True


@dataclasses.dataclass
class _Program:
    """A function that is compiled at its first call; ``ready`` once that was made, and found to be sound."""

    advance: Advance
    ready: bool = False


@lru_cache(maxsize=KEPT)
def _compiled(env: _Same, agent: _Same, record: tuple[str, ...], steps: int, _for: Any) -> _Program:
    stepper = Stepper(env.it, agent.it, record)

    def advance(agent_state: Any, state: State) -> tuple[Any, State, list[Entry]]:
        entries = []
        for _ in range(steps):
            agent_state, state = stepper.step(agent_state, state, over=steps > 1)
            entries.append(stepper.entry(state))
        return agent_state, state, entries

    # All that a guard would look at before each call is in the arguments of this function; looking takes
    # longer than a small step. What is compiled belongs to a code object, so that each needs its own.
    advance.__code__ = advance.__code__.replace()
    unguarded: dict[str, Any] = {"guard_filter_fn": lambda guards: [False for _ in guards]}
    return _Program(torch.compile(advance, fullgraph=True, dynamic=False, options=unguarded))


def _apart(tree: T) -> T:
    """The same tree without a tensor in two places, which tracing would take for a rule."""
    known: set[int] = set()

    def once(leaf: Tensor) -> Tensor:
        if id(leaf) in known:
            return leaf.clone()
        known.add(id(leaf))
        return leaf

    return tree_map(once, tree)


def _constants(tree: Any) -> Any:
    """All that is no tensor: the classes and keys of the tree, numbers, names."""
    leaves, form = _pytree.tree_flatten(tree)
    return form, [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]


class _Same:
    """A thing that equals itself only, whatever it thinks of equality."""

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)
