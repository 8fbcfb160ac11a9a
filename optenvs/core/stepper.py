"""An episode under way: one step of agent and environment at a time, or some as one compiled function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor
from torch.utils import _pytree

from .compiled import Program
from .env import OptimizationEnv, State
from .errors import InvalidAction, explained
from .offer import WANT
from .oracles import inside_transform
from .state import stopped
from .struct import replace, select, stack, tensors, tree_map
from .work import Path, ledger_at, resting


class Entry(NamedTuple):
    """What a record keeps of a state."""

    metrics: dict[str, Tensor]
    calls: Tensor
    merit: Tensor
    best: Tensor
    reward: Tensor
    done: Tensor
    recorded: dict[str, Tensor]
    work: Tensor | None = None


Trees = tuple[Any, State]
"""The agent's memory and the state of the environment."""

KEPT = 8
"""Compiled functions that are kept, each for one environment, agent, record and size."""


class History:
    """The entries of a run, stacked some at a time: a dozen small tensors a step take 5 kB.

    Attributes:
        last: the last entry.
    """

    TOGETHER = 64

    def __init__(self, first: Entry) -> None:
        self.last = first
        self._loose, self._stacked = [first], []

    def extend(self, entries: list[Entry]) -> None:
        """Append them."""
        self.last = entries[-1]
        self._loose += entries
        if len(self._loose) >= self.TOGETHER:
            self._stacked.append(stack(self._loose))
            self._loose = []

    def stacked(self) -> Entry:
        """All as one entry, with time as the leading dimension."""
        parts = [*self._stacked, stack(self._loose)] if self._loose else self._stacked
        return parts[0] if len(parts) == 1 else tree_map(lambda *leaves: torch.cat(leaves), *parts)


def freeze(before: State, after: State) -> State:
    """``after``, but rows whose episode was over in ``before`` stay as they were, with reward 0."""
    still = dataclasses.replace(before, reward=torch.zeros_like(before.reward))
    return select(before.done, still, after)


def finished(memory: Any) -> Tensor | None:
    """The rows whose agent has finished, ``(B,)``: the field of that name of its memory; ``None`` without."""
    said = getattr(memory, "finished", None)
    return said if isinstance(said, Tensor) else None


def unset(mask: Tensor) -> bool:
    """Whether no row is set, where the host may know it without waiting or being recorded."""
    return mask.device.type == "cpu" and not inside_transform(mask) and not bool(mask.any())


def may_hold(mask: Tensor) -> bool:
    """Whether to expect a set row. On an accelerator: always, because looking would wait for it."""
    return bool(mask.any()) if mask.device.type == "cpu" else True


def _beside(mask: Tensor, part: Tensor) -> Tensor:
    return mask.reshape(mask.shape + (1,) * (part.ndim - mask.ndim))


class Idle:
    """Notices a run that only its budget would end, and that asks nothing any more."""

    PATIENCE = 1000
    """Steps without a bill, of what the budget limits, in any live row after which it cannot be thinking."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self._before: tuple[Tensor, Any] | None = None
        self._next = self.PATIENCE

    def look(self, step: int, place: Place) -> None:
        """Raise ``RuntimeError`` where nothing was billed and no agent worked since the last look."""
        if step < self._next:
            return
        memory, state = place.trees
        work = self._stepper.work
        limited = torch.stack([state.calls[kind] for kind in self._stepper.env.limits], -1)
        now = limited, None if work is None else ledger_at(memory, work).counts
        before, self._before, self._next = self._before, now, step + self.PATIENCE
        if before is None:
            return
        unbilled = (now[0] == before[0]).all(-1)
        at_work = torch.zeros_like(unbilled) if now[1] is None else (now[1] != before[1]).any(-1)
        if bool((state.done | (unbilled & ~at_work)).all()) and not bool(state.done.all()):
            agent, env = type(self._stepper.agent).__name__, self._stepper.env.name
            raise RuntimeError(
                f"rollout: {agent} has asked nothing of {env} that its budget limits for {self.PATIENCE} "
                "steps, and nothing else ends this run; give steps=, or let the agent's memory say finished"
            )


def first_order(env: OptimizationEnv) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """What an agent sees where the oracle's answers are to be constants: all but the live fields detached."""
    return lambda observation: {k: v if k in env.live else v.detach() for k, v in observation.items()}


@dataclasses.dataclass(frozen=True)
class Stepper:
    """Steps of one agent on one environment, and what the record keeps of them.

    Attributes:
        env, agent: as in ``rollout``.
        record: observation fields to keep.
        seen: what the agent gets of an observation; ``None`` for all of it.
        work: where the agent's memory has the ledger of its work, see :func:`optenvs.core.work.find`.
        first: whether it is the first step of a run, whose action is held against the space.
    """

    env: OptimizationEnv
    agent: Any
    record: tuple[str, ...] = ()
    seen: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    work: Path | None = None
    first: bool = False

    def entry(self, trees: Trees) -> Entry:
        """What the record keeps of them."""
        memory, state = trees
        shown = self.env.recordable(state) | state.observation if self.record else {}
        recorded = {field: shown[field] for field in self.record}
        work = None if self.work is None else ledger_at(memory, self.work).counts
        return Entry(
            state.metrics,
            state.calls.counts,
            state.merit,
            state.best,
            state.reward,
            state.done,
            recorded,
            work,
        )

    def sight(self, state: State) -> dict[str, Tensor]:
        """What the agent gets to see."""
        return state.observation if self.seen is None else self.seen(state.observation)

    def step(self, agent_state: Any, state: State, over: bool) -> Trees:
        """One step; ``over`` says whether a row may be done."""
        sight = self.sight(state)
        try:
            action, memory = self.agent.act(agent_state, sight)
        except KeyError as error:
            raise explained(error, self.agent, self.env.name, sight) from error
        if self.first:
            self._check(action, len(state.k))
        if over and isinstance(action, dict) and WANT in action:  # the answers to a row that is over count
            wanted = action[WANT]  # for nothing: on a menu it wants none
            action = action | {WANT: wanted.masked_fill(_beside(state.done, wanted), 0)}
        after = self.env.step(state, action)
        said = finished(memory)
        if said is not None:
            if over:  # what an agent says of an episode that is over does not count
                earlier = finished(agent_state)
                said = said if earlier is None else torch.where(state.done, earlier, said)
                memory = replace(memory, finished=said)
            if not unset(said):
                after = select(said, stopped(state), after)
        if not over:
            return memory, after
        if self.work is not None:
            memory = resting(state.done, agent_state, memory, self.work)
        return memory, freeze(state, after)

    def _check(self, action: Any, batch: int) -> None:
        """Refuse one tensor that is no action: another number of coordinates may fit by chance, in part."""
        space = self.env.action_space
        if isinstance(action, Tensor) and isinstance(space, spaces.Box):
            expected = (batch, *space.shape)
            if tuple(action.shape) != expected:
                raise InvalidAction(
                    f"action: {self.env.name} takes shape {expected}, agent {type(self.agent).__name__} "
                    f"gave {tuple(action.shape)}"
                )

    def fused(self, place: Place, steps: int, over: bool) -> Fused:
        """``steps`` steps from places like this one, compiled; ``over`` says whether a row may be done.

        Where it is new it is compiled here.

        Raises:
            TypeError: a step changes something else than tensors, or asks for their values to decide.
        """
        settings = torch.get_num_threads(), torch.get_default_dtype()
        over = over or steps > 1  # a row may end between two of them
        fused = _fused(
            _Same(self.env),
            _Same(self.agent),
            self.record,
            self.work,
            steps,
            over,
            _Form(place.trees),
            settings,
        )
        fused.prepare(place)
        return fused


class Place:
    """Where a run stands: the agent's memory and the state, or their tensors until somebody asks for these.

    Args:
        trees: the two of them, or
        form, leaves: their form, and their tensors in its order.
    """

    def __init__(
        self, trees: Trees | None = None, form: _Form | None = None, leaves: list[Tensor] | None = None
    ) -> None:
        self._trees, self._form, self._leaves = trees, form, leaves

    @property
    def trees(self) -> Trees:
        """The agent's memory and the state."""
        if self._trees is None:
            assert self._form is not None and self._leaves is not None
            self._trees = self._form.filled(self._leaves)
        return self._trees

    @property
    def state(self) -> State:
        """The state of the environment."""
        return self.trees[1]

    @property
    def leaves(self) -> list[Tensor]:
        """All tensors, contiguous."""
        if self._leaves is None:
            self._leaves = [leaf.contiguous() for leaf in tensors(self.trees).values()]
        return self._leaves


class Fused:
    """Some steps as one function, for places of one form; compiled when it is prepared with one."""

    def __init__(self, stepper: Stepper, form: _Form, steps: int, over: bool) -> None:
        self._stepper, self._form, self._steps, self._over = stepper, form, steps, over
        self._metrics: tuple[str, ...] = ()
        self._program: Program | None = None

    def prepare(self, example: Place) -> None:
        """Compile it, where that was not done."""
        if self._program is None:
            self._metrics = tuple(example.state.metrics)
            self._program = Program(self._advance, example.leaves)

    def _advance(self, leaves: list[Tensor]) -> list[Tensor]:
        stepper, trees, entries = self._stepper, self._form.filled(leaves), []
        for _ in range(self._steps):
            trees = stepper.step(*trees, self._over)
            entries.append(stepper.entry(trees))
        if _Form(trees) != self._form:
            raise TypeError(
                f"compile: what {type(stepper.agent).__name__} or {stepper.env.name} keeps must be tensors "
                "whose shapes stay; something else changed in a step and would be held fixed"
            )
        reached = tensors(trees)
        kept = [leaf for entry in entries for leaf in tensors(entry).values()]
        return [reached[name] for name in self._form.names] + kept

    def __call__(self, place: Place) -> tuple[Place, list[Entry]]:
        """Where the steps lead, and what the record keeps of each."""
        assert self._program is not None
        found = self._program(place.leaves)
        width = len(self._form.names)
        size = (len(found) - width) // self._steps
        entries = [self._entry(found[i : i + size]) for i in range(width, len(found), size)]
        return Place(form=self._form, leaves=found[:width]), entries

    def _entry(self, leaves: list[Tensor]) -> Entry:
        left = iter(leaves)  # as `tensors` lists an entry
        metrics = {name: next(left) for name in self._metrics}
        calls, merit, best, reward, done = islice(left, 5)
        recorded = {name: next(left) for name in self._stepper.record}
        return Entry(metrics, calls, merit, best, reward, done, recorded, next(left, None))


@lru_cache(maxsize=KEPT)
def _fused(
    env: _Same,
    agent: _Same,
    record: tuple[str, ...],
    work: Path | None,
    steps: int,
    over: bool,
    form: _Form,
    _settings: Any,
) -> Fused:
    return Fused(Stepper(env.it, agent.it, record, work=work), form, steps, over)


class _Form:
    """All of a place but the numbers in its tensors.

    Attributes:
        names: of the tensors.
    """

    def __init__(self, trees: Trees) -> None:
        found = tensors(trees)
        self.names = tuple(found)
        self._kinds = tuple((name, x.shape, x.dtype, x.device) for name, x in found.items())
        leaves, tree = _pytree.tree_flatten(trees)
        self._rest = tree, [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        nothing = torch.empty(0)
        self._empty = tree_map(lambda _: nothing, trees)

    def filled(self, leaves: list[Tensor]) -> Trees:
        """The place with these tensors."""
        left = iter(leaves)
        return tree_map(lambda _: next(left), self._empty)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Form):
            return NotImplemented
        return self._kinds == other._kinds and self._rest == other._rest

    def __hash__(self) -> int:
        return hash(self._kinds)


class _Same:
    """A thing that equals itself only, whatever it thinks of equality."""

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)
