"""Does gradient-normalized smoothness take the published number of steps at the published size?

LogSumExp of Semenov, Jaggi and Doikov (2025) with n = m = 1000 and mu = 1, from their draw (numpy's legacy
generator, seed 3124), until f - f* < 1e-8: ``gns_newton`` with the exact Hessian and with the weighted
Gauss-Newton matrix, and the gradient method in the same metric. Then their smaller sizes, and the courses
of the valley and of the chain that are too long for a test.

    python examples/curvature_paper_size.py              # everything; --small leaves n = 1000 out

Measured (processor seconds of one thread of a machine busy with other work, torch 2.13 CPU). The published
figures are 35, about 94 and about 150 steps at n = 1000:

    problem, Hessian or method           < 1e-8 at   CPU s  gap after steps
    LogSumExp n=50 m=50 mu=1, exact             10     0.3
    LogSumExp n=50 m=50 mu=1, weighted          14     0.3
    LogSumExp n=50 m=50 mu=1, gradient          37     0.6
    LogSumExp n=200 m=200 mu=1, exact           18     0.7
    LogSumExp n=200 m=200 mu=1, weighted        30     1.0
    LogSumExp n=200 m=200 mu=1, gradient        74     1.2
    LogSumExp n=50 m=200 mu=0.1, exact          29     0.6
    LogSumExp n=50 m=200 mu=0.1, weighted      127     2.3
    LogSumExp n=1000 m=1000 mu=1, exact         35    12.2
    LogSumExp n=1000 m=1000 mu=1, weighted      94    32.3
    LogSumExp n=1000 m=1000 mu=1, gradient     152    10.0
    Rosenbrock, exact                           51     2.0  10: 4.29  20: 1.41  30: 0.127  40: 0.00736
                                                            50: 5.7e-07
    Rosenbrock, gradient                         -    52.7  100: 5.66  500: 3.13  1000: 0.0297
                                                            2000: 0.00172  5000: 1.32e-06
    NonlinearRosenbrock p=5, exact              56     1.8  10: 19.6  30: 0.165  50: 7.95e-07  100: 3.11e-34
    NonlinearRosenbrock p=5, inexact            57     1.5  10: 17.6  30: 0.194  50: 1.58e-06  100: 1.16e-33
    Chebyshev n=100, inexact                    21     1.9  10: 0.00658  20: 1.34e-08  30: 4.29e-14
                                                            50: 5.04e-22  100: 9.1e-30
    Chebyshev n=100, exact                      24     2.1  10: 0.364  20: 7.13e-07  30: 5.15e-12
                                                            50: 2.65e-20  100: 1.4e-29
    Chebyshev n=100, super-universal            28     1.6  20: 2.16e-05  50: 3.57e-17  100: 1.22e-26
    Chebyshev n=100, gradient                  191     2.5  50: 5.23e-06  200: 8.56e-09
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import agents
import optenvs
from optenvs.core import OptimizationEnv

SEED = 3124
Row = tuple[str, OptimizationEnv, Any, int, tuple[int, ...]]


def log_sum_exp(n: int, m: int, mu: float, hessian: str = "exact") -> OptimizationEnv:
    """The published instance of these sizes."""
    generator = np.random.RandomState(SEED)
    columns = generator.rand(n, m) * 2 - 1
    data = columns.T, generator.rand(m) * 2 - 1
    return optenvs.make("LogSumExp", data=data, mu=mu, hessian=hessian, tolerance=None, budget=None)


def rows(small: bool) -> Iterator[Row]:
    """Name, problem, agent, accepted steps, and after which of them the gap is printed."""
    newton, gradient = agents.GnsNewton(), agents.LineSearchGradient()
    sizes = [(50, 50, 1.0, (10, 14, 37)), (200, 200, 1.0, (18, 30, 74)), (50, 200, 0.1, (29, 127, None))]
    if not small:
        sizes.append((1000, 1000, 1.0, (35, 94, 152)))
    for n, m, mu, (exact, weighted, first) in sizes:
        name = f"LogSumExp n={n} m={m} mu={mu:g}"
        yield f"{name}, exact", log_sum_exp(n, m, mu), newton, exact + 1, ()
        weighted_matrix = log_sum_exp(n, m, mu, "weighted_gauss_newton")
        yield f"{name}, weighted", weighted_matrix, newton, weighted + 1, ()
        if first is not None:
            yield f"{name}, gradient", log_sum_exp(n, m, mu), gradient, first + 1, ()
    open_: dict[str, Any] = {"tolerance": None, "budget": None}
    valley = optenvs.make("Rosenbrock", dim=2, start=(-2.0, 2.0), oracle="hessian", dtype="float64", **open_)
    yield "Rosenbrock, exact", valley, newton, 53, (10, 20, 30, 40, 50)
    yield "Rosenbrock, gradient", valley, gradient, 5000, (100, 500, 1000, 2000, 5000)
    for kind in ("exact", "inexact"):
        valley = optenvs.make("NonlinearRosenbrock", start=(-2.0, 2.0), hessian=kind, **open_)
        yield f"NonlinearRosenbrock p=5, {kind}", valley, newton, 100, (10, 30, 50, 100)
    start = tuple(np.random.RandomState(SEED).rand(100).tolist())
    for kind in ("inexact", "exact"):
        chain = optenvs.make("Chebyshev", dim=100, start=start, hessian=kind, **open_)
        yield f"Chebyshev n=100, {kind}", chain, newton, 100, (10, 20, 30, 50, 100)
    chain = optenvs.make("Chebyshev", dim=100, start=start, **open_)
    yield "Chebyshev n=100, super-universal", chain, agents.SuperUniversalNewton(), 100, (20, 50, 100)
    yield "Chebyshev n=100, gradient", chain, gradient, 200, (50, 200)


def gaps(env: OptimizationEnv, agent: Any, accepted: int) -> torch.Tensor:
    """The gap after 0, 1, 2, ... accepted steps: a new one is on the ledger when it asks what it lacks."""
    run = optenvs.rollout(env, agent, steps=3 * accepted + 20)
    assert run.work is not None
    steps = run.work["accepted"][:, 0]
    return run.metrics["gap"][torch.cat((torch.ones_like(steps[:1]), steps.diff())) > 0, 0]


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="leave n = 1000 out")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args(arguments)
    print(f"{'problem, Hessian or method':36}{'< 1e-8 at':>10}{'CPU s':>8}  gap after steps")
    for name, env, agent, accepted, shown in rows(options.small):
        if options.only not in name:
            continue
        began = time.process_time()
        found = gaps(env, agent, accepted)
        below = (found < 1e-8).nonzero()
        first = str(int(below[0])) if len(below) else "-"
        at = "  ".join(f"{k}: {float(found[k]):.3g}" for k in shown if k < len(found))
        print(f"{name:36}{first:>10}{time.process_time() - began:8.1f}  {at}", flush=True)


if __name__ == "__main__":
    main()
