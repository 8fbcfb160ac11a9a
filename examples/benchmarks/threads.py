"""One thread, all threads, and what ``optenvs.core.Threads`` chooses, by the size of a step.

Per size: milliseconds a step of Adam, with one thread, with all, and as a rollout chooses by itself. With
``--neighbours N`` so many other programs keep a core busy meanwhile.

Measured with torch 2.13 (CPU), two threads on two cores, which about ten other programs shared, so that the
figures of one row differ by some 30 % from run to run, and those of all threads by more:

    Rosenbrock, 10 numbers     16  one    12.992  all    65.411  chosen    15.429
    Rosenbrock, 10 numbers    256  one    16.077  all   134.353  chosen    15.058
    Rosenbrock, 10 numbers   4096  one    28.868  all   672.406  chosen    35.617
    Rosenbrock, 10 numbers   6553  one    26.579  all  1003.261  chosen    34.211

Where cores are that busy, threads lose at every size tried: another run there took, in milliseconds on one
and on all, 45 and 240 with 32,768 rows, 158 and 769 with 131,072; TrainDigits 10 and 54 with 16 rows, 15 and
85 with 64. Nobody can know that before a run: above the limit, whoever shares a machine sets
``OMP_NUM_THREADS=1``. On the same two cores with nothing else running, threads gain little:

    Rosenbrock, 10 numbers     16  one     0.753  all     0.743  chosen     0.723
    Rosenbrock, 10 numbers    256  one     0.797  all     0.808  chosen     0.788
    Rosenbrock, 10 numbers   4096  one     1.620  all     1.422  chosen     1.695
    Rosenbrock, 10 numbers   6553  one     2.335  all     1.915  chosen     2.060
    Rosenbrock, 10 numbers  65536  one    17.595  all    13.711  chosen    14.441
    TrainDigits                 1  one     2.154  all     2.348  chosen     2.164
    TrainDigits                16  one     2.515  all     2.164  chosen     2.151
    TrainDigits                64  one     5.242  all     4.221  chosen     4.113

    python examples/benchmarks/threads.py
    python examples/benchmarks/threads.py --neighbours 2
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from timing import interleave, machine

import agents
import optenvs
from optenvs.core import threads

CASES = {
    "Rosenbrock, 10 numbers": ("optenvs/Rosenbrock-v0", {"dim": 10}, (16, 256, 4096, 6553, 65536)),
    "TrainDigits": ("optenvs/TrainDigits-v0", {}, (1, 4, 16, 64)),
}


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many other programs that never rest."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(name: str, batch: int, steps: int = 10, repeats: int = 5) -> dict[str, float]:
    """Milliseconds a step on ``one`` thread, on ``all``, and as the rollout ``chosen``."""
    env_id, keywords, _ = CASES[name]
    env, agent = optenvs.make(env_id, budget=None, **keywords), agents.make("adam")
    begun = optenvs.rollout(env, agent, batch=batch, steps=1)
    most, small = torch.get_num_threads(), threads.SMALL

    def call(count: int, limit: int) -> Any:
        def run() -> None:
            torch.set_num_threads(count)
            threads.SMALL = limit  # below zero: no step is small
            try:
                optenvs.rollout(env, agent, steps=steps, resume=begun)
            finally:
                torch.set_num_threads(most)
                threads.SMALL = small

        return run

    taken = interleave({"one": call(1, -1), "all": call(most, -1), "chosen": call(most, small)}, repeats)
    return {how: 1e3 * median(seconds) / steps for how, seconds in taken.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="One thread, all, and what is chosen.")
    parser.add_argument("--neighbours", type=int, default=0, help="other programs, each on a core")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine()}; {options.neighbours} other programs")
    with neighbours(options.neighbours):
        for name, (_, _, batches) in CASES.items():
            for batch in batches:
                row = measure(name, batch, repeats=options.repeats)
                print(f"{name:24} {batch:6}" + "".join(f"  {how} {ms:9.3f}" for how, ms in row.items()))


if __name__ == "__main__":
    main()
