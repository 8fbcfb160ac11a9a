"""Instance-steps a second: one batched environment against Gymnasium's loop over single ones.

    python examples/benchmarks/vector_throughput.py

The same id twice: ``gym.make_vec`` as registered (one tensor computation for the batch), and
``vectorization_mode="sync"`` (Gymnasium steps 1,024 single environments one after the other). Beside them, as
a yardstick, Gymnasium's own batched environment, CartPole in numpy: no ledger, no metrics, less to compute.

Measured (2 cores shared with other work, torch 2.13 CPU, Python 3.11, median of 9 rounds in turns):

    threads   batched      sync    cartpole   batched / sync
    1         6,166,333    7,113   10,567,939   877x           (goal 250x)
    2         2,385,566    3,848    5,663,910   627x
"""

from __future__ import annotations

import statistics

import gymnasium as gym
import numpy as np
import torch
from timing import interleave, machine, ratio

import optenvs  # noqa: F401 registers the ids


def measure(num_envs: int = 1024, dim: int = 10, steps: int = 200, repeats: int = 9) -> dict[str, float]:
    """Instance-steps a second of the three, and the ratio of the first two."""
    env_id = "optenvs/Quadratic-v0"
    batched = gym.make_vec(env_id, num_envs=num_envs, dim=dim, budget=None)
    single = gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync", dim=dim, budget=None)
    cartpole = gym.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode="vector_entry_point")
    for venv in (batched, single, cartpole):
        venv.reset(seed=0)
    point = torch.full((num_envs, dim), 0.3)
    points = point.numpy()
    pushes = np.arange(num_envs) % 2
    seconds = interleave(
        {
            "batched": lambda: [batched.step(point) for _ in range(steps)],
            "sync": lambda: single.step(points),
            "cartpole": lambda: [cartpole.step(pushes) for _ in range(steps)],
        },
        repeats,
    )
    per_step = {name: [s / (1 if name == "sync" else steps) for s in all_] for name, all_ in seconds.items()}
    rates = {name: num_envs / statistics.median(all_) for name, all_ in per_step.items()}
    return rates | {"ratio": ratio(per_step["sync"], per_step["batched"])}


def main() -> None:
    """Print the table."""
    result = measure()
    print(machine())
    for name in ("batched", "sync", "cartpole"):
        print(f"{name:10s} {result[name]:14,.0f} instance-steps/s")
    print(f"batched / sync: {result['ratio']:.0f}x (goal 250x)")


if __name__ == "__main__":
    main()
