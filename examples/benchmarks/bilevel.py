"""LV-HBA on many instances at once: BilevelToy, n = 100, against a loop in numpy one after the other.

    python examples/benchmarks/bilevel.py

The loop in numpy is the paper's pseudo-code, one instance at a time, with the relative error of x recorded
at each iteration; the loop in torch is the same written by hand for the batch, with neither environment,
ledger nor metrics. The agent is asked twice an iteration, is billed and judged each time; ``--compile`` adds
the same rollout compiled (needs a C++ compiler). All make the same numbers.

Measured (processor time of one thread, torch 2.13 CPU, Python 3.11, two cores with a load of 35 to 40; 20
iterations of 1,024 instances, three repeats):

    numpy            70 us an iteration and instance (41 to 60 in quieter minutes)
    torch by hand    10.2x
    agent             2.4x, 1,024 instances at once
                      1.2x, 256 at once

So 50 times, the aim, is far off: it means 0.8 to 1.4 us an iteration and instance, and the loop by hand,
which goes through memory at each of its operations, takes 6 to 7. Of agent and environment alone, without
the rollout about them, the 20th percentile of calls at a load of 18, 1,024 instances, us an iteration and
instance:

                                               by hand    agent    environment
    as it was                                  5.2 to 6.6     7.5 to 9.3     25.5 to 31.6
    unwanted answers untouched, slopes not
    copied, metrics without a lower solution   6.0 to 6.3     7.0 to 7.9     15.9 to 17.6

What is left: an iteration is two queries, each told in vectors of 3 n numbers that the loop by hand never
makes (the pullback is one number, 300 times), and judged at (x, y), though only one of the two moves it: F,
f, Phi, their gap and a distance are as many passes through memory as the method itself. At 64 instances a
query of agent and environment took 3 ms, nearly all of it calls, so that fewer rows at once, which would
stay in the cache, do not help.

With the two processors nearly free (1,024 instances, 20 iterations with their reset) the agent takes 15.2 us
an iteration and instance, the loop by hand 3.1; 2.4x and 11.4x of numpy in a run beside others. By counts,
views left out, an iteration of the two makes and writes

                  operations of torch    megabytes written, 1,024 instances
    by hand                        51                                    33
    agent                         290                                    67

and by cProfile its time goes, in per cent, to

    the agent's own steps                               25
    answers: F, f, g and their slopes                   23
    what is judged: F, f, Phi, gap, distance            25
    the menu: bills, budgets, what nobody wanted        13
    ledger, reward, termination                          7
    the rollout and its record                           7

So half of it is bookkeeping: with none at all, and judged nowhere, it would be about twice as fast, 5x, and
still not half as fast as the loop by hand, which is itself 4 times slower than the aim. Half of the judging
is of the pair (x, y) of the query before; metrics are not kept for it, since whoever is told a place may
write into it.

The recorded form computes all kinds of answers and masks what is not wanted, since nobody may look, and
keeps them all in the state that a block ends with. Two queries as one function took 30 us an iteration and
instance, after 14 minutes of compiling (before the changes above). Now one query as a function is recorded
in 3 s and compiled in some 25 s of processor time, so that two minutes do; it then takes, the machine at a
load of 35 to 40, us an iteration and instance, in rollouts of twenty and of five iterations with their reset:

                    compiled    uncompiled
    64 instances    60 to 71    141 to 147
    1,024           47 to 54     38 to 42

So at 1,024 it is slower than what it was recorded from: what is not wanted costs more there than calls do.
It would have to know, as the eager step does, that nobody asks for products, solutions and hypergradients.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from timing import interleave, machine, ratio
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed

ALPHA, BETA, ETA, POWER, R = 0.1, 0.5, 0.5, 0.3, 10.0
"""For constraints divided by sqrt(3 n), and gamma1 = gamma2 = 1."""


def numpy_loop(
    x: np.ndarray, y: np.ndarray, iterations: int, errors: list[float] | None = None
) -> np.ndarray:
    """One instance: x ``(n,)`` and y ``(2n,)`` on C; the last (x, y), and log |x - x*| / |x*| of each."""
    n = len(x)
    unit = (3 * n) ** 0.5
    r = R * unit
    theta, lam, z = y.copy(), 0.0, 0.0
    for k in range(iterations):
        weight = (k + 1.0) ** -POWER
        slope = theta - y
        slope[:n] += theta[:n] - x
        slope[n:] += 1
        g = (x.sum() + theta.sum()) / unit
        theta, lam = theta - ETA * (slope + lam / unit), min(max(lam + ETA * (g - lam + z), -r), r)
        y1, y2 = y[:n], y[n:]
        dx = weight * (x - y2) - y1 + theta[:n] - lam / unit
        dy = theta - y
        dy[:n] += weight * (y1 - 1) + y1 - x
        dy[n:] += weight * (y2 - x) + 1
        x, y = x - ALPHA * dx, y - ALPHA * dy
        mean = (x.sum() + y.sum()) / (3 * n)
        x, y, z = x - mean, y - mean, min(max(z - BETA * (z - lam), -r), r)
        if errors is not None:
            errors.append(np.log(np.linalg.norm(x + 0.3) / (0.3 * n**0.5)))
    return np.concatenate((x, y))


def torch_loop(x: Tensor, y: Tensor, iterations: int) -> Tensor:
    """The same for a batch."""
    n = x.shape[1]
    unit = (3 * n) ** 0.5
    r = R * unit
    theta, lam = y, torch.zeros_like(x[:, :1])
    z = lam
    for k in range(iterations):
        weight = (k + 1.0) ** -POWER
        slope = theta - y
        slope[:, :n] += theta[:, :n] - x
        slope[:, n:] += 1
        g = (x.sum(-1, True) + theta.sum(-1, True)) / unit
        theta = theta - ETA * (slope + lam / unit)
        lam = (lam + ETA * (g - lam + z)).clamp(-r, r)
        y1, y2 = y[:, :n], y[:, n:]
        dx = weight * (x - y2) - y1 + theta[:, :n] - lam / unit
        dy = theta - y
        dy[:, :n] += weight * (y1 - 1) + y1 - x
        dy[:, n:] += weight * (y2 - x) + 1
        x, y = x - ALPHA * dx, y - ALPHA * dy
        mean = (x.sum(-1, True) + y.sum(-1, True)) / (3 * n)
        x, y, z = x - mean, y - mean, (z - BETA * (z - lam)).clamp(-r, r)
    return torch.cat((x, y), -1)


class Rollout:
    """The agent in the environment, on the same starts, ``together`` instances at once."""

    def __init__(self, dim: int, batch: int, iterations: int, compile: int = 0, together: int = 0) -> None:
        self.env = optenvs.make("optenvs/BilevelToy-v0", dim=dim, bound=R, budget=None, tolerance=None)
        self.agent = agents.LVHBA(alpha=ALPHA, beta=BETA, eta=ETA, power=POWER, scale=True)
        self.batch, self.steps, self.compile = batch, 2 * iterations + 1, compile
        self.together = together or batch

    def start(self) -> tuple[Tensor, Tensor]:
        """The starts of all instances, x and y."""
        seen = self.env.reset(keys_from_seed(0, self.batch)).observation
        return seen["x"], seen["y"]

    def __call__(self) -> Any:
        parts = keys_from_seed(0, self.batch).split(self.together)
        return [
            optenvs.rollout(self.env, self.agent, keys=keys, steps=self.steps, compile=self.compile)
            for keys in parts
        ]


def measure(
    dim: int = 100,
    batch: int = 1024,
    iterations: int = 20,
    alone: int = 16,
    repeats: int = 5,
    compile: int = 0,
    together: int = 0,
) -> dict[str, float]:
    """How many times faster than the loop in numpy each is; ``alone`` instances of it are run."""
    run = Rollout(dim, batch, iterations, together=together)
    x, y = run.start()
    pairs = list(zip(x[:alone].numpy(), y[:alone].numpy(), strict=True))
    candidates: dict[str, Any] = {
        "numpy": lambda: [numpy_loop(a, b, iterations, []) for a, b in pairs],
        "torch by hand": lambda: torch_loop(x, y, iterations),
        "agent": run,
    }
    if compile:
        candidates["agent, compiled"] = Rollout(dim, batch, iterations, compile, together)
    with torch.no_grad():
        seconds = interleave(candidates, repeats, time.process_time)
    times = {
        name: ratio(seconds["numpy"], s) * batch / alone for name, s in seconds.items() if name != "numpy"
    }
    each = 1e6 * sorted(seconds["numpy"])[repeats // 2] / alone / iterations
    return {"numpy, us an iteration": each} | times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--together", type=int, default=0, help="instances at once, of the agent; 0: all")
    parser.add_argument("--compile", type=int, default=0, help="queries in one function, an even number")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    found = measure(
        batch=options.batch,
        iterations=options.iterations,
        repeats=options.repeats,
        compile=options.compile,
        together=options.together,
    )
    for name, figure in found.items():
        print(f"{name:26s}{figure:10.1f}{'' if name.startswith('numpy') else 'x'}")


if __name__ == "__main__":
    main()
