"""Four processes train one network, each on its own digits: how many messages does an accuracy cost?

    torchrun --nproc-per-node 4 examples/decentralized_digits.py --out decentralized_digits.png

Every process is a node of a graph. It computes gradients on its own images in one thread and exchanges
vectors with free neighbours in another; no process sees another's images. The images are dealt out at random
(iid), and sorted by class, so that each node sees two or three of the ten digits. Needs the extras "data",
"bench" and "plot".
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

import agents
import optenvs
from optenvs.core.picture import new_figure

METHODS: dict[str, tuple[Any, str]] = {
    "a2cid2": (agents.make("a2cid2"), "#D55E00"),
    "dadao": (agents.make("dadao"), "#0072B2"),
    "ad_psgd": (agents.make("ad_psgd"), "#009E73"),
}
SPLITS = {"iid": "-", "class": "--"}


def train(method: str, split: str, options: argparse.Namespace) -> Any:
    """One run of this process; its record at node 0."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    core = optenvs.make(
        "optenvs/NetworkDigits-v0", nodes=size, graph=options.graph, split=split, t_max=options.units
    )
    with tqdm(total=options.units, desc=f"{method} {split}", unit="unit", disable=rank > 0) as bar:

        def progress(report: Any) -> None:
            done = report.time if options.mode == "replay" else report.gradients
            bar.update(min(done, options.units) - bar.n)
            bar.set_postfix(gradients=report.gradients, exchanges=report.exchanges, refresh=False)

        return optenvs.run_processes(
            core,
            METHODS[method][0],
            seed=options.seed,
            mode=options.mode,
            folder=options.folder,
            on_report=progress,
        ).record


def draw(records: dict[tuple[str, str], Any], path: Path) -> None:
    """Accuracy on the held-out images against exchanges, and against seconds."""
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2, sharey=True)
    for (method, split), record in records.items():
        look = {"color": METHODS[method][1], "linestyle": SPLITS[split], "linewidth": 1.6}
        accuracy = record.metrics["test_accuracy"]
        left.plot(record.calls["exchange"], accuracy, label=f"{method}, {split}", **look)
        right.plot(record.seconds, accuracy, **look)
    left.set(xlabel="exchanges of all edges", ylabel="test accuracy of the mean of the iterates")
    right.set(xlabel="seconds")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=85)


def main() -> None:
    """Train by every method on every split, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["a2cid2", "dadao"])
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--mode", choices=("wall_clock", "replay"), default="wall_clock")
    parser.add_argument("--graph", default="cycle")
    parser.add_argument("--units", type=int, default=300, help="gradients a node, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the nodes save their last state if one fails")
    parser.add_argument("--out", type=Path, default=Path("decentralized_digits.png"))
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start it with torchrun --nproc-per-node 4 examples/decentralized_digits.py")
    records = {}
    for split in options.splits:
        for method in options.methods:
            record = train(method, split, options)
            if record is None:
                continue
            records[method, split] = record
            last = {name: float(values[-1]) for name, values in record.metrics.items()}
            by_node = " + ".join(map(str, record.gradients[-1].tolist()))
            print(
                f"{method:8s} {split:6s} {by_node} gradients, {int(record.calls['exchange'][-1])} exchanges, "
                f"{float(record.seconds[-1]):.1f} s: loss {last['loss']:.3f}, "
                f"test accuracy {last['test_accuracy']:.3f}, consensus distance {last['consensus']:.1e}"
            )
    if records:
        draw(records, options.out)
        print("wrote", options.out)


if __name__ == "__main__":
    main()
