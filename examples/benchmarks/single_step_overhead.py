"""What the numpy face costs: ``gym.make(...).step`` against the pure step at batch 1.

    python examples/benchmarks/single_step_overhead.py

The face checks the action, copies it in and the observation out, and fills ``info``; Gymnasium's two default
wrappers (order, passive checker) are included.

Measured (2 cores shared with other work, torch 2.13 CPU, Python 3.11, median of 200 rounds in turns):

    pure step   gym.make step   ratio   (goal 2.0 or less)
    53.3 us     105.6 us        1.97
    63.3 us     114.6 us        1.84
"""

from __future__ import annotations

import statistics

import gymnasium as gym
import numpy as np
import torch
from timing import interleave, machine, ratio

import optenvs
from optenvs.core import keys_from_seed


def measure(dim: int = 10, steps: int = 50, repeats: int = 200) -> dict[str, float]:
    """Microseconds a step of both, and their ratio."""
    env_id = "optenvs/Quadratic-v0"
    env, core = gym.make(env_id, dim=dim, budget=None), optenvs.make(env_id, dim=dim, budget=None)
    env.reset(seed=0)
    action = np.full(dim, 0.3, dtype=np.float32)
    query = torch.from_numpy(action)[None]
    state = core.reset(keys_from_seed(0, 1))

    def pure() -> None:
        nonlocal state
        with torch.no_grad():
            for _ in range(steps):
                state = core.step(state, query)

    def face() -> None:
        for _ in range(steps):
            env.step(action)

    seconds = interleave({"pure": pure, "face": face}, repeats)
    result = {name: 1e6 * statistics.median(all_) / steps for name, all_ in seconds.items()}
    return result | {"ratio": ratio(seconds["face"], seconds["pure"])}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)  # ten numbers are no work for two
    result = measure()
    print(machine())
    print(f"pure step      {result['pure']:6.1f} us")
    print(f"gym.make step  {result['face']:6.1f} us")
    print(f"ratio          {result['ratio']:6.2f} (goal 2.0 or less)")


if __name__ == "__main__":
    main()
