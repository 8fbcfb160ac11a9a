"""A batch of Newton methods against scipy's trust-exact, one instance after the other.

    python examples/benchmarks/curvature.py

Two problems of Semenov, Jaggi and Doikov (2025), each on instances of its own in double precision:
LogSumExp with n = m = 50 (256 instances, a gap of 1e-8), and |A x - b|^4 / 4 with 100 equations in 200
unknowns and its exact Hessian (16 instances, a value below 1e-10). The batch is ``gns_newton`` through
``optenvs.rollout``, with ledger, metrics and record; scipy gets value, gradient and Hessian in plain numpy,
computed once a point, and stops at the same level.

Measured (processor time of one thread, torch 2.13 CPU, Python 3.11, x86_64, on two cores with three busy
processes; all instances were run both ways):

    problem      instances     batch      loop   ratio   values   scipy
    LogSumExp          256    0.894s   10.616s   11.9x     15.2    11.1
    operator            16    1.946s   18.509s    9.5x     62.9    26.6

The batch lives on memory, and the more the cores have to do, the more it loses: with sixteen busy processes
1.032 s and 9.0x, and 2.578 s and 7.8x; with some 36, LogSumExp 1.18 s and 8.7x. Of 1.26 s that the batch's
operations took there, 0.13 s were Cholesky's (of all rows, those that have ended, too), 0.10 s solves with
its factors, 0.14 s Hessians, which are computed for the rows that want one, and 0.14 s choices between rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from timing import interleave, machine, ratio

import agents
import optenvs
from optenvs.core import OptimizationEnv
from optenvs.core.random import keys_from_seed

Answers = tuple[float, np.ndarray, Callable[[], np.ndarray]]


class Solved(Exception):
    """The level is reached."""


def log_sum_exp(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> Answers:
    """Value, gradient and Hessian of log sum exp(A x - b)."""
    scaled = a @ x - b
    weight = softmax(scaled)
    gradient = a.T @ weight
    return logsumexp(scaled), gradient, lambda: (a.T * weight) @ a - np.outer(gradient, gradient)


def fourth_power(a: np.ndarray, b: np.ndarray, x: np.ndarray, square: np.ndarray) -> Answers:
    """Value, gradient and Hessian of |A x - b|^4 / 4."""
    u = a @ x - b
    size, slope = u @ u, a.T @ u
    return size**2 / 4, size * slope, lambda: size * square + 2 * np.outer(slope, slope)


def trust_exact(function: Callable[[np.ndarray], Answers], start: np.ndarray, level: float) -> int:
    """How many values scipy's method asks until one is below ``level``; it ends there."""
    last: list[Any] = [None, None]
    asked = 0

    def at(x: np.ndarray) -> Answers:
        nonlocal asked
        if last[0] is None or not np.array_equal(x, last[0]):
            last[:] = x.copy(), function(x)
            asked += 1
            if last[1][0] < level:
                raise Solved
        return last[1]

    try:
        minimize(
            lambda x: at(x)[0],
            start,
            jac=lambda x: at(x)[1],
            hess=lambda x: at(x)[2](),
            method="trust-exact",
            options={"gtol": 0.0, "maxiter": 1000},
        )
    except Solved:
        return asked
    raise RuntimeError(f"trust-exact ends at {last[1][0] - level:.3g} above the level")


def problems(batch: int, operators: int) -> dict[str, tuple[OptimizationEnv, int]]:
    """The environments, and how many instances of each."""
    settings = {"budget": None}
    return {
        "LogSumExp": (optenvs.make("LogSumExp", dim=50, rows=50, tolerance=1e-8, **settings), batch),
        "operator": (
            optenvs.make("PowerResidual", dim=200, rows=100, power=4.0, tolerance=1e-10, **settings),
            operators,
        ),
    }


def functions(env: OptimizationEnv, keys: torch.Tensor) -> list[tuple[Any, np.ndarray, float]]:
    """Of each instance: the function in numpy, the start, and the level at which it is solved."""
    state = env.reset(keys)
    told = state.hidden.coefficients
    starts, levels = state.observation["point"].numpy(), state.floor.numpy() + env.tolerance
    rows: list[Any] = []
    for i, (a, b) in enumerate(zip(told.a.numpy(), told.b.numpy(), strict=True)):
        if hasattr(told, "square"):
            square = told.square[i].numpy()
            rows.append(lambda x, a=a, b=b, square=square: fourth_power(a, b, x, square))
        else:
            rows.append(lambda x, a=a, b=b: log_sum_exp(a, b, x))
    return list(zip(rows, starts, levels, strict=True))


def measure(
    batch: int,
    operators: int,
    repeats: int,
    clock: Callable[[], float] = time.process_time,
    only: str = "",
) -> dict[str, dict[str, float]]:
    """By problem: seconds of both ways, their ratio, and how many values an instance took in the mean."""
    found = {}
    for name, (env, count) in problems(batch, operators).items():
        if only not in name:
            continue
        keys = keys_from_seed(0, count)
        ones = functions(env, keys)
        agent = agents.GnsNewton()
        run = optenvs.rollout(env, agent, keys=keys, steps=400)
        if not run.state.terminated.all():
            raise RuntimeError(f"{name}: {int((~run.state.terminated).sum())} instances are not solved")
        # the run as a user would start it, to the last row's end
        steps, asked = int((~run.done.all(-1)).sum()), []
        seconds = interleave(
            {
                "batch": lambda env=env, agent=agent, keys=keys, steps=steps: optenvs.rollout(
                    env, agent, keys=keys, steps=steps
                ),
                "loop": lambda ones=ones, asked=asked: asked.extend(trust_exact(*one) for one in ones),
            },
            repeats,
            clock,
        )
        found[name] = {
            "instances": count,
            "batch": float(np.median(seconds["batch"])),
            "loop": float(np.median(seconds["loop"])),
            "ratio": ratio(seconds["loop"], seconds["batch"]),
            "values": float(run.state.calls["value"].double().mean()),
            "values of scipy": float(np.mean(asked)),
        }
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=256, help="instances of LogSumExp")
    parser.add_argument("--operators", type=int, default=16, help="instances of the linear operator")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="problems whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    print(f"{'problem':12}{'instances':>10}{'batch':>10}{'loop':>10}{'ratio':>8}{'values':>9}{'scipy':>8}")
    found = measure(options.batch, options.operators, options.repeats, only=options.only)
    for name, row in found.items():
        print(
            f"{name:12}{row['instances']:10d}{row['batch']:9.3f}s{row['loop']:9.3f}s{row['ratio']:7.1f}x"
            f"{row['values']:9.1f}{row['values of scipy']:8.1f}"
        )


if __name__ == "__main__":
    main()
