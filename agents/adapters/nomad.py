"""NOMAD 4 (Audet, Le Digabel, Rochon Montplaisir, Tribes 2022) as an agent: PyNomadBBO, one process a row.

NOMAD is a mesh adaptive direct search with quadratic models, and calls the function that it minimises. Here
it runs in a process for each instance and waits there for its answers, so that it can be asked and told; its
constraints go by the progressive barrier. What :mod:`agents.adapters.ask_tell` says of objects with ``ask``
and ``tell`` holds for it: it is rebuilt by replay where a run is resumed or branched.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation, require
from .ask_tell import AskTellState, ReplayedAgent

_SCRIPT = Path(__file__).with_name("_nomad_process.py")
_SEEDS = 1 << 16
"""How many seeds are used: NOMAD draws as many numbers as the seed says before it begins."""
_FAILED = 1e29
"""A value from which a point counts as failed."""


@struct
class NomadState(AskTellState):
    """The past of ``B`` runs.

    Attributes:
        lower, upper: the box, infinite where there is none, ``(B, n)`` each.
        first: what the environment says of the start, ``(B, w)``: NOMAD need not ask it again.
    """

    lower: Float[Tensor, "B n"]
    upper: Float[Tensor, "B n"]
    first: Float[Tensor, "B *w"]


class NomadProcess:
    """One run of NOMAD with ``ask`` and ``tell``; its process ends with this object.

    When NOMAD has converged, ``ask`` gives the best point told, again and again.

    Args:
        start: the first point, ``(n,)``.
        lower, upper: the box, ``(n,)`` each.
        parameters: lines of NOMAD's parameters.
        first: the outputs at ``start``, if they are known: then it is not asked.

    Raises:
        RuntimeError: NOMAD has failed; with its message.
        ImportError: PyNomad is not there.
    """

    def __init__(
        self,
        start: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        parameters: list[str],
        first: Any = None,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-P", str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to: IO[str] = self._process.stdin
        self._from: IO[str] = self._process.stdout
        self.close = weakref.finalize(self, _end, self._process)
        self._best, self._best_key = np.array(start), (np.inf, np.inf)
        self._asked: np.ndarray | None = None
        self._start, self._first = np.array(start), first
        self.evaluations: int | None = None
        """How many points NOMAD counts; ``None`` before it has converged."""
        bounds = {
            "lower": lower.tolist() if np.isfinite(lower).all() else [],
            "upper": upper.tolist() if np.isfinite(upper).all() else [],
        }
        self._say({"start": start.tolist(), "parameters": parameters, **bounds})

    @property
    def finished(self) -> bool:
        """Whether NOMAD has converged, and asks nothing more."""
        return self.evaluations is not None

    def ask(self) -> np.ndarray:
        """The point that NOMAD wants to know."""
        if self.evaluations is not None:
            return self._best
        line = self._from.readline()
        message: dict[str, Any] = (
            json.loads(line) if line else {"error": f"its process ended ({self._process.wait()})"}
        )
        if "error" in message:
            kind = ImportError if "PyNomadBBO" in message["error"] else RuntimeError
            self.close()
            raise kind(f"nomad: {message['error']}")
        if "done" in message:
            self.evaluations = int(message["evaluations"])
            self.close()
            return self._best
        self._asked = np.array(message["ask"])
        known, self._first = self._first, None
        if known is not None and np.array_equal(self._asked, self._start):
            self.tell(self._asked, known)
            return self.ask()
        return self._asked

    def tell(self, points: Any, values: Any) -> None:
        """The outputs of the point asked: its value, then its constraints (satisfied where <= 0)."""
        if self.evaluations is not None:
            return
        outputs = np.atleast_1d(np.asarray(values, dtype=np.float64)).tolist()
        violation = sum(max(c, 0.0) ** 2 for c in outputs[1:])
        if (violation, outputs[0]) < self._best_key and self._asked is not None:
            self._best, self._best_key = self._asked, (violation, outputs[0])
        self._say(outputs if outputs[0] < _FAILED else None)

    def _say(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the next question says why the process ended
            self._to.write(json.dumps(message) + "\n")
            self._to.flush()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # what was not yet sent has no reader any more
                stream.close()


@dataclass(frozen=True, eq=False)
class Nomad(ReplayedAgent):
    """NOMAD with its own defaults, on queries of one point; where the instance has a box, within it.

    Args:
        groups: ranges ``(first, end)`` of constraints; of each NOMAD is told the greatest one, and of no
            other constraint, such as those that the box holds. ``None``: it is told all; its models of
            hundreds of constraints take a long time.
        settings: more of NOMAD's parameters, each a line, such as ``"DIRECTION_TYPE ORTHO 2N"``.
    """

    groups: tuple[tuple[int, int], ...] | None = None
    settings: tuple[str, ...] = ()

    needs = ("value",)
    takes = ("inequalities", "bounds")

    def __post_init__(self) -> None:
        if self.groups is not None:
            sound = all(len(g) == 2 and 0 <= g[0] < g[1] for g in self.groups)
            require(self, "groups", sound, "pairs (first, end) with 0 <= first < end, or None")
        require(self, "settings", not isinstance(self.settings, str), "a tuple of lines")

    def answers(self, observation: Observation) -> Float[Tensor, "B w"]:
        """The value and the constraints, or the greatest one of each group."""
        value = observation["value"]
        if "constraints" not in observation or self.groups == ():
            return value
        constraints = observation["constraints"]
        if self.groups is not None:
            end = max(g[1] for g in self.groups)
            if end > constraints.shape[-1]:
                raise ValueError(f"Nomad: groups: there are {constraints.shape[-1]} constraints, got {end}")
            columns = [constraints[:, first:end].amax(-1) for first, end in self.groups]
            constraints = torch.stack(columns, -1)
        return torch.cat((value, constraints), -1)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> NomadState:
        start = observation["point"]
        if start.ndim != 2:
            raise ValueError("Nomad: points: expected an environment of one point a query, points=None")
        base = super().init(problem, observation, keys)
        endless = torch.full_like(start, torch.inf)
        return NomadState(
            **base.__dict__,
            lower=getattr(problem, "lower", -endless),
            upper=getattr(problem, "upper", endless),
            first=self.answers(observation),
        )

    def build(self, state: NomadState, row: int) -> NomadProcess:
        start, lower, upper = (
            leaf[row].double().cpu().numpy() for leaf in (state.start, state.lower, state.upper)
        )
        count = state.values.shape[2] - 1
        begin = np.clip(start, lower, upper)
        first = state.first[row].tolist() if np.array_equal(begin, start) else None
        lines = [
            "BB_OUTPUT_TYPE " + " ".join(["OBJ"] + count * ["PB"]),
            "DISPLAY_DEGREE 0",
            f"SEED {int(state.seed[row]) % _SEEDS}",
            *self.settings,
        ]
        return NomadProcess(begin, lower, upper, lines, first)
