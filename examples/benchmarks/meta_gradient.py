"""What does a meta-gradient through ``optenvs.unroll`` cost beside a loop written by hand in plain torch?

LOLv2 (Metz et al. 2020, 1762 weights) makes K = 20 steps on 64 random least squares ``|W x - y|^2`` in ten
dimensions; the loss is the mean of the values after each step, and what is timed is its gradient by the
weights: the steps, and the way back; with "drawn" tasks also to draw them, as meta-training does. Gradients
of tasks are constants (``second_order=False``), as usual. "By hand" is the same in plain torch for this rule
and these tasks alone, without ledger, metrics, horizon, rewards or ends, and with torch's global generator;
"one by one" is ``unroll`` with 64 batches of one, drawn.

    python examples/benchmarks/meta_gradient.py

Measured with torch 2.13 in float32, one thread of two cores that were shared by some twenty busy processes
(load 23), milliseconds of processor time, medians of 9:

    tasks at hand    unroll 55.8, by hand 39.5: 0.76
    drawn            unroll 57.7, by hand 43.4: 0.77; one by one 3,020, 51 times as long

The aim is 0.9, and an earlier unroll had 0.56. What is left is some twenty operations a step on 64 numbers
each: gap and distance, best and reward, whether the merit is finite, the ledger, k. They carry a graph, as
whoever unrolls may differentiate them, and take as long as operations on 640 x 32 numbers of the network.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from timing import interleave, machine, ratio
from torch import Tensor

import agents
import optenvs
from optenvs.core.features import DECAYS, TIMES
from optenvs.core.random import keys_from_seed

DIM, STEPS = 10, 20


def by_hand(agent: agents.LOLv2, batch: int, tasks: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
    """The meta-loss of LOLv2's network on ``batch`` tasks, drawn here unless they are given: W, y and x."""
    net, multiplier = agent.net, agent.step_multiplier
    rest = torch.tensor([1 - decay for decay in DECAYS], dtype=agent.torch_dtype)
    scales = torch.tensor(TIMES, dtype=agent.torch_dtype)
    if tasks is None:
        matrix, target = (
            torch.randn(batch, DIM, DIM, dtype=rest.dtype),
            torch.randn(batch, DIM, dtype=rest.dtype),
        )
        tasks = matrix, target, 0.01 * torch.randn_like(target)
    matrix, target, x = tasks

    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        error = (matrix @ x.unsqueeze(-1)).squeeze(-1) - target
        return error.square().sum(-1), 2 * (error.unsqueeze(-2) @ matrix).squeeze(-2)

    momenta, total = x.new_zeros(batch, DIM, len(DECAYS)), x.new_zeros(())
    gradient = ask(x)[1]
    for k in range(STEPS):
        gradient = gradient.detach()
        momenta = momenta + rest * (gradient.unsqueeze(-1) - momenta)
        seen = torch.cat((gradient.unsqueeze(-1), x.unsqueeze(-1), momenta), -1)
        seen = seen * torch.rsqrt(1e-5 + seen.square().mean(1, keepdim=True))
        time_seen = torch.tanh(k / scales - 1).expand(batch, DIM, -1)
        direction, magnitude = net(torch.cat((seen, time_seen), -1)).unbind(-1)
        x = x - multiplier * direction * torch.exp(agent.exp_multiplier * magnitude)
        value, gradient = ask(x)
        total = total + value.mean()
    return total / STEPS


def unrolled(env: optenvs.OptimizationEnv, agent: agents.LOLv2, **start: Any) -> Tensor:
    """The same through the environment, from ``keys`` or from a run of no steps, to ``resume``."""
    run = optenvs.unroll(env, agent, steps=STEPS, second_order=False, **start)
    return run.metrics["value"][1:].mean()


def measure(
    dtype: str = "float32",
    repeats: int = 15,
    batch: int = 64,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Milliseconds of each, and how many times longer by hand and one by one take than ``unroll``."""
    env = optenvs.make("LeastSquares", dim=DIM, dtype=dtype, tolerance=None, budget=None)
    agent, keys = agents.LOLv2(dtype=dtype), keys_from_seed(0, batch)
    weights, at_hand = list(agent.parameters()), optenvs.rollout(env, agent, keys=keys, steps=0)
    known = at_hand.state.hidden.coefficients
    tasks = (*known, at_hand.state.observation["point"])
    few = min(batch, 4)  # of the slow way

    def alone() -> Tensor:
        return torch.stack([unrolled(env, agent, keys=keys[i : i + 1]) for i in range(few)]).mean()

    losses: dict[str, Callable[[], Tensor]] = {
        "unroll": lambda: unrolled(env, agent, resume=at_hand),
        "by hand": lambda: by_hand(agent, batch, tasks),
        "unroll, drawn": lambda: unrolled(env, agent, keys=keys),
        "by hand, drawn": lambda: by_hand(agent, batch),
        "one by one": alone,
    }
    calls = {name: lambda f=loss: torch.autograd.grad(f(), weights) for name, loss in losses.items()}
    seconds = interleave(calls, repeats, clock)
    seconds["one by one"] = [batch / few * each for each in seconds["one by one"]]
    found = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    pairs = [("by hand", "unroll"), ("by hand, drawn", "unroll, drawn"), ("one by one", "unroll, drawn")]
    return found | {f"{slow} / {fast}": ratio(seconds[slow], seconds[fast]) for slow, fast in pairs}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), f"load {os.getloadavg()[0]:.1f}")
    for dtype in ("float32", "float64"):
        told = measure(dtype, asked.repeats)
        print(f"{dtype}: " + ", ".join(f"{name} {value:.4g}" for name, value in told.items()))


if __name__ == "__main__":
    main()
