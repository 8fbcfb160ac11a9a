"""How do optimizers walk? The paths of five methods on Rosenbrock's valley and on Beale's function.

    python examples/render_landscape.py --out landscape.png

Every method asks the same number of gradients from the same starting point; a learning rate is chosen for
each from one grid, run as one batch (a rate may be a tensor, one entry an instance). Needs the extra "plot".
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

import agents
import optenvs
from optenvs.core import OptimizationEnv
from optenvs.core.picture import new_figure
from optenvs.envs.landscapes.base import Landscape

METHODS = {
    "SGD, momentum 0.9": (agents.SGD(momentum=0.9), "#D55E00"),
    "Adam": (agents.Adam(), "#F0E442"),
    "RMSprop": (agents.RMSprop(), "#CC79A7"),
    "diffGrad": (agents.DiffGrad(), "#56B4E9"),
    "AdaBelief": (agents.AdaBelief(), "#FFFFFF"),
}
RATES = torch.logspace(-5, -0.5, 28)


def best_path(env: OptimizationEnv, agent: Any, steps: int) -> tuple[np.ndarray, float, float]:
    """The path ``(steps + 1, 2)`` of the learning rate whose last gap is least, that rate and that gap."""
    grid = dataclasses.replace(agent, lr=RATES)
    keys = torch.zeros(len(RATES), dtype=torch.int64)  # one instance, once a rate
    run = optenvs.rollout(env, grid, keys=keys, steps=steps, record=("point",))
    gaps = run.metrics["gap"][-1].nan_to_num(nan=torch.inf).masked_fill(run.diverged, torch.inf)
    best = int(gaps.argmin())
    return run.recorded["point"][:, best].numpy(), float(RATES[best]), float(gaps[best])


def draw(axes: Any, env: Landscape, title: str, window: tuple[float, ...], steps: int) -> None:
    """The landscape as filled contours, and the path of each method on it."""
    state = env.reset(torch.zeros(1, dtype=torch.int64))
    x, y = np.linspace(*window[:2], 301), np.linspace(*window[2:], 301)
    grid = np.stack([part.ravel() for part in np.meshgrid(x, y)], -1).astype(np.float32)
    values = env.values_at(state.hidden, torch.from_numpy(grid)).numpy().reshape(301, 301)
    heights = np.log10(values - values.min() + 1e-2)
    axes.contourf(x, y, heights, levels=20, cmap="viridis")
    for name, (agent, color) in METHODS.items():
        path, rate, gap = best_path(env, agent, steps)
        print(f"{title:16s} {name:18s} lr {rate:.1e}, gap after {steps} gradients {gap:.1e}")
        axes.plot(path[:, 0], path[:, 1], ".-", color=color, linewidth=1.3, markersize=3, label=name)
    optimum = state.hidden.optimum[0].numpy()
    axes.plot(*optimum, "*", color="white", markeredgecolor="black", markersize=14, zorder=9)
    axes.plot(*state.observation["point"][0].numpy(), "o", color="black", markersize=6, zorder=9)
    axes.set(title=f"{title}, {steps} gradients", xlim=window[:2], ylim=window[2:])
    axes.set(xlabel="$x_1$", ylabel="$x_2$")


def main() -> None:
    """Draw both landscapes into one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("landscape.png"))
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2)
    valley = optenvs.make("optenvs/Rosenbrock-v0", dim=2, start=(-1.2, 1.0), tolerance=None)
    toy = optenvs.make("optenvs/AdaBeliefToy-v0", problem="beale2")
    draw(left, valley, "Rosenbrock", (-1.6, 1.6, -0.7, 1.7), options.steps)
    draw(right, toy, "Beale", (-3.5, 4.2, -3.5, 2.5), options.steps)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, facecolor="0.55")
    figure.savefig(options.out, dpi=85)
    print("wrote", options.out)


if __name__ == "__main__":
    main()
