"""How many pairs does it take to generalise? The boundary of memorisation against log(M)/M.

    python examples/grokking_boundary.py --groups Z23 Z41 --epochs 1500
    python examples/grokking_boundary.py --groups Z23 Z41 Z71 Z127 --epochs 10000 --seeds 20 --device cuda
    python examples/grokking_boundary.py --groups Z71 --width 2048 --ratios 2.425 --lr 5e-4 --decay 0

Of each group networks are trained on shares p of all pairs, in units of p_c = 2.7482 ln(M)/M (times
max d_k / 2 where some irrep has a dimension d_k above 2), and told are the medians over the seeds of the best
accuracy on the others. Where it passes 1/2, interpolated, is p_half, and c = p_half M / ln M. Theorem 4 of
Tian 2025 (arXiv 2509.21519) has n of the order of d_k^2 M log M; its code takes c for 2.7482. The last line
is figure 3 without weight decay, which is to stay with what it has memorised.

Measured with the first line and two seeds, in 80 s (torch 2.13 CPU, one thread):

    p / p_c    0.60   0.80   1.00   1.20   1.50   p_half      c
    Z23        0.03   0.03   0.68   0.99   1.00    0.354   2.59
    Z41        0.02   0.02   0.02   0.47   1.00    0.303   3.34

Near the boundary networks go on learning: at 1.2 of Z41 1500 epochs at this rate are not enough. The sizes of
the other lines have not been run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import agents
import optenvs

RATIOS = (0.6, 0.8, 1.0, 1.2, 1.5)


def best(
    group: str, ratio: float, seeds: int, epochs: int, lr: float, decay: float, **keywords: Any
) -> float:
    """The median over the seeds of the best accuracy on what is held out."""
    env = optenvs.make(
        "GroupGrokking", group=group, ratio=ratio, dtype="float32", budget=None, goal=0.99,
        evaluation_period=50, **keywords,
    )  # fmt: skip
    run = optenvs.rollout(env, agents.Adam(lr=lr, weight_decay=decay), batch=seeds, steps=epochs)
    return float(run.metrics["test_accuracy"].amax(0).median())


def half(ratios: Sequence[float], accuracies: Sequence[float]) -> float:
    """Where accuracies pass 1/2, between two ratios; NaN where they do not."""
    for i in range(1, len(ratios)):
        low, high = accuracies[i - 1], accuracies[i]
        if low < 0.5 <= high:
            return ratios[i - 1] + (0.5 - low) / (high - low) * (ratios[i] - ratios[i - 1])
    return math.nan


def main(arguments: list[str] | None = None) -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description="The boundary between memorising and generalising.")
    parser.add_argument("--groups", nargs="+", default=["Z23", "Z41"])
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="p / p_c")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--decay", type=float, default=2e-4, help="weight decay, coupled")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    print(f"{'p / p_c':8}" + "".join(f"{ratio:7.2f}" for ratio in given.ratios) + "   p_half      c")
    for group in given.groups:
        own = {"width": given.width, "device": given.device}
        found = [
            best(group, ratio, given.seeds, given.epochs, given.lr, given.decay, **own)
            for ratio in given.ratios
        ]
        env: Any = optenvs.make("GroupGrokking", group=group, ratio=1.0, width=1)
        order, passed = env.algebra.order, half(given.ratios, found) * env.share
        row = "".join(f"{accuracy:7.2f}" for accuracy in found)
        print(f"{group:8}{row}   {passed:6.3f}  {passed * order / np.log(order):5.2f}")


if __name__ == "__main__":
    main()
