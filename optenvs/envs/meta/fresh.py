"""Values of a task on data that its episodes do not train on, or have not drawn for their step.

A task with data has a method ``fresh_loss(state, part)``: the loss ``(B,)`` at the point of the last query on
samples that are drawn for this alone, of the part ``"train"`` or ``"test"``. Tasks without it answer exact
values, which are the same on any data.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from optenvs.core.env import Action, Answer, OptimizationEnv, State
from optenvs.core.struct import replace
from optenvs.wrappers.base import Wrapped, Wrapper

VALIDATION, FRESH = "validation", "fresh"
"""Metrics that :class:`Told` adds: the loss on data that are not trained on, and on fresh samples."""


def has_data(task: OptimizationEnv) -> bool:
    """Whether the task, inside of its wrappers, has data."""
    return hasattr(getattr(task, "unwrapped", task), "fresh_loss")


def fresh_loss(task: OptimizationEnv, state: State, part: str) -> Tensor:
    """The loss ``(B,)`` at the last point, of ``part``; the value itself where there are no data."""
    inner: Any = task
    while isinstance(inner, Wrapper):
        state, inner = inner.inner(state), inner.env
    return inner.fresh_loss(state, part) if hasattr(inner, "fresh_loss") else state.merit


@dataclass(frozen=True, eq=False, kw_only=True)
class Told(Wrapper):
    """The task with more metrics.

    Args:
        env: the task.
        names: of :data:`VALIDATION` and :data:`FRESH`.
        part: of which ``fresh`` is: ``train`` or ``test``.
    """

    names: tuple[str, ...] = field(default=(VALIDATION,))
    part: str = "train"

    def answer(self, state: State, action: Action) -> Answer:
        given = super().answer(state, action)
        held: Wrapped = given.hidden
        after = replace(
            self.inner(state), hidden=held.hidden, observation=held.observation, merit=given.merit
        )
        parts = {VALIDATION: "test", FRESH: self.part}
        told = {name: fresh_loss(self.env, after, parts[name]) for name in self.names}
        return dataclasses.replace(given, metrics=given.metrics | told)
