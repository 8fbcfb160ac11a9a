"""How long does one step of an agent take, beside the same method of a library?

The library changes parameters and state in place; the agents are pure functions that return new ones. Both
see the same two gradients in turn. Their steps are interleaved, so that whatever else the machine does hits
both alike; the ratio is the median over rounds of (agent / library) within the round.

    python examples/benchmarks/optimizer_step.py --size 1000000 --threads 2

Measured on two cores, torch 2.13 CPU, pytorch_optimizer 4.1, 1,000,000 parameters, while other work kept the
machine busy (load 6 to 16): the range of the median ratio over runs, each in a process of its own. The
libraries allocate temporaries of 4 MB, which malloc may give back to the system: up to 1,922 page faults in
a step. Hence both ways, with malloc as it is, and with MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ at
2e9, where neither side has any. The agents, which take memory from ``optenvs.core.memory``, had none in every
run.

    processor time (--clock cpu)               threads, runs    malloc as it is    malloc keeps
    diffgrad, pytorch_optimizer                1, 3             0.64-0.73          0.79-0.86
                                               2, 5             0.75-0.91          0.80-0.86
    adabelief, pytorch_optimizer               1, 3             0.31-0.32          0.79-0.80
                                               2, 5             0.33-0.77          0.79-0.90
    adabelief rectified, pytorch_optimizer     1, 2             0.81-0.84          0.75-0.77
    adam, torch.optim                          1, 2             0.31-0.33          0.83-0.87
    adamw, torch.optim                         1, 2             0.32-0.33          0.81-0.85
    rmsprop, torch.optim                       1, 2             0.98-1.01          0.93-0.96
    adagrad, torch.optim                       1, 2             1.01-1.02          1.04-1.05
    sgd momentum, torch.optim                  1, 3             1.18-1.36          1.13-1.32

With two threads OMP_WAIT_POLICY was passive, as a thread that spins counts as work. Wall time, one thread,
three runs each way: diffgrad 0.72 to 0.85, once 1.03; adabelief 0.29 to 0.90. Two threads, one or two runs:
diffgrad 0.57 to 0.84, adabelief 0.08 to 0.76, sgd momentum 0.78 to 1.38.

SGD writes a new point and a new momentum where the library writes over the old ones: it touches six arrays in
two passes, the library five in three.

Needs the extra ``peers``.
"""

from __future__ import annotations

import argparse
import resource
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
) -> tuple[tuple[list[float], list[float]], tuple[list[int], list[int]]]:
    """Seconds, and page faults, a step of agent and library in each round."""
    generator = torch.Generator().manual_seed(0)
    point, *gradients = (torch.randn(1, size, generator=generator).to(device) for _ in range(3))
    agent, optimizer = CASES[name]
    candidates = (agent_step(agent, point, gradients), library_step(optimizer, point, gradients))
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    seconds: tuple[list[float], list[float]] = ([], [])
    faults: tuple[list[int], list[int]] = ([], [])
    for _ in range(rounds):
        for step, record, faulted in zip(candidates, seconds, faults, strict=True):
            step()  # bring its memory back into the caches
            wait()
            before, start = page_faults(), clock()
            for _ in range(steps):
                step()
            wait()
            record.append((clock() - start) / steps)
            faulted.append((page_faults() - before) // steps)
    return seconds, faults


def page_faults() -> int:
    """Page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


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
    parser.add_argument("--only", default="", help="the cases whose name begins so")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    print(
        f"{'agent, library':40} {'ours ms':>9} {'theirs ms':>9} {'ratio':>7} {'of minima':>9} {'faults':>9}"
    )
    for name in CASES:
        if not name.startswith(arguments.only):
            continue
        (ours, theirs), faults = measure(
            name, arguments.size, arguments.device, arguments.rounds, arguments.steps, clock
        )
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        faulted = "/".join(f"{statistics.median(counts):.0f}" for counts in faults)
        print(
            f"{name:40} {1e3 * statistics.median(ours):9.3f} {1e3 * statistics.median(theirs):9.3f} "
            f"{ratio:7.2f} {min(ours) / min(theirs):9.2f} {faulted:>9}"
        )


if __name__ == "__main__":
    main()
