"""How many inner episodes a second go through a window of persistent evolution strategies?

The smallest meta-training there is: x <- (1 - theta) x from x = 1 with the losses x^2 / 2, lifetimes of 20
steps in windows of 5, antithetic pairs of a perturbed theta (``optenvs/MetaTraining-v0``, estimator ``pes``).
A step does almost no arithmetic, so that all of it is what the contract costs. Counted are members (two a
pair) times windows a second. "By hand" is the same in plain torch, with its global generator, and without
ledger, keys or ends of its own; "compiled" is ``rollout(compile=1)``, compile time apart.

    python examples/benchmarks/persistent_es.py              # --eager leaves out the compiled one
    python examples/benchmarks/jax_peers.py pes              # evosax, where that and jax are installed

Measured with torch 2.13, jax 0.10.2 and evosax 0.3.2 in float32, one thread each of two cores that were
shared by some twenty busy processes (load 19 to 29), medians, millions of members times windows a second:

    members     environment    by hand    evosax
     20,000            1.02       35.7      29.0
    100,000            2.01       44.5      31.8

So the contract is 0.04 to 0.06 of evosax; the aim of 0.1 is missed. A window of five steps is some 250 passes
over the members, where by hand there are 30: the inner ledger, merit, best and reward, metrics of each step,
and (one window in four) keys and starts of new episodes. "Compiled" gave 1.00 with 20,000 members, no more
than eagerly, after ten minutes of compiling on that machine; the aim was the speed of evosax. A recorded
window makes new episodes whether or not a row needs them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timing import interleave, machine
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed

THETA, STD, LENGTH, WINDOW = 0.1, 0.005, 20, 5
LIFE = LENGTH // WINDOW  # windows


@dataclass(frozen=True, eq=False)
class Descent(agents.Agent):
    """A rule of one weight, its rate; ``weights`` has one a row."""

    weights: Tensor | None = None

    needs = ("gradient",)
    size = 1
    flat = torch.tensor([THETA])

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Any:
        return ()

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
        assert self.weights is not None
        return observation["point"] - self.weights * observation["gradient"], state


def problem(members: int, dtype: str) -> optenvs.OptimizationEnv:
    """The meta-training."""
    return optenvs.make(
        "MetaTraining",
        tasks=optenvs.make("Quadratic", dim=1, start=(1.0,)),
        rule=Descent(),
        estimator="pes",
        particles=members,
        window=WINDOW,
        length=LENGTH,
        staggered=False,
        std=STD,
        meta_loss="sum",
        held_out_tasks=1,
        evaluation_period=None,
        budget=None,
        dtype=dtype,
    )


def through_the_environment(members: int, dtype: str) -> Callable[[], Tensor]:
    """A lifetime of windows, one query each; the estimates' sum."""
    env = problem(members, dtype)
    state = env.reset(keys_from_seed(0, 1), evaluate=False)

    @torch.no_grad()
    def life() -> Tensor:
        now, total = state, torch.zeros(())
        for _ in range(LIFE):
            now = env.step(now, now.observation["point"])
            total = total + now.observation["gradient"].sum()
        return total

    return life


def compiled(members: int, dtype: str, windows: int = 10 * LIFE) -> Callable[[], Tensor]:
    """The same through a compiled rollout of so many windows; the first call compiles."""
    env, same = problem(members, dtype), agents.from_function(lambda observation: observation["point"])
    run = optenvs.rollout(env, same, steps=1)

    def lives() -> Tensor:
        return optenvs.rollout(env, same, steps=windows, compile=1, resume=run, record=("gradient",)).merit

    return lives


def by_hand(members: int, dtype: str) -> Callable[[], Tensor]:
    """A lifetime in plain torch."""
    kind, pairs = getattr(torch, dtype), members // 2

    @torch.no_grad()
    def life() -> Tensor:
        total, carried, x = torch.zeros(()), torch.zeros(pairs, dtype=kind), torch.ones(2, pairs, dtype=kind)
        for _ in range(LIFE):
            noise = STD * torch.randn(pairs, dtype=kind)
            carried += noise
            theta, loss = THETA + torch.stack((noise, -noise)), torch.zeros_like(x)
            for _ in range(WINDOW):
                x = (1 - theta) * x
                loss += 0.5 * x * x
            total = total + (carried * (loss[0] - loss[1])).mean() / (2 * STD**2)
        return total

    return life


def measure(
    members: int, dtype: str = "float32", repeats: int = 7, compile: bool = False
) -> dict[str, float]:
    """Members times windows a second, each at its median; of the compiled one also the seconds to compile."""
    calls: dict[str, Callable[[], Any]] = {
        "environment": through_the_environment(members, dtype),
        "by hand": by_hand(members, dtype),
    }
    found, windows = {}, dict.fromkeys(calls, LIFE)
    if compile:
        windows["compiled"] = 10 * LIFE
        calls["compiled"] = compiled(members, dtype, windows["compiled"])
        start = time.perf_counter()
        calls["compiled"]()
        found["seconds to compile"] = time.perf_counter() - start
    seconds = interleave(calls, repeats, clock=time.process_time)
    rates = {name: members * windows[name] / sorted(s)[len(s) // 2] for name, s in seconds.items()}
    return rates | found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--members", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), f"load {os.getloadavg()[0]:.1f}")
    for members in asked.members:
        for dtype in ("float32", "float64"):
            told = measure(members, dtype, asked.repeats, not asked.eager)
            shown = (
                f"{n} {v:.1f}" if n.startswith("seconds") else f"{n} {v / 1e6:.2f}e6" for n, v in told.items()
            )
            print(f"{members:7} members, {dtype}: " + ", ".join(shown), flush=True)


if __name__ == "__main__":
    main()
