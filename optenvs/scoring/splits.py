"""The tasks of a split as a score plays them: instances by key, and a bill that all optimizers share.

A split names a family of tasks, the seed of their instances and how much longer than in training they last,
see :mod:`optenvs.envs.meta.families`, whose published ones are meant here by name. Two of these, ``seeds``
and ``horizons``, are of the tasks that a rule was trained on, which are then to be named, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from optenvs.core.configuration import configuration
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import UnknownName, suggest
from optenvs.core.random import Keys, keys_from_seed
from optenvs.envs.meta.families import SPLITS, Split, family, listed, split_of
from optenvs.version import installed

STEPS = 500
"""Steps of a lifetime; those of a split that stretches them last longer."""
SEEDS = 5
"""Instances of each shape class, on which optimizers are averaged."""
_COMMON = ("budget", "reward", "tolerance", "device", "dtype", "evaluation_period")


@dataclass(frozen=True)
class Scored:
    """A split with all that a score of it depends on.

    Attributes:
        name: what it is called.
        split: seed, stretch and tasks.
        steps: queries of an optimizer after the first.
        published: whether it is one of the project's.
    """

    name: str
    split: Split
    steps: int
    published: bool = False

    @cached_property
    def tasks(self) -> tuple[OptimizationEnv, ...]:
        """The shape classes as they are registered."""
        return family(self.split.tasks, "split: tasks")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What to call each shape class: its name, with the keywords that are not the defaults."""
        return tuple(map(_label, self.tasks))

    @property
    def text(self) -> str:
        """The split in words."""
        return f"{', '.join(self.labels)}; {SEEDS} instances each, {self.steps} steps"

    def lifetimes(self, steps: int, dtype: str, device: str) -> tuple[OptimizationEnv, ...]:
        """The tasks with a budget of so many steps after the first answer, and no other end."""
        return tuple(_lifetime(task, steps, dtype=dtype, device=device) for task in self.tasks)

    def keys(self, device: Any) -> Keys:
        """The instances of each shape class, ``(SEEDS,)``."""
        return keys_from_seed(self.split.seed, SEEDS, device)

    def fingerprint(self, **more: Any) -> str:
        """A digest of what the split was declared with, and ``more``."""
        told = {"seed": self.split.seed, "steps": self.steps, "tasks": self.split.tasks} | more
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=_told).encode()).hexdigest()


def _told(value: Any) -> Any:
    """A made environment in words."""
    if isinstance(value, OptimizationEnv):
        return [*configuration(value), installed()]
    raise TypeError(f"split: tasks: {value!r} cannot be written down")


def _label(task: OptimizationEnv) -> str:
    inside: Any = getattr(task, "unwrapped", task)
    changed = [
        f"{field.name}={getattr(inside, field.name)!r}"
        for field in fields(inside)
        if field.name not in _COMMON and getattr(inside, field.name) != field.default
    ]
    around = "" if inside is task else f"{type(task).__name__} of "
    return f"{around}{inside.name}({', '.join(changed)})" if changed else f"{around}{inside.name}"


def _lifetime(task: OptimizationEnv, steps: int, **common: str) -> OptimizationEnv:
    main = next(iter(task.bill))
    budget = {main: task.first_bill.get(main, 0) + steps * task.bill[main]}
    changes: dict[str, Any] = {"budget": budget, "tolerance": None, "reward": "improvement", **common}
    if hasattr(getattr(task, "unwrapped", task), "evaluation_period") and not task.measures_merit:
        changes["evaluation_period"] = steps + 1  # what is measured then is no part of a score
    return task.replace(**changes)


def list_splits() -> list[str]:
    """The published splits that :func:`optenvs.score` and ``MetaTraining``'s ``held_out`` take by name.

    Each family has one of held-out seeds, and one of lifetimes five times as long. For tasks of your own
    there are ``seeds`` and ``horizons`` as well: ``optenvs.score(agent, "horizons", tasks=...)``.
    """
    return sorted(name for name, split in SPLITS.items() if split.tasks)


def published(name: str) -> Scored:
    """A published split.

    Raises:
        UnknownName: there is none of that name. ValueError: its tasks are to be named.
    """
    if name not in SPLITS:
        raise UnknownName(f"split: no {name!r}{suggest(name, SPLITS)}")
    split = SPLITS[name]
    if not split.tasks:
        raise ValueError(
            f"split: {name!r} is of tasks that you name (tasks=...); or {', '.join(list_splits())}"
        )
    return Scored(name, split, STEPS * split.stretch, published=True)


def scored(split: Any, tasks: Any = None, steps: int | None = None) -> tuple[Scored, int]:
    """The split that is meant, and the steps to play of it.

    Args:
        split: a published name; or a table of ``tasks``, ``seed`` and ``stretch``, or ``Split``.
        tasks: the family of ``seeds`` and ``horizons``.
        steps: fewer than a published split has; of another one, as many as it is to have.

    Raises:
        UnknownName, ValueError, TypeError: what is given makes no sense, and why.
    """
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps: expected a whole number >= 1, got {steps!r}")
    if not isinstance(split, str | Mapping | Split):
        raise TypeError(f"split: expected a name or a table of tasks, seed and stretch, got {split!r}")
    if isinstance(split, str) and tasks is None:
        found = published(split)
        if steps is not None and steps > found.steps:
            longer = "" if split.endswith("-horizons") else f"; {split}-horizons is {5 * found.steps} long"
            raise ValueError(f"steps: {steps} are more than the {found.steps} of split {split!r}{longer}")
        return found, found.steps if steps is None else steps
    if isinstance(split, str) and split not in SPLITS:
        raise UnknownName(f"split: no {split!r}{suggest(split, SPLITS)}")
    own = split_of(split, "split")
    if tasks is not None and own.tasks:
        raise ValueError(f"tasks: {tasks!r} would have no effect: the split has tasks of its own")
    if tasks is None and not own.tasks:
        raise ValueError(f"split: expected tasks, got {split!r}")
    kind = split if isinstance(split, str) else "own split"
    whole = Split(own.seed, own.stretch, own.tasks or listed(tasks))
    long = STEPS * own.stretch if steps is None else steps
    return Scored(kind, whole, long), long
