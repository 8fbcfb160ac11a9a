"""How long do 400 bandits of 10^4 trajectories take, all at once?

``optenvs/PolicySearch-v0`` (``task="gauss_bandit"``, two weights) with N-PG-IGT (Fatkhullin et al. 2023), one
trajectory an iteration, as in the check of its rate of convergence: 400 instances and 10^4 iterations are 4
million trajectories. Eagerly, and compiled by ``rollout(compile=N)``, whose compile time is apart: it is that
of a run of a few steps, after which the function is kept.

    python examples/benchmarks/bandits.py               # --compile 1; 0 for eagerly alone

Measured with torch 2.13 on one thread of two cores that were shared by thirty busy processes (load 25 to 36):
500 steps eagerly took 3.4 seconds of processor time, which is 68 for all of them; compiled (``--compile 1``)
all 10^4 took 17.2, after half an hour of compiling on that machine. The aim of 4 seconds was not seen; it has
not been measured on a quiet machine. A step asks, pays and judges a menu, and takes a trajectory and an
iteration: some hundreds of operations on 400 rows.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from timing import machine

import agents
import optenvs

BATCH, STEPS = 400, 10_000


def measure(steps: int = STEPS, batch: int = BATCH, compile: int = 0) -> dict[str, float]:
    """Seconds of processor time of the run, and those (of the wall) before it, to compile."""
    env = optenvs.make(
        "PolicySearch", task="gauss_bandit", budget=steps + 1, evaluation_period=None, tolerance=None
    )
    agent = agents.make("n_pg_igt")
    start = time.perf_counter()
    if compile:
        optenvs.rollout(env, agent, batch=batch, steps=2 * compile + 1, compile=compile)
    before, start = time.perf_counter() - start, time.process_time()
    run = optenvs.rollout(env, agent, batch=batch, steps=steps, compile=compile)
    seconds = time.process_time() - start
    return {"seconds": seconds, "compiling": before, "gap": run.metrics["gap"][-1].mean().item()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--compile", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), f"load {os.getloadavg()[0]:.1f}")
    for steps in sorted({0, asked.compile}):
        told = measure(asked.steps, compile=steps)
        print(
            f"compile={steps}: " + ", ".join(f"{name} {value:.4g}" for name, value in told.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
