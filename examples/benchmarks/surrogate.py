"""What a point costs beside the network: MADS and the barrier attack in batches, and NOMAD.

    python examples/benchmarks/surrogate.py

Random ReLU networks over a box, 10 inputs and 20 neurons, no constraints but the box. ``overhead`` is the
processor time of a point that is not the network's: of agent, environment and ledger here (the network is
timed alone on the same points), and of NOMAD where it calls a function in its own process, less the time in
that function. NOMAD has its defaults, whose quadratic models take most of it, and then none of them.
``at once`` is the whole loop, network included, on all instances in one batch against one after the other.

Measured (processor time of one thread on a machine busy with other work, torch 2.13 CPU, Python 3.11, medians
of 5 rounds):

    overhead of a point           1 instance      64      1,024     of NOMAD's, at 1,024
    mads                              408 us     9.7 us      3.5 us      0.0004
    barrier_attack                 12,380 us   359 us      186 us        0.022
    NOMAD                           8,627 us
    NOMAD without its models          195 us

    at once, 1,024 instances:  mads 162x   barrier_attack 78x

One instance of the attack alone is dearer than NOMAD, since its program is solved by some thousand calls of
torch; at 1,024 it costs as much as NOMAD without models.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from timing import interleave, machine, ratio

import agents
import optenvs
from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.rollout import agent_keys

LEAN = ("QUAD_MODEL_SEARCH no", "DIRECTION_TYPE ORTHO 2N", "EVAL_QUEUE_SORT DIR_LAST_SUCCESS")
"""NOMAD without its models."""


def problem(agent: str) -> Any:
    """The box of the agent: MADS asks polls of four points, the attack a point and the Jacobian there."""
    special = {"points": 4} if agent == "mads" else {"points": 1, "oracle": "jacobian"}
    return optenvs.make("ReluBox", formulation="constraints", budget=None, **special)


class Loop:
    """An agent in its environment, past its first steps; each call goes ``steps`` steps on from there."""

    def __init__(self, name: str, keys: Keys, steps: int) -> None:
        self.env, self.agent, self.steps = problem(name), agents.make(name), steps
        state = self.env.reset(keys)
        memory = self.agent.init(state.problem, state.observation, agent_keys(keys))
        self.begun = self._go(state, memory, 3)

    def _go(self, state: Any, memory: Any, steps: int) -> tuple[Any, Any]:
        for _ in range(steps):
            query, memory = self.agent.act(memory, state.observation)
            state = self.env.step(state, query)
        return state, memory

    def __call__(self) -> None:
        self.end, _ = self._go(*self.begun, self.steps)

    def network(self) -> None:
        """The network alone, on as many queries of the same size."""
        state = self.begun[0]
        for _ in range(self.steps):
            self.env.task.network(state.hidden.data, state.observation["point"])

    @property
    def points(self) -> float:
        """Points billed in a call."""
        return float((self.end.calls["value"] - self.begun[0].calls["value"]).sum())


def nomad(points: int, settings: tuple[str, ...], seed: int = 0) -> float:
    """Processor seconds a point that NOMAD takes for itself, on a network of the same size in numpy."""
    import PyNomad

    rng = np.random.default_rng(seed)
    w, v = rng.uniform(-0.3, 0.3, (20, 10)), rng.uniform(-0.2, 0.2, 20)
    inside, count = 0.0, 0

    def blackbox(point: Any) -> int:
        nonlocal inside, count
        start = time.process_time()
        x = np.array([point.get_coord(i) for i in range(10)])
        point.setBBO(repr(float(-v @ np.maximum(w @ x, 0))).encode())
        inside, count = inside + time.process_time() - start, count + 1
        return 1

    lines = ["BB_OUTPUT_TYPE OBJ", "DISPLAY_DEGREE 0", f"MAX_BB_EVAL {points}", *settings]
    start = time.process_time()
    PyNomad.optimize(blackbox, [0.5] * 10, [0.0] * 10, [1.0] * 10, lines)
    return (time.process_time() - start - inside) / count


def overhead(
    batches: tuple[int, ...] = (1, 64, 1024), steps: int = 20, points: int = 150, repeats: int = 5
) -> dict[str, float]:
    """Processor seconds a point beside the network, by agent and batch, and those of NOMAD."""
    found: dict[str, float] = {}
    with torch.no_grad():
        for name in ("mads", "barrier_attack"):
            for batch in batches:
                loop = Loop(name, keys_from_seed(0, batch), steps)
                seconds = interleave({"all": loop, "network": loop.network}, repeats, time.process_time)
                rest = [a - b for a, b in zip(seconds["all"], seconds["network"], strict=True)]
                found[f"{name} {batch}"] = statistics.median(rest) / loop.points
    for name, settings in (("nomad", ()), ("nomad, no models", LEAN)):
        found[name] = statistics.median(nomad(points, settings, seed) for seed in range(repeats))
    return found


def at_once(name: str, batch: int = 1024, alone: int = 32, steps: int = 20, repeats: int = 5) -> float:
    """How many times faster a batch is than its instances one after the other.

    Of the latter ``alone`` are run, and their time is that many times scaled.
    """
    with torch.no_grad():
        together = Loop(name, keys_from_seed(0, batch), steps)
        each = [Loop(name, keys_from_seed(0, 1, first=i), steps) for i in range(alone)]
        seconds = interleave(
            {"batch": together, "alone": lambda: [loop() for loop in each]}, repeats, time.process_time
        )
    return ratio(seconds["alone"], seconds["batch"]) * batch / alone


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)  # processor time is compared, and NOMAD has one
    print(machine())
    found = overhead((1, 64, options.batch))
    for name, seconds in found.items():
        print(f"{name:22s}{1e6 * seconds:10.1f} us/point  {seconds / found['nomad']:8.4f} of NOMAD's")
    for name in ("mads", "barrier_attack"):
        print(f"{name:22s}{options.batch} instances at once: {at_once(name, options.batch):.0f}x")


if __name__ == "__main__":
    main()
