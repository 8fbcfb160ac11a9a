"""The published instances of gradient-normalized smoothness, and the course of a run by accepted steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import optenvs
from optenvs.core import OptimizationEnv, Run

SEED = 3124


def draws(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """A ``(m, n)`` and b of LogSumExp, as the authors draw them: rows are the columns of ``rand(n, m)``."""
    generator = np.random.RandomState(SEED)
    columns = generator.rand(n, m) * 2 - 1
    return columns.T, generator.rand(m) * 2 - 1


def log_sum_exp(n: int, m: int, mu: float = 1.0, **keywords: Any) -> OptimizationEnv:
    """The instance of these sizes, in the metric of its rows."""
    return optenvs.make("LogSumExp", **({"data": draws(n, m), "mu": mu} | _open(keywords)))


def operator(**keywords: Any) -> OptimizationEnv:
    """|A x - b|^4 / 4 with 100 equations in 200 unknowns."""
    generator = np.random.RandomState(SEED)
    data = generator.rand(100, 200) * 2 - 1, generator.rand(100) * 2 - 1
    return optenvs.make("PowerResidual", **({"data": data, "power": 4.0} | _open(keywords)))


def chebyshev(n: int, **keywords: Any) -> OptimizationEnv:
    """The chain from the authors' start."""
    start = tuple(np.random.RandomState(SEED).rand(n).tolist())
    return optenvs.make("Chebyshev", **({"dim": n, "power": 4.0, "start": start} | _open(keywords)))


def valley(power: float | None = None, **keywords: Any) -> OptimizationEnv:
    """Rosenbrock's function from (-2, 2); or its residuals to this power."""
    own = {"start": (-2.0, 2.0), "dim": 2} | _open(keywords)
    if power is None:
        return optenvs.make("Rosenbrock", **({"oracle": "hessian", "dtype": "float64"} | own))
    return optenvs.make("NonlinearRosenbrock", **({"power": power} | own))


def _open(keywords: dict[str, Any]) -> dict[str, Any]:
    """Episodes that end with the run."""
    return {"tolerance": None, "budget": None} | keywords


def values(run: Run, metric: str = "value", row: int = 0) -> Tensor:
    """A metric after 0, 1, 2, ... accepted steps.

    A method that asks what it lacks at a new point is there when its ledger first has the step.
    """
    assert run.work is not None
    accepted = run.work["accepted"][:, row]
    first = torch.cat((torch.ones_like(accepted[:1]), accepted.diff())) > 0
    return run.metrics[metric][first, row]


def first_below(course: Tensor, level: float) -> int:
    """The first accepted step after which the course is below a level."""
    below = (course < level).nonzero()
    assert len(below), f"it ends at {float(course[-1]):.3g} after {len(course) - 1} steps"
    return int(below[0])
