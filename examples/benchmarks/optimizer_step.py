"""How long does one step of an agent take, beside the same method of a library?

The library changes parameters and state in place; the agents are pure functions that return new ones. Both
see the same two gradients in turn. The steps of all candidates are interleaved, so that whatever else the
machine does hits them alike; the ratio is the median over rounds of (agent / library) within the round.

    python examples/benchmarks/optimizer_step.py --size 1000000 --threads 2

TABLE

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
    size: int, device: str, rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds a step, ``rounds`` of them a candidate, by the name of the candidate."""
    generator = torch.Generator().manual_seed(0)
    point, *gradients = (torch.randn(1, size, generator=generator).to(device) for _ in range(3))
    candidates: dict[str, Step] = {}
    for name, (agent, optimizer) in CASES.items():
        candidates[f"{name}: ours"] = agent_step(agent, point, gradients)
        candidates[f"{name}: theirs"] = library_step(optimizer, point, gradients)
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, step in candidates.items():
            step()  # bring its memory back into the caches
            wait()
            start = clock()
            for _ in range(steps):
                step()
            wait()
            seconds[name].append((clock() - start) / steps)
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
    seconds = measure(arguments.size, arguments.device, arguments.rounds, arguments.steps, clock)
    print(f"{'agent, library':40} {'ours ms':>9} {'theirs ms':>9} {'ratio':>7} {'of minima':>9}")
    for name in CASES:
        ours, theirs = seconds[f"{name}: ours"], seconds[f"{name}: theirs"]
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"{name:40} {1e3 * statistics.median(ours):9.3f} {1e3 * statistics.median(theirs):9.3f} "
            f"{ratio:7.2f} {min(ours) / min(theirs):9.2f}"
        )


if __name__ == "__main__":
    main()
