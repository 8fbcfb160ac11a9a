"""How many lives a second does a discovery live, all at once and one after the other?

The small set-up of ``optenvs/Discovery-v0``: learners of 8 workers in tiny grid worlds, 3 to 30 updates of 10
steps by a learned policy gradient of 454 weights, each life with a rule of its own, and then judged.
"Together" is one batch of 128 lives, as a query of the environment is; "alone" the same code life by life.

    python examples/benchmarks/discovery.py

Measured with torch 2.13 on one thread of a busy machine of two cores, lives a second of processor time:

    float32    together 258, alone 6.3, 41 times
    float64    together 228, alone 6.3, 36 times

Beside vmap and scan in JAX (``jax_peers.py lives``, jax 0.10.2, float32; load 24 to 28 on the two cores, one
after the other):

    lives at once    here    JAX
              128     262    339
            1,024     654    not measured: compiling took longer than there was time

So with 128 lives, a query of the environment, it is 0.77 of JAX; the aim is 1. Some 10,000 operations take
all the time, most of them on a thousand numbers, so that larger batches are faster: several instances, or
more particles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from timing import interleave, machine, ratio

from optenvs.core.random import keys_from_seed
from optenvs.core.struct import rows
from optenvs.dynamics.grid_levels import LEVELS, log_integer
from optenvs.envs.meta.discovery.life import live
from optenvs.models.tabular.rulebook import make_rule
from optenvs.models.tabular.rules import Optimiser

LIVES, ALONE = 128, 4
RULE = {"name": "lpg", "timed": True, "categories": 4, "embedding": 4, "hidden": 8}


def measure(
    dtype: str = "float32", repeats: int = 5, lives: int = LIVES, alone: int = ALONE
) -> dict[str, float]:
    """Lives a second of processor time together and alone, and how many times more the former are."""
    levels, rule = LEVELS["tiny"], make_rule(RULE)
    keys = keys_from_seed(0, lives)
    level = levels.draw(keys, getattr(torch, dtype))
    whole, weights = log_integer(keys, "lifetime", levels.lifetime), rule.draw(keys, getattr(torch, dtype))
    given: dict[str, Any] = {"workers": 8, "steps": 10, "most": 30, "longest": 20, "optimiser": Optimiser()}

    def some(chosen: slice) -> None:
        with torch.no_grad():
            live(rule, weights[chosen], rows(level, chosen), whole[chosen], keys[chosen], **given)

    calls = {
        "together": lambda: some(slice(0, lives)),
        "alone": lambda: [some(slice(i, i + 1)) for i in range(alone)],
    }
    seconds = interleave(calls, repeats, clock=time.process_time)
    per_life = {
        "together": [t / lives for t in seconds["together"]],
        "alone": [t / alone for t in seconds["alone"]],
    }
    told = {name: 1 / statistics.median(times) for name, times in per_life.items()}
    return told | {"times": ratio(per_life["alone"], per_life["together"])}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    for dtype in ("float32", "float64"):
        told = measure(dtype, asked.repeats)
        print(f"{dtype}: " + ", ".join(f"{name} {value:.1f}" for name, value in told.items()))


if __name__ == "__main__":
    main()
