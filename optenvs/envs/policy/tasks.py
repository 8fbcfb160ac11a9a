"""The tasks of policy search by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from optenvs.core.given import check_choice

from .bandit import GaussBandit
from .hosted import Hosted
from .lqr import Lqr
from .simulated import SIMULATED
from .tabular import Tabular
from .task import Task

TASKS: dict[str, type[Task]] = {
    "gauss_bandit": GaussBandit,
    "lqr": Lqr,
    "tabular": Tabular,
    **{task.name: task for task in SIMULATED},
}
_ID = re.compile(r"-v\d+$")
"""What ids of Gymnasium end with."""
OF_TASKS = (
    "episode_length",
    "discount",
    "dim",
    "actions",
    "std",
    "branches",
    "explore",
    "start_std",
    "widths",
    "data",
)
"""Keywords that are a task's: each task has some of them."""


def make_task(name: str, keywords: Mapping[str, Any]) -> Task:
    """The task of a name, or of a Gymnasium id; keywords that are ``None`` have its own value.

    Raises:
        ValueError: no such task, or it has no such keyword.
        ModuleNotFoundError: the task needs a package that is not installed.
    """
    if not isinstance(name, str) or not _ID.search(name):
        check_choice("task", name, tuple(TASKS))
    kind = TASKS.get(name, Hosted)
    known = {field.name for field in dataclasses.fields(kind)}
    given = {key: value for key, value in keywords.items() if value is not None}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{key}: the task {name} has none, expected None, got {value!r}")
    return kind(**given, id=name) if kind is Hosted else kind(**given)
