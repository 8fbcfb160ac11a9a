"""Whether reset and step are pure functions of their arguments, row by row."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces

from optenvs.core import snapshot
from optenvs.core.env import Action, State
from optenvs.core.struct import is_struct, replace, rows, tensors

from .probe import TIME, NotApplicable, Probe, assemble, copy, differences, fields, generators, part

_HUGE = 1e30  # its square overflows float32


def _words(told: list[str], most: int = 3) -> str:
    rest = f" and {len(told) - most} more" if len(told) > most else ""
    return "; ".join(told[:most]) + rest


class _Repeat(NamedTuple):
    """What a second reset, step and evaluate did: other answers, and global generators drawn from so far."""

    differs: dict[str, list[str]]
    drawn: list[str]


def _repeat(probe: Probe) -> _Repeat:
    env, (keys, states, actions) = probe.env, probe.copies
    calls: dict[str, tuple[Callable[[], Any], Any]] = {
        "reset": (lambda: env.reset(keys), states[0]),
        "step": (lambda: env.step(states[0], actions[0]), states[1]),
        "evaluate": (lambda: env.evaluate(states[-1]), copy(probe.measured)),
    }
    differs = {name: differences(answer, call()) for name, (call, answer) in calls.items()}
    now = generators()
    return _Repeat(differs, [name for name in now if now[name] != probe.generators[name]])


def purity(probe: Probe) -> Iterator[str]:
    """``reset``, ``step`` and ``evaluate`` leave their arguments as they were."""
    keys, states, actions = probe.copies
    if told := differences({"keys": keys}, {"keys": probe.keys}):
        yield f"reset changed its argument in place: {_words(told)}"
    for number, (state, before) in enumerate(zip(probe.states, states, strict=True)):
        if told := differences(before, state):
            yield f"step or evaluate changed the state after query {number} in place: {_words(told)}"
            break
    if told := differences({"action": actions}, {"action": probe.actions}):
        yield f"step changed its action in place: {_words(told)}"


def determinism(probe: Probe) -> Iterator[str]:
    """The same call gives the same answer, bit for bit, whatever was called in between."""
    for name, told in probe.once(_repeat).differs.items():
        if told:
            yield f"{name} gave another answer to the same arguments: {_words(told)}"
    for number, (state, action, after) in enumerate(probe.transitions, 1):
        if told := differences(after, probe.env.step(state, action)):
            yield f"step {number} gave another answer to the same state and action: {_words(told)}"
            return


def global_randomness(probe: Probe) -> Iterator[str]:
    """No global generator is drawn from or seeded."""
    for name in probe.once(_repeat).drawn:
        yield f"reset or step used the global generator of {name}; draw from optenvs.core.random"


def instances(probe: Probe) -> Iterator[str]:
    """Instance i is the same alone as in the batch."""
    for i in range(probe.batch):
        alone = probe.env.reset(probe.keys[i : i + 1])
        told = _row_differences(probe.states[0], alone, i)
        if told:
            yield f"reset of key {i} alone differs from row {i} of the batch: {_words(told)}"
            return


def independence(probe: Probe) -> Iterator[str]:
    """Row i of a step depends on row i of its arguments only."""
    for number, (state, action, after) in enumerate(probe.transitions, 1):
        for i in range(probe.batch):
            one = slice(i, i + 1)
            alone = probe.env.step(rows(state, one), rows(action, one))
            if told := _row_differences(after, alone, i):
                yield f"step {number} of row {i} alone differs from row {i} of the batch: {_words(told)}"
                return
    if probe.env.evaluations is None:
        return
    for i in range(probe.batch):
        alone = probe.env.evaluate(rows(probe.states[-1], slice(i, i + 1)))
        if told := _row_differences(probe.measured, alone, i):
            yield f"evaluate of row {i} alone differs from row {i} of the batch: {_words(told)}"
            return


def _row_differences(batch: State, alone: State, row: int) -> list[str]:
    try:
        wanted = rows(batch, slice(row, row + 1))
    except IndexError:
        return ["a tensor of the state lacks the batch dimension"]
    return differences(wanted, alone, rounding=True, scale=wanted.merit)


def restore(probe: Probe) -> Iterator[str]:
    """A state saved, loaded and continued by a fresh environment goes on bit for bit."""
    middle = len(probe.actions) // 2
    fresh = dataclasses.replace(probe.env)
    with tempfile.TemporaryDirectory() as folder:
        path = snapshot.save(Path(folder) / "state", probe.states[middle])
        state = snapshot.load(path, probe.env.torch_device, _classes(probe.states[middle]))
    if told := differences(probe.states[middle], state):
        yield f"a state differs after save and load: {_words(told)}"
    for number, action in enumerate(probe.actions[middle:], middle + 1):
        state = fresh.step(state, action)
        if told := differences(probe.states[number], state):
            yield f"step {number} after a restore differs from the episode without: {_words(told)}"
            return


def _classes(tree: Any) -> tuple[type, ...]:
    """The classes of the structs in ``tree``, so that an author's own may be loaded."""
    if isinstance(tree, dict):
        children = list(tree.values())
    elif isinstance(tree, tuple | list):
        children = list(tree)
    elif is_struct(tree) or (dataclasses.is_dataclass(tree) and not isinstance(tree, type)):
        children = [getattr(tree, f.name) for f in dataclasses.fields(tree)]
    else:
        return ()
    found = {type(tree)} if dataclasses.is_dataclass(tree) else set()
    return tuple(found.union(*(_classes(child) for child in children)))


def divergence(probe: Probe) -> Iterator[str]:
    """A query far outside either has a finite merit or ends its episode; the other rows do not notice."""
    env, state, action = probe.env, probe.states[0], probe.actions[0]
    far = _far(probe, action)
    after = env.step(state, far)
    expected = rows(probe.states[1], slice(1, None))
    others = differences(expected, rows(after, slice(1, None)), rounding=True, scale=expected.merit)
    if others:
        yield f"a query far outside in row 0 changed other rows: {_words(others)}"
    for name in ("merit", "best", "reward"):
        if not bool(getattr(after, name)[0].isfinite()):
            yield f"a query far outside: {name}: expected a finite number, got {getattr(after, name)[0]}"
    if bool(after.diverged[0]):
        if not bool(after.truncated[0]) or bool(after.terminated[0]):
            yield "a diverged row: expected truncated and not terminated"
        return
    told = {name: value[0] for name, value in tensors(after.observation).items() if name not in TIME}
    infeasible = env.answer(replace(state, k=state.k + 1), far).infeasible
    if infeasible is not None and bool(infeasible[0]):  # its value may be infinite
        poisoned = [name for name, value in told.items() if bool(value.isnan().any())]
    else:
        poisoned = [name for name, value in told.items() if not bool(value.isfinite().all())]
    if poisoned:
        yield (
            f"a query far outside: observation {poisoned[0]!r} holds no finite numbers and the row is not "
            "marked diverged (its merit is finite)"
        )


def _far(probe: Probe, action: Action) -> Action:
    parts, moved = {}, False
    for name, space in fields(probe.env).items():
        value = part(action, name)
        if isinstance(space, spaces.Box) and value.is_floating_point():
            high = torch.as_tensor(np.array(space.high), device=value.device).clamp(max=_HUGE)
            value = torch.cat((high.to(value.dtype).expand_as(value[:1]), value[1:]))
            moved = True
        parts[name] = value
    if not moved:
        raise NotApplicable("no part of the action is a floating Box")
    return assemble(probe.env, parts)
