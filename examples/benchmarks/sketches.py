"""Kaczmarz sketches a second: triangular systems of many sketches against a numpy loop over them.

    python examples/benchmarks/sketches.py

A system of n + m = 18 unknowns. The loop is the fastest that is known to us in plain numpy: its residual is
updated by the Gram matrix A A', never computed anew. Ours are chunks of 1,024 successive sketches, each one
triangular system or a few, with the residual computed anew after each chunk.

Measured (processor time of one thread on two cores with three busy processes, torch 2.13 CPU, Python 3.11,
median of 7 rounds in turns):

    loop                        169,634 sketches/s
    batch of 1                  779,804 sketches/s    4.6x
    Gaussian, batch of 1        326,106 sketches/s    2.0x
    batch of 256              3,643,799 sketches/s   21.1x
    Gaussian, batch of 256      588,334 sketches/s    3.4x

With seventeen times as much to do as there are processors, 2.4x and 13.5x of Kaczmarz's rows; another run
there, of the widths of the triangular systems in turns, had 177,213 for the loop, 627,184 for systems of 256
(3.5x) and 522,405 of 362.

With 1,024 sketches a chunk; one of 256 is a third slower in a batch of 1, where the calls count. The loop
draws no normal numbers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from timing import interleave, machine, ratio

from agents.constrained.sketching import Sketches, sketch_and_project
from optenvs.core.random import keys_from_seed, normal


def loop(A: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """Randomised Kaczmarz, one row after the other."""
    gram = A @ A.T
    scale = gram.diagonal().tolist()
    picked = np.random.default_rng(0).integers(0, len(b), count).tolist()
    z, residual = np.zeros(len(b)), -b
    for i in picked:
        t = residual[i] / scale[i]
        z -= t * A[i]
        residual -= t * gram[i]
    return z


def measure(
    size: int = 18, batches: tuple[int, ...] = (1, 256), sketches: int = 51_200, repeats: int = 7
) -> dict[str, float]:
    """Sketches a second in processor time, and how many times those of the loop they are, by batch."""
    keys = keys_from_seed(0, max(batches))
    A, b = (
        normal(keys, name, shape, dtype=torch.float64) for name, shape in (("A", (size, size)), ("b", size))
    )
    counts = {f"batch of {batch}": max(512, sketches // batch) for batch in batches}

    def batched(batch: int, kind: str) -> None:
        sketch_and_project(
            A[:batch],
            b[:batch],
            torch.zeros_like(b[:batch]),
            torch.zeros_like(b[:batch, 0]),
            keys=keys[:batch],
            cap=counts[f"batch of {batch}"],
            sketches=Sketches(kind, chunk=1024),
        )

    candidates: dict[str, Any] = {"loop": lambda: loop(A[0].numpy(), b[0].numpy(), sketches)}
    for batch in batches:
        candidates[f"batch of {batch}"] = lambda batch=batch: batched(batch, "kaczmarz")
        candidates[f"Gaussian, batch of {batch}"] = lambda batch=batch: batched(batch, "gaussian")
    seconds = interleave(candidates, repeats, time.process_time)
    made = {"loop": sketches}
    for batch in batches:
        name = f"batch of {batch}"
        made |= {name: batch * counts[name], f"Gaussian, {name}": batch * counts[name]}
    found: dict[str, float] = {}
    for name, taken in seconds.items():
        found[name] = made[name] / statistics.median(taken)
        if name != "loop":
            each = [made["loop"] / made[name] * t for t in taken]
            found[f"{name}, ratio"] = ratio(seconds["loop"], each)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(machine())
    found = measure(repeats=repeats)
    for name, value in found.items():
        if not name.endswith("ratio"):
            times = found.get(f"{name}, ratio")
            print(f"{name:22s} {value:12,.0f} sketches/s" + (f"  {times:5.1f}x" if times else ""))


if __name__ == "__main__":
    main()
