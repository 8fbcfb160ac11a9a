"""256 small networks on digits at once, against one after the other in plain torch.

    python examples/benchmarks/batched_training.py

Both train the same MLP on the same 1,437 images by SGD, each network with its own initial weights and its own
order of the data. "At once" is ``optenvs.rollout`` of ``TrainDigits`` with ``agents.SGD``, batch 256, ledger
and metrics included; its evaluation on all data at epoch ends is not timed (``run.seconds`` leaves it out),
because the plain loop does none. "One after the other" is ``torch.nn.Sequential`` and ``torch.optim.SGD``;
four of its 256 networks are timed, in turns with the other, and the figures are network-steps a second.

Measured (2 cores shared with other work, torch 2.13 CPU, one thread each, median of 5 rounds in turns):

    network, minibatch   at once   one by one   ratio   training accuracy after 2 epochs
    64-32-10, 32         53,146    3,614        14.9x   0.925, 0.922     (goal 8x)
    64-16-10, 16         76,133    2,747        27.3x   0.943, 0.941     (goal 12x)

Where other work keeps the cores busy, set ``OMP_NUM_THREADS=1``: threads that wait for each other lose more
than they bring.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from timing import machine
from torch import nn

import agents
import optenvs
from optenvs import data

LR = 0.1
SAMPLES = 1437  # training images
CASES = (("64-32-10", 32, 32, 8.0), ("64-16-10", 16, 16, 12.0))


def at_once(width: int, minibatch: int, batch: int, steps: int, device: str = "cpu") -> tuple[float, Any]:
    """Seconds a network-step of ``batch`` networks that train together, and the run."""
    env = optenvs.make(
        "optenvs/TrainDigits-v0", widths=(width,), batch_size=minibatch, budget=steps + 1, device=device
    )
    run = optenvs.rollout(env, agents.SGD(lr=LR), seed=0, batch=batch, steps=steps)
    return float(run.seconds[-1]) / (batch * steps), run


def one_by_one(
    width: int, minibatch: int, networks: int, steps: int, device: str = "cpu"
) -> tuple[float, float]:
    """Seconds a network-step of ``networks`` that train in turn, and their last accuracy on training data."""
    tensors = data.tensors(data.load("digits"), torch.device(device), torch.float32, "scalar")
    inputs, targets = tensors.train_x.flatten(1), tensors.train_y.long()
    loss_of, right, seconds = nn.CrossEntropyLoss(), 0.0, 0.0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its fastest setting: one network is no work for two threads
    for number in range(networks):
        generator = torch.Generator().manual_seed(number)
        model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        per_epoch = len(inputs) // minibatch
        start = time.perf_counter()
        for step in range(steps):
            if step % per_epoch == 0:
                order = torch.randperm(len(inputs), generator=generator).to(device)
            rows = order[step % per_epoch * minibatch :][:minibatch]
            optimizer.zero_grad()
            loss = loss_of(model(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - start
        with torch.no_grad():
            right += float((model(inputs).argmax(-1) == targets).float().mean())
    torch.set_num_threads(threads)
    return seconds / (networks * steps), right / networks


def measure(
    width: int, minibatch: int, batch: int = 256, epochs: int = 2, networks: int = 4, repeats: int = 5
) -> dict[str, float]:
    """Network-steps a second of both, their ratio (median over the rounds), and accuracies reached."""
    steps = epochs * (SAMPLES // minibatch)
    together, apart, accuracies = [], [], (0.0, 0.0)
    for round_ in range(repeats + 1):  # the first one warms up
        seconds, run = at_once(width, minibatch, batch, steps)
        plain, accuracy = one_by_one(width, minibatch, networks, steps)
        if round_:
            together.append(seconds)
            apart.append(plain)
            accuracies = (float(run.metrics["train_accuracy"][-1].mean()), accuracy)
    return {
        "at once": 1 / statistics.median(together),
        "one by one": 1 / statistics.median(apart),
        "ratio": statistics.median(b / a for a, b in zip(together, apart, strict=True)),
        "accuracy at once": accuracies[0],
        "accuracy one by one": accuracies[1],
    }


def main() -> None:
    """Print the table."""
    print(machine())
    for name, width, minibatch, goal in CASES:
        result = measure(width, minibatch)
        print(
            f"{name}, minibatch {minibatch}: at once {result['at once']:9,.0f}, one by one "
            f"{result['one by one']:7,.0f} network-steps/s, ratio {result['ratio']:.1f}x (goal {goal:.0f}x); "
            f"training accuracy {result['accuracy at once']:.3f} and {result['accuracy one by one']:.3f}"
        )


if __name__ == "__main__":
    main()
