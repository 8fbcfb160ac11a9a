"""256 grokking networks at once, against one after the other in plain torch.

    python examples/benchmarks/grokking.py

Both train F = (W x)^2, outputs V F, with 256 nodes on 423 of the 529 pairs of Z23, by Adam with a full batch
and the squared loss that is centred over classes. "At once" is ``optenvs.rollout`` of ``GroupGrokking`` with
``agents.Adam``, batch 256, ledger and metrics included; what is measured at the start is not timed
(``run.seconds`` leaves it out). "One by one" is autograd and ``torch.optim.Adam`` on unit vectors, as the
official code has it. They are timed in turns, and the figures are milliseconds a network-step.

Measured (two cores shared with other work, torch 2.13 CPU, one thread, float32, medians in turns):

    networks  at once  one by one  ratio   (goal 1.5x)
         256     0.88        2.56   2.4x

A busier hour gave 1.11, 1.78 and 1.6x. On a host the oracle works through the networks some at a time, so
that their hidden numbers stay in the cache: all 256 at a time take twice as long.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from timing import machine, ratio

import agents
import optenvs
from optenvs.core.random import keys_from_seed

LR, DECAY = 5e-3, 5e-5


def at_once(env: Any, batch: int, steps: int) -> Any:
    """A run of ``steps`` epochs of ``batch`` networks."""
    return optenvs.rollout(env, agents.Adam(lr=LR, weight_decay=DECAY), seed=0, batch=batch, steps=steps)


def one_by_one(env: Any, steps: int) -> float:
    """The loss after ``steps`` epochs of the first of these networks, in plain torch."""
    state = env.reset(keys_from_seed(0, 1), evaluate=False)
    order, part = env.algebra.order, env.part(state.hidden.train)
    start = env.network.unflatten(state.observation["point"])
    unit = torch.eye(2 * order)
    inputs = unit[part.inputs[0, :, 0]] + unit[part.inputs[0, :, 1] + order]
    targets, every = part.targets[0], torch.arange(part.targets.shape[1])
    w, v = (torch.nn.Parameter(start[f"{name}.weight"][0].clone()) for name in ("hidden", "output"))
    optimizer = torch.optim.Adam([w, v], lr=LR, weight_decay=DECAY)

    def loss() -> torch.Tensor:
        outputs = (inputs @ w.T).square() @ v.T
        outputs = outputs - outputs.mean(1, keepdim=True)
        return (outputs.square().sum(1) - 2 * outputs[every, targets]).mean() + 1 - 1 / order

    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return float(loss().detach())


def measure(batch: int, steps: int, alone: int, repeats: int) -> dict[str, float]:
    """Milliseconds a network-step, their ratio, and both losses of the first network after these epochs."""
    env = optenvs.make("GroupGrokking", dtype="float32", evaluation_period=None)
    per: dict[str, list[float]] = {"at once": [], "one by one": []}
    for round_ in range(repeats + 1):
        first = float(at_once(env, batch, steps).seconds[-1]) / (batch * steps)
        start = time.perf_counter()
        one_by_one(env, alone)
        if round_:  # the first is not counted
            per["at once"].append(first)
            per["one by one"].append((time.perf_counter() - start) / alone)
    return {name: 1e3 * statistics.median(found) for name, found in per.items()} | {
        "ratio": ratio(per["one by one"], per["at once"]),
        "loss at once": float(at_once(env, 1, steps).metrics["loss"][-1, 0]),
        "loss one by one": one_by_one(env, steps),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="256 grokking networks at once, and one by one.")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8, help="epochs of those at once")
    parser.add_argument("--alone", type=int, default=300, help="epochs of the one alone")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args(arguments)
    print(machine())
    found = measure(given.batch, given.steps, given.alone, given.repeats)
    print("networks  at once  one by one  ratio   (ms a network-step; goal 1.5x)")
    print(f"{given.batch:8}  {found['at once']:7.2f}  {found['one by one']:10.2f}  {found['ratio']:4.1f}x")


if __name__ == "__main__":
    main()
