"""What every check looks at: one episode of a batch, and the tools to compare states."""

from __future__ import annotations

import copy as copying
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import Action, Answer, OptimizationEnv, State
from optenvs.core.random import Keys, keys_from_seed, normal, uniform
from optenvs.core.struct import tensors, tree_map

T = TypeVar("T")

TIME = ("k", "N", "spent")
"""Observation fields that tell the time, and are no answer."""

PERTURBATION = 0.05
"""Size of the steps away from the start: large enough to move the merit, small enough for a network."""

ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}
"""Relative difference allowed between two orders of summation: the kernels for a batch and for one row may
differ in the last digits. It is about 100 units in the last place of float32, and 4,500 of float64."""


class NotApplicable(Exception):
    """The check has nothing to say of this environment; the message says why."""


@dataclass(frozen=True, eq=False)
class Probe:
    """An episode of ``B`` instances of ``env``: ``states[t + 1] = step(states[t], actions[t])``.

    Attributes:
        start: the first query, which ``reset`` asked.
        bills: for each query the bills of the answers that were given to it.
        measured: ``evaluate`` of the last state.
        generators: the states of the global generators before all this.
        copies: keys, each state and each action as they were when the environment was given them.
        remark: takes a sentence for the report that is no fault (what a check could not decide).
    """

    env: OptimizationEnv
    keys: Keys
    start: Action
    states: list[State]
    actions: list[Action]
    bills: list[list[Any]]
    measured: State
    generators: dict[str, Any]
    copies: tuple[Keys, list[State], list[Action]]
    remark: Callable[[str], None]
    _made: dict[Callable[[Probe], Any], Any] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """The number of instances."""
        return len(self.keys)

    def once(self, make: Callable[[Probe], T]) -> T:
        """``make(self)``, computed once for all checks that need it: a reset or an evaluation can be dear."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    @property
    def transitions(self) -> Iterator[tuple[State, Action, State]]:
        """State, action, next state, in order."""
        return zip(self.states[:-1], self.actions, self.states[1:], strict=True)


def run(env: OptimizationEnv, batch: int, steps: int, seed: int, remark: Callable[[str], None]) -> Probe:
    """Reset ``batch`` instances and ask ``steps`` queries near their starts."""
    keys = keys_from_seed(seed, batch, env.torch_device)
    original, before = keys.clone(), generators()
    start = env.sample(original.clone()).start
    given: list[Any] = []
    watched = _watched(env, given)
    states, actions, bills = [watched.reset(keys)], [], [list(given)]
    copies = original, [copy(states[0])], []
    for t in range(steps):
        given.clear()
        actions.append(near(env, original, start, t))
        copies[2].append(copy(actions[-1]))
        states.append(watched.step(states[-1], actions[-1]))
        copies[1].append(copy(states[-1]))
        bills.append(list(given))
    measured = env.evaluate(states[-1])
    return Probe(env, keys, start, states, actions, bills, measured, before, copies, remark)


def generators() -> dict[str, Any]:
    """The states of the global generators, by library."""
    kind, words, *rest = np.random.get_state()  # noqa: NPY002 (it looks, it draws nothing)
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (kind, np.asarray(words).tobytes(), *rest),
        "Python": random.getstate(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state().numpy().tobytes()
    return states


def _watched(env: OptimizationEnv, bills: list[Any]) -> OptimizationEnv:
    """A copy of ``env`` that notes the bill of every answer it gives."""
    watched, answer = copying.copy(env), env.answer

    def noting(state: State, action: Action) -> Answer:
        given = answer(state, action)
        bills.append(env.bill if given.calls is None else given.calls)
        return given

    object.__setattr__(watched, "answer", noting)  # the instance is frozen, but this copy is ours
    return watched


def fields(env: OptimizationEnv) -> dict[str, spaces.Space]:
    """The action's parts by name; a single part is called ``action``."""
    space = env.action_space
    return dict(space.items()) if isinstance(space, spaces.Dict) else {"action": space}


def part(action: Action, name: str) -> Tensor:
    """One part of an action, under the names of :func:`fields`."""
    return action[name] if isinstance(action, dict) else action


def assemble(env: OptimizationEnv, parts: dict[str, Tensor]) -> Action:
    """The action of the parts of :func:`fields`."""
    return parts if isinstance(env.action_space, spaces.Dict) else parts["action"]


def near(env: OptimizationEnv, keys: Keys, start: Action, counter: int) -> Action:
    """A valid query near ``start``: floating parts are moved a little, within their bounds.

    Whole numbers are drawn anew, but in the first query (``counter`` 0): so that what is answered there is
    what ``reset`` was answered.
    """
    moved = {}
    for name, space in fields(env).items():
        value = part(start, name)
        if value.is_floating_point():
            shift = normal(keys, f"checker {name}", tuple(value.shape[1:]), counter, value.dtype)
            value = value + PERTURBATION * shift
            if isinstance(space, spaces.Box) and (space.bounded_below | space.bounded_above).any():
                low, high = (torch.tensor(end, device=value.device) for end in (space.low, space.high))
                value = value.clamp(low, high)
        elif counter:
            value = _whole(keys, name, space, value, counter)
        moved[name] = value
    return assemble(env, moved)


def _whole(keys: Keys, name: str, space: spaces.Space, value: Tensor, counter: int) -> Tensor:
    """Other whole numbers within the bounds of ``space``; without bounds, at most 1 from ``value``."""
    if not isinstance(space, spaces.Box):
        return value
    drawn = uniform(keys, f"checker {name}", tuple(value.shape[1:]), counter, torch.float64)
    low, high = (torch.from_numpy(np.array(end)).to(value) for end in (space.low, space.high))
    bounded = torch.from_numpy(space.bounded_below & space.bounded_above).to(value.device)
    inside = low + (drawn * (high - low + 1).double()).to(value.dtype)
    return torch.where(bounded, inside, (value + (3 * drawn).to(value.dtype) - 1).clamp(low, high))


def same(one: Tensor, other: Tensor) -> bool:
    """Equal in shape, dtype and every bit that matters (a NaN equals a NaN)."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def copy(tree: Any) -> Any:
    """The same tree in memory of its own."""
    return tree_map(torch.clone, tree)


def differences(
    expected: Any, found: Any, *, rounding: bool = False, scale: Tensor | None = None
) -> list[str]:
    """Where two trees differ, one phrase a tensor: its path, what was expected, what came.

    Args:
        expected: a tree of tensors.
        found: another, which should equal it.
        rounding: allow floating numbers the relative difference :data:`ROUNDING`.
        scale: what else, beside the tensor's own largest entry, that difference is relative to.
    """
    wanted, came = tensors(expected), tensors(found)
    told = [f"{path} is missing" for path in wanted.keys() - came.keys()]
    told += [f"{path} is new" for path in came.keys() - wanted.keys()]
    for path in wanted.keys() & came.keys():
        one, other = wanted[path], came[path]
        if same(one, other):
            continue
        if one.shape != other.shape or one.dtype != other.dtype:
            told.append(f"{path}: expected {kind(one)}, got {kind(other)}")
        elif not (rounding and one.is_floating_point() and _near(one, other, scale)):
            told.append(f"{path}: expected {brief(one)}, got {brief(other)}")
    return sorted(told)


def _near(one: Tensor, other: Tensor, scale: Tensor | None) -> bool:
    size = torch.cat([one.flatten(), other.flatten()] + ([] if scale is None else [scale.flatten()]))
    size = size[size.isfinite()].abs()
    allowed = ROUNDING.get(one.dtype, 1e-2) * float(size.max() if len(size) else 0.0)
    return torch.allclose(one, other, rtol=0.0, atol=allowed, equal_nan=True)


def kind(value: Tensor) -> str:
    """Dtype and shape, for messages."""
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def brief(value: Tensor) -> str:
    """The numbers of a tensor, shortened, for messages."""
    array = value.detach().cpu().numpy()
    return np.array2string(array, threshold=6, edgeitems=2, precision=6).replace("\n", "")
