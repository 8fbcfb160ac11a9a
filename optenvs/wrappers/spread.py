"""Lifetimes on more than one core: a meta-problem whose whole lifetimes are played by several processes.

Rows of lifetimes are cut into blocks of one size, whatever the number of processes, so that the numbers do
not depend on it: they are those of the problem itself, to rounding. The processes are loky's (joblib carries
it); they begin once, stay, and compute on one thread each. A query whose process dies raises, and can be
asked again: states are this process's own.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from optenvs.core.env import Action, Answer, OptimizationEnv, State
from optenvs.core.struct import tree_map

from .base import Wrapper

BACKENDS = ("loky", "serial")


@dataclass(frozen=True, eq=False, kw_only=True)
class Spread(Wrapper):
    """A meta-problem that plays its lifetimes in several processes.

    Args:
        env: one that plays whole lifetimes, and differentiates none: ``oracle="fitness"``, or
            ``estimator="full_es"``. Measurements on held-out tasks are spread, too.
        backend: ``loky``, or ``serial`` for the same blocks one after the other in this process.
        workers: how many processes; ``None`` for one a core.
        block: rows of lifetimes that a process plays at once.

    Example:
        >>> problem = optenvs.make("MetaTraining", oracle="fitness", particles=64)     # doctest: +SKIP
        >>> run = optenvs.rollout(optenvs.Spread(problem), agents.OpenES())            # doctest: +SKIP
    """

    backend: str = "loky"
    workers: int | None = None
    block: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend not in BACKENDS:
            raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {self.backend!r}")
        for name in ("workers", "block"):
            value = getattr(self, name)
            if value is None and name == "workers":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
        if not getattr(self.env, "spreads", False):
            raise TypeError(
                f"Spread: {self.env.name} plays no whole lifetimes without a graph; needed is a meta-problem "
                "with oracle='fitness' or estimator='full_es'"
            )
        if self.env.device != "cpu":
            raise ValueError(f"device: expected 'cpu' for processes, got {self.env.device!r}")
        if self.backend == "loky":
            _ = _executor(1)  # the package that is missing is an error now

    @property
    def vectorizable(self) -> bool:
        return False

    @property
    def differentiable(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return f"Spread({self.env.name})"

    def answer(self, state: State, action: Action) -> Answer:
        answer = self._spread().answer(self.inner(state), action)
        held = dataclasses.replace(
            state.hidden,
            hidden=answer.hidden,
            observation=answer.observation,
        )
        return dataclasses.replace(answer, hidden=held)

    def evaluate(self, state: State) -> State:
        inner = self._spread().evaluate(self.inner(state))
        return self.measured(state, inner, dataclasses.replace(state.hidden, hidden=inner.hidden))

    def _spread(self) -> Any:
        """The problem inside, with other players."""
        made: Any = copy.copy(self.env)
        bare = dataclasses.replace(self.env)  # without what it keeps of its data
        for which in ("settings", "judges"):
            settings = tuple(
                dataclasses.replace(setting, player=partial(self._play, bare, which, number))
                for number, setting in enumerate(getattr(self.env, which))
            )
            made.__dict__[which] = settings
        return made

    def _play(self, bare: Any, which: str, number: int, rows: Any, keys: Any) -> Any:
        """The lifetimes of all rows, block by block."""
        blocks = list(zip(rows.detach().split(self.block), keys.split(self.block), strict=True))
        if self.backend == "serial":
            parts = [_played(self.env, which, number, *block) for block in blocks]
        else:
            executor = _executor(self.workers or os.cpu_count() or 1)
            jobs = [executor.submit(_job, bare, which, number, *block) for block in blocks]
            parts = [job.result() for job in jobs]
        return tree_map(lambda *leaves: torch.cat(leaves), *parts)


_known: dict[str, OptimizationEnv] = {}
"""The problems of a process, by their configuration: made once, with their data."""


def _job(env: Any, which: str, number: int, rows: Any, keys: Any) -> Any:
    """What a process does."""
    torch.set_num_threads(1)
    return _played(_known.setdefault(repr(env.configuration), env), which, number, rows, keys)


def _played(env: Any, which: str, number: int, rows: Any, keys: Any) -> Any:
    with torch.no_grad():
        return getattr(env, which)[number].play(rows, keys)


def _executor(workers: int) -> Any:
    try:
        from joblib.externals.loky import get_reusable_executor
    except ImportError as error:
        raise ImportError(
            "Spread needs joblib: pip install 'optenvs[bench]' or pip install joblib "
            f"(backend='serial' does without; {error})"
        ) from error
    make: Callable[..., Any] = get_reusable_executor
    return make(max_workers=workers)
