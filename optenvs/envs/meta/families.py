"""Families of tasks: what a rule is trained on, and what it is judged on.

A family is a finite list of shape classes, each an environment whose instances are tasks of one shape. It
is written as an id, an environment, a table, or a list of these. A table has the id under ``env`` and
keywords of that environment beside it, of which any may be a distribution::

    {"env": "optenvs/TrainDigits-v0", "classes": 6, "widths": {"choice": [[16], [32, 32]]},
     "batch_size": {"log_whole": [4, 64]}, "reparam": {"scale": [0.1, 10.0], "level": "tensor"}}

Distributions: ``choice`` of a list, ``uniform``, ``log_uniform`` between two numbers, ``whole`` and
``log_whole`` numbers between two. As many ``classes`` are drawn from the ``seed``, once: the same on every
machine. Augmentations beside the keywords:

    reparam                     the tasks in other units, keywords of :class:`~optenvs.wrappers.Reparametrise`
    batch_share, data_share     shares of the batch size and of the training samples of a task with data

Noise and precision are keywords of the environments (``noise``, ``label_noise``; ``dtype`` is that of the
meta-training around them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from optenvs import ids
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import suggest
from optenvs.core.problems import as_problem
from optenvs.core.random import keys_from_seed, uniform
from optenvs.wrappers.base import Wrapper
from optenvs.wrappers.reparam import Reparametrise

CLASSES = 4
"""How many shape classes are drawn of a table with distributions that does not say."""
_SHARES = {"batch_share": "batch_size", "data_share": "samples"}
_OWN = ("env", "classes", "seed", "reparam", *_SHARES)
_KINDS = ("choice", "uniform", "log_uniform", "whole", "log_whole")


@dataclass(frozen=True)
class Split:
    """Tasks on which a rule is judged.

    Attributes:
        seed: names their instances.
        stretch: how many times as long as the longest lifetime of training they last.
        tasks: the family; empty for that of training.
    """

    seed: int = 1_000_001
    stretch: int = 1
    tasks: tuple[Any, ...] = ()


# no optimum lies where weight decay leads: Ackley's and the quadratic's are moved away from the origin
_FUNCTIONS = (
    {"env": "optenvs/Rosenbrock-v0", "dim": 4},
    {"env": "optenvs/StyblinskiTang-v0", "dim": 4},
    {"env": "optenvs/Ackley-v0", "dim": 4, "shift": 10.0},
    {"env": "optenvs/LogisticRegression-v0", "dim": 4, "oracle": "gradient"},
)
_NETWORKS = (
    {"env": "optenvs/TrainDigits-v0", "widths": (16,), "batch_size": 32},
    {"env": "optenvs/TrainDigits-v0", "widths": (16, 16), "activation": "tanh", "batch_size": 32},
    {"env": "optenvs/TrainBreastCancer-v0", "batch_size": 32},
)
_QUADRATICS = (
    {"env": "optenvs/LeastSquares-v0", "dim": 5},
    {"env": "optenvs/LeastSquares-v0", "dim": 20},
    {"env": "optenvs/Quadratic-v0", "dim": 50, "spectrum": "wishart", "shift": 1.0},
)
SPLITS: dict[str, Split] = {
    "seeds": Split(),
    "horizons": Split(seed=1_000_003, stretch=5),
    "functions": Split(seed=1_000_033, tasks=_FUNCTIONS),
    "functions-horizons": Split(seed=1_000_081, stretch=5, tasks=_FUNCTIONS),
    "networks": Split(seed=1_000_037, tasks=_NETWORKS),
    "networks-horizons": Split(seed=1_000_099, stretch=5, tasks=_NETWORKS),
    "quadratics": Split(seed=1_000_039, tasks=_QUADRATICS),
    "quadratics-horizons": Split(seed=1_000_117, stretch=5, tasks=_QUADRATICS),
}
"""The published splits: other seeds of the tasks trained on, five times as long, and three families besides.

Those of families have tasks of their own, and are what :func:`optenvs.score` takes by name, too.
"""


def split_of(given: Any, field: str = "held_out") -> Split:
    """The split of a name, or of a table with ``seed``, ``stretch`` and ``tasks``.

    Args:
        given: the name, the table or the split itself.
        field: the keyword that holds it, for messages.

    Raises:
        ValueError: no such name, or a value out of range. TypeError: something else.
    """
    if isinstance(given, Split):
        return given
    if isinstance(given, str):
        if given not in SPLITS:
            raise ValueError(f"{field}: no split {given!r}{suggest(given, SPLITS)}")
        return SPLITS[given]
    if not isinstance(given, Mapping) or set(given) - {"seed", "stretch", "tasks"}:
        raise TypeError(
            f"{field}: expected one of {', '.join(SPLITS)}, or a table of seed, stretch and tasks, "
            f"got {given!r}"
        )
    made = Split(**{**given, "tasks": listed(given.get("tasks", ()))})
    for name, least in (("seed", 0), ("stretch", 1)):
        value = getattr(made, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{field}: {name}: expected a whole number >= {least}, got {value!r}")
    return made


def listed(tasks: Any) -> tuple[Any, ...]:
    """One entry or a list of them as a tuple."""
    return tuple(tasks) if isinstance(tasks, list | tuple) else (tasks,)


def family(tasks: Any, field: str = "tasks") -> tuple[OptimizationEnv, ...]:
    """The shape classes of a family.

    Args:
        tasks: as the module describes.
        field: the keyword that holds it, for messages.

    Raises:
        TypeError: no id, environment or table. UnknownName, UnknownKeyword, ValueError: of an entry.
    """
    entries = listed(tasks)
    if not entries:
        raise ValueError(f"{field}: expected at least one shape class, got none")
    classes: list[OptimizationEnv] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            classes += _of_table(entry, field)
        elif isinstance(entry, str | OptimizationEnv):
            classes.append(as_problem(entry))
        else:
            raise TypeError(
                f"{field}: expected an id, an environment, a table with env, or a list of them, got {entry!r}"
            )
    return tuple(classes)


def _of_table(table: Mapping[str, Any], field: str) -> list[OptimizationEnv]:
    if not isinstance(table.get("env"), str | OptimizationEnv):
        raise TypeError(f"{field}: expected a table with an id under 'env', got {dict(table)!r}")
    count, seed = table.get("classes"), table.get("seed", 0)
    drawn = [name for name, value in table.items() if _distribution(value)]
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"{field}: classes: expected a whole number >= 1, got {count!r}")
    if not drawn and (count not in (None, 1) or "seed" in table):
        raise ValueError(
            f"{field}: classes and seed would have no effect on {dict(table)!r}: nothing is drawn"
        )
    many = (CLASSES if count is None else count) if drawn else 1
    classes = []
    for number in range(many):
        chosen = {
            name: _draw(name, value, seed, number, field) if name in drawn else value
            for name, value in table.items()
        }
        classes.append(_augmented(chosen, field))
    return classes


def _distribution(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in _KINDS


def _draw(name: str, value: Mapping[str, Any], seed: int, number: int, field: str) -> Any:
    """One value of a distribution."""
    ((kind, ends),) = value.items()
    place = float(uniform(keys_from_seed(seed, 1, first=number), name, 1, dtype=torch.float64))
    if not isinstance(ends, list | tuple) or len(ends) < (1 if kind == "choice" else 2):
        raise ValueError(f"{field}: {name}: expected a list under {kind!r}, got {ends!r}")
    if kind == "choice":
        chosen = ends[min(int(place * len(ends)), len(ends) - 1)]
        return tuple(chosen) if isinstance(chosen, list) else chosen
    low, high = ends
    if not low <= high or (kind.startswith("log") and low <= 0):
        raise ValueError(f"{field}: {name}: expected low <= high under {kind!r} (low > 0), got {ends!r}")
    if kind.endswith("whole"):
        high = high + 1
    found = low * (high / low) ** place if kind.startswith("log") else low + place * (high - low)
    return min(math.floor(found), ends[1]) if kind.endswith("whole") else found


def _augmented(table: Mapping[str, Any], field: str) -> OptimizationEnv:
    keywords = {name: value for name, value in table.items() if name not in _OWN}
    env = table["env"]
    made = ids.problem_of(env, **keywords) if isinstance(env, str) else env.replace(**keywords)
    for share, name in _SHARES.items():
        if share in table:
            made = made.replace(**{name: _share(made, share, table[share], field)})
    return Reparametrise(made, **table["reparam"]) if "reparam" in table else made


def _share(env: Any, name: str, share: float, field: str) -> int:
    if not 0 < share <= 1:
        raise ValueError(f"{field}: {name}: expected a share in (0, 1], got {share!r}")
    inside: Any = env.unwrapped if isinstance(env, Wrapper) else env
    if not hasattr(inside, "queried"):
        raise ValueError(f"{field}: {name}: {env.name} has no training samples")
    whole = inside.queried if name == "batch_share" else inside.train_count
    return max(1, round(share * whole))
