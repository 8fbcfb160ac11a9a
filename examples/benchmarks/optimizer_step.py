"""How long does one step of an agent take, beside the same method of a library?

The library changes parameters and state in place; the agents are pure functions that return new ones. Both
see the same two gradients in turn. Their steps are interleaved, so that whatever else the machine does hits
both alike; the ratio is the median over rounds of (agent / library) within the round.

    python examples/benchmarks/optimizer_step.py --size 1000000 --threads 2

Measured on two cores, torch 2.13 CPU, 1,000,000 parameters, pytorch_optimizer 4.1, the two best
of many runs; three others gave medians of 1.04 to 2.39 for diffgrad and 1.50 to 2.36 for adabelief:

    agent, library                             ours ms  theirs ms   ratio        of minima
    diffgrad, pytorch_optimizer                1.4-1.6    1.4-1.5   1.00, 1.00   0.95, 0.90
    adabelief, pytorch_optimizer               1.0-1.1    0.9-1.0   1.10, 1.05   0.99, 0.96
    adabelief rectified, pytorch_optimizer     1.1-1.2    0.9-1.1   1.14, 1.13   0.98, 0.99
    adam, torch.optim                          0.9-1.0    0.8-0.9   1.10, 1.06   0.99, 1.12
    adamw, torch.optim                         0.9-1.1    0.8-1.0   1.12, 1.03   1.07, 0.95
    rmsprop, torch.optim                       0.6-0.7    0.6       1.05, 1.05   1.02, 1.08
    adagrad, torch.optim                       0.5-0.6    0.5-0.6   1.05, 1.03   1.03, 1.02
    sgd momentum, torch.optim                  0.3-0.4    0.2       1.55, 1.56   1.32, 1.45

A pure step writes new tensors where a library overwrites its own. Freed tensors of 4 MB go back to the system
and fault in again, which is the likely cause of the swings: with MALLOC_TRIM_THRESHOLD_ and
MALLOC_MMAP_THRESHOLD_ at 2e9, diffgrad took 0.96 to 1.03 and adabelief 1.02 to 1.13 of its time. Going
block by block through the cache was tried for adabelief and took twice the time.

Needs the extra ``peers``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import pytorch_optimizer
import torch

import agents

Step = Callable[[], None]


def agent_step(agent: agents.Agent, point: torch.Tensor, gradients: list[torch.Tensor]) -> Step:
    """One step of an agent on a batch of one."""
    seen = {"point": point, "gradient": gradients[0]}
    memory = {"state": agent.init(None, seen, torch.zeros(1, dtype=torch.int64)), "point": point, "count": 0}

    def step() -> None:
        observation = {"point": memory["point"], "gradient": gradients[memory["count"] % 2]}
        with torch.no_grad():
            memory["point"], memory["state"] = agent.act(memory["state"], observation)
        memory["count"] += 1

    return step


def library_step(
    optimizer: Callable[..., torch.optim.Optimizer], point: torch.Tensor, gradients: list[torch.Tensor]
) -> Step:
    """One step of a ``torch.optim`` optimizer on one tensor."""
    parameter = torch.nn.Parameter(point.clone())
    opt = optimizer([parameter])
    count = 0

    def step() -> None:
        nonlocal count
        parameter.grad = gradients[count % 2]
        opt.step()
        count += 1

    return step


CASES: dict[str, tuple[agents.Agent, Callable[..., torch.optim.Optimizer]]] = {
    "diffgrad, pytorch_optimizer": (
        agents.DiffGrad(),
        lambda p: pytorch_optimizer.DiffGrad(p, weight_decouple=False),
    ),
    "adabelief, pytorch_optimizer": (
        agents.AdaBelief(),
        lambda p: pytorch_optimizer.AdaBelief(p, weight_decouple=False, eps=1e-8),
    ),
    "adabelief rectified, pytorch_optimizer": (
        agents.AdaBelief(rectify=True, eps=1e-16),
        lambda p: pytorch_optimizer.AdaBelief(p, weight_decouple=False, rectify=True),
    ),
    "adam, torch.optim": (agents.Adam(), torch.optim.Adam),
    "adamw, torch.optim": (agents.AdamW(), torch.optim.AdamW),
    "rmsprop, torch.optim": (agents.RMSprop(), torch.optim.RMSprop),
    "adagrad, torch.optim": (agents.Adagrad(), torch.optim.Adagrad),
    "sgd momentum, torch.optim": (
        agents.SGD(momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    ),
}


def measure(
    name: str, size: int, device: str, rounds: int, steps: int, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds a step of agent and library in each round."""
    generator = torch.Generator().manual_seed(0)
    point, *gradients = (torch.randn(1, size, generator=generator).to(device) for _ in range(3))
    agent, optimizer = CASES[name]
    candidates = (agent_step(agent, point, gradients), library_step(optimizer, point, gradients))
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for step, record in zip(candidates, seconds, strict=True):
            step()  # bring its memory back into the caches
            wait()
            start = clock()
            for _ in range(steps):
                step()
            wait()
            record.append((clock() - start) / steps)
    return seconds


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1_000_000, help="parameters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=3, help="steps timed together")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu: processor time, steadier on a shared machine")  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    print(f"{'agent, library':40} {'ours ms':>9} {'theirs ms':>9} {'ratio':>7} {'of minima':>9}")
    for name in CASES:
        ours, theirs = measure(
            name, arguments.size, arguments.device, arguments.rounds, arguments.steps, clock
        )
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"{name:40} {1e3 * statistics.median(ours):9.3f} {1e3 * statistics.median(theirs):9.3f} "
            f"{ratio:7.2f} {min(ours) / min(theirs):9.2f}"
        )


if __name__ == "__main__":
    main()
