"""How much is a value worth, if one may ask for an order? Six methods at equal numbers of points shown.

    python examples/ranking_methods.py --out ranking.png

A quadratic and Rosenbrock's function in 100 dimensions from a standard normal start. The methods that
estimate a direction show 10 points for it and 5 trials along it (and, by orders, x beside them: it is shown,
and counted); GLD-Fast and CMA-ES show 15 points at once. ZO-SGD is told values, all others an order and
nothing else. Drawn is the median of the point that a method stands behind: x, or the best of the last
population of CMA-ES. Needs the extra "plot", and for CMA-ES the package cma.

Medians of 5 runs after 750, 1,500 and 6,000 points:

                       quadratic (from 95)        Rosenbrock (from 38,000)
    ZO-RankSGD         3.1    0.29   0.053           820    320    110
    ZO-SGD (values)    4.3    0.93   0.21            560    270    100
    signs              6.8    0.60   0.065         1,500    490    110
    SCOBO              6.7    0.63   0.072         1,500    460    110
    GLD-Fast            55      33   1.2          14,000  7,100    690
    CMA-ES              18     2.8   0.00012       3,200    800     98

An order is worth about as much as values early on, and more than signs; on the quadratic CMA-ES is ahead in
the end. The rates are those of a coarse grid.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
import optenvs
from optenvs.core import OptimizationEnv
from optenvs.core.picture import new_figure

DIM = 100
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")


def square(x: torch.Tensor) -> torch.Tensor:
    """The quadratic of the paper, without a factor of a half."""
    return x.square().sum(-1)


def methods(rate: float) -> dict[str, Any]:
    """The agents; ``rate`` is the step of ZO-SGD, whose directions have the size of a gradient."""
    found = {
        "ZO-RankSGD": agents.ZORankSGD(shown=10, lr=0.5),
        "ZO-SGD (values)": agents.ZOSGD(lr=rate),
        "signs": agents.ZOSign(shown=10, mu=0.01, lr=2.0),
        "SCOBO": agents.SCOBO(shown=10, lr=2.0, lr_decay=1.0, line_search=5, redraw=True),
        "GLD-Fast": agents.GLDFast(radius=20.0),
    }
    if importlib.util.find_spec("cma") is None:
        print("CMA-ES is left out: pip install cma")
        return found
    return found | {"CMA-ES": agents.CMA(std=0.5, bounded=False)}


def problem(function: Any, agent: Any) -> OptimizationEnv:
    """Orders of at most 15 points, or the values of 10 particles."""
    common: dict[str, Any] = {"budget": None, "tolerance": None, "dtype": "float64"}
    name = "landscape" if "value" in agent.needs else "objective"
    if isinstance(function, str):
        common |= {name: function, "dim": DIM}
    else:
        common[name] = optenvs.from_function(function, dim=DIM, batched=True)
    if "value" in agent.needs:
        return optenvs.make("optenvs/Particles-v0", particles=10, start_mean=0.0, **common)
    return optenvs.make("optenvs/Ranking-v0", shown=15, start_std=1.0, **common)


def curve(env: OptimizationEnv, agent: Any, points: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Points shown and the median value, query by query, up to ``points``."""
    kind = "value" if "value" in agent.needs else "points"
    # an iteration has one query of 15 points, or two that show 15 or 16 together; enough of either
    one = isinstance(agent, agents.GLDFast) or not hasattr(agent, "line_search")
    steps = points // 14 if one else 2 * points // 14
    run = optenvs.rollout(env, agent, batch=batch, steps=steps)
    # the first query is the environment's own, for which nobody stands
    shown = run.calls[kind].double().mean(1).numpy()[1:]
    value = run.metrics["value"].median(1).values.numpy()[1:]
    return shown[shown <= points], value[shown <= points]


def main(arguments: list[str] | None = None) -> None:
    """Run all methods on both functions, print the medians, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("ranking.png"))
    parser.add_argument("--points", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=5)
    options = parser.parse_args(arguments)
    figure = new_figure(9.6, 4.2)
    panels = figure.subplots(1, 2)
    cases = (("$|x|^2$", square, 1.0), ("Rosenbrock", "optenvs/Rosenbrock-v0", 1e-3))
    marks = [options.points // 8, options.points // 4, options.points]
    for axes, (title, function, rate) in zip(panels, cases, strict=True):
        for color, (name, agent) in zip(COLORS, methods(rate).items(), strict=False):
            shown, value = curve(problem(function, agent), agent, options.points, options.batch)
            axes.semilogy(shown, value, color=color, label=name, linewidth=1.4)
            found = [value[min(np.searchsorted(shown, mark), len(value) - 1)] for mark in marks]
            row = ", ".join(f"{median:.2g} at {mark:,}" for median, mark in zip(found, marks, strict=True))
            print(f"{title:12s} {name:16s} {row}", flush=True)
        axes.set(title=f"{title}, {DIM} dimensions", xlabel="points shown", ylabel="median value")
        axes.set_xlim(0, options.points)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(options.out, dpi=85)
    print("wrote", options.out)


if __name__ == "__main__":
    main()
