"""When does a network grok, and what are its nodes then? Group arithmetic by six methods.

    python examples/grokking.py --group Z23 --epochs 400 --out grokking.png

256 nodes, x^2, on 80 % of all pairs; full batches, squared loss, as in figures 10 to 16 of Tian 2025
(arXiv 2509.21519). Told are the epochs after which half of the seeds have learned the training pairs (99 %)
and then the others (95 %), and the purity at the end: the mean over the nodes of the largest share of one
frequency (or irrep) in a node's power. Learning rates are 5e-3, with Muon 2e-2.

Medians of three seeds (torch 2.13 CPU, one thread, 45 s in all):

    Z23                         memorised  generalised  purity
    Adam                               20          160    0.61
    Adam, V = 0 at first               20           60    0.67
    Adam, complex weights              10          260    0.47
    Muon, the paper's                  30          360    0.48
    Muon, the reference's              20          140    0.61
    ridge on top, Adam below           10          280    0.52

As in the paper V = 0 is fast, and a ridge solution on top is slow on a group this small. Complex weights are
slower here and faster in its figure 10; its code casts real weights, whose imaginary parts have no slope and
stay 0, where here both parts are drawn. Muon moves W alone, and V by Adam at the same rate; at 5e-3, Adam's
rate, it has not generalised after 600 epochs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import agents
import optenvs
from optenvs.core import Run
from optenvs.core.picture import new_figure

DECAY = 5e-5
METHODS: dict[str, tuple[dict[str, Any], Any]] = {
    # name: keywords of the problem, and the agent
    "Adam": ({}, agents.Adam(lr=5e-3, weight_decay=DECAY)),
    "Adam, V = 0 at first": ({"v_init": 0.0}, agents.Adam(lr=5e-3, weight_decay=DECAY)),
    "Adam, complex weights": ({"complex_weights": True}, agents.Adam(lr=5e-3, weight_decay=DECAY)),
    "Muon, the paper's": (
        {},
        agents.Muon(lr=2e-2, weight_decay=DECAY, adam_weight_decay=DECAY),
    ),
    "Muon, the reference's": (
        {},
        agents.Muon(lr=2e-2, method="reference", weight_decay=DECAY, adam_weight_decay=DECAY),
    ),
    "ridge on top, Adam below": ({"oracle": "minibatch"}, agents.RidgeTop(lr=5e-3, weight_decay=DECAY)),
}
NEVER = "-"


def run_of(name: str, epochs: int, seeds: int, **keywords: Any) -> Run:
    """The runs of one method, a seed a row."""
    own, agent = METHODS[name]
    env = optenvs.make("GroupGrokking", dtype="float32", budget=None, **(keywords | own))
    return optenvs.rollout(env, agent, batch=seeds, steps=epochs)


def reached(run: Run, metric: str, height: float) -> float:
    """The epoch after which half of the seeds are above a height; infinite for never."""
    above = run.metrics[metric].numpy() > height
    first = np.where(above.any(0), above.argmax(0), np.inf)
    return float(np.median(first))


def plot(runs: dict[str, Run], title: str, path: Path) -> None:
    """Accuracies on what is held out, and purities, medians of the seeds."""
    figure = new_figure(9.0, 3.8)
    panels = figure.subplots(1, 2)
    for axes, metric in zip(panels, ("test_accuracy", "purity"), strict=True):
        for i, (name, run) in enumerate(runs.items()):
            course = np.median(run.metrics[metric].numpy(), axis=1)
            axes.plot(course, label=name, color=f"C{i}", linewidth=1.5)
        axes.set(xlabel="epochs", ylabel=metric.replace("_", " "), ylim=(0, 1.02), title=title)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Train, print the table, draw."""
    parser = argparse.ArgumentParser(description="When does a network grok?")
    parser.add_argument("--group", default="Z23")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="methods whose name has this in it")
    parser.add_argument("--out", type=Path, default=None, help="where the picture goes")
    given = parser.parse_args(arguments)
    runs = {}
    print(f"{given.group:26}  memorised  generalised  purity")
    for name in METHODS:
        if given.only not in name:
            continue
        run = runs[name] = run_of(name, given.epochs, given.seeds, group=given.group, width=given.width)
        times = [reached(run, "train_accuracy", 0.99), reached(run, "test_accuracy", 0.95)]
        told = [NEVER if time == np.inf else f"{time:.0f}" for time in times]
        purity = float(run.metrics["purity"][-1].median())
        print(f"{name:26}  {told[0]:>9}  {told[1]:>11}  {purity:6.2f}")
    if given.out is not None:
        plot(runs, f"{given.group}, {given.width} nodes", given.out)


if __name__ == "__main__":
    main()
