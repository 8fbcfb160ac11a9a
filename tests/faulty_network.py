"""Quadratics over a network, one node of which fails in a gradient; processes that tests start import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from optenvs.envs.network.quadratic import NetworkQuadratic

_computed = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class FaultyNetwork(NetworkQuadratic):
    """Node ``victim`` fails in its gradient after ``after`` good ones, and writes down when.

    Args:
        fault: ``kill``, ``stop``, ``hang``, ``raise``, ``term``.
        clock_file: where it writes the time of the fault.
    """

    fault: str
    clock_file: str
    victim: int = 2
    after: int = 5

    def gradient(self, data: Any, x: Tensor, keys: Int64[Tensor, "B N"]) -> Tensor:
        global _computed
        _computed += 1
        if os.environ.get("RANK") == str(self.victim) and _computed == self.after + 1:
            Path(self.clock_file).write_text(str(time.time()))
            if self.fault == "raise":
                raise ArithmeticError("no gradient here")
            if self.fault == "hang":
                time.sleep(3600)
            number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[self.fault]
            os.kill(os.getpid(), number)
        return super().gradient(data, x, keys)
