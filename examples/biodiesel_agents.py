"""Where do four agents go in the bio-diesel reactor, and who finds the corner?

The yield by the reactor's equations on the feasible set, over time and power of the heater, and each agent's
best points so far, from the paper's start. The two agents of Bouchet and Vidal (2025) climb the merit
f - |violated constraints|^2; the other two keep the constraints apart behind a progressive barrier.

    python examples/biodiesel_agents.py --out biodiesel.png

The true yield of the best point so far (torch 2.13 CPU, float64, seed 0, three minutes of one core):

    points             at 10      at 30      at 100     at 300     at 600     time and power
    directional_attack 0.6282     1.0912     1.2718     1.2819     1.2819    65.01 s, 7.6909 W
    cdsm               0.5291     0.5630     1.3456     1.6896     1.7120    99.37 s, 5.0318 W
    mads               0.8373     1.3359     1.5477     1.7102     1.8601    119.83 s, 4.1691 W
    barrier_attack     1.8626     1.8626     1.8626     1.8626     1.8626    120.00 s, 4.1667 W

The optimum is the corner of the longest time and of the most energy, t Q = 500 J, with 1.8626. The attacks of
the paper stop where the sign of the gradient leads out of the feasible set; those of the model slide along
its edge, and are there after four points. An attack asks a product beside each point, or the Jacobian.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes

import agents
import optenvs
from optenvs.core.env import State
from optenvs.core.picture import new_figure
from optenvs.core.random import keys_from_seed

COLOURS = {"directional_attack": "#D55E00", "cdsm": "#CC79A7", "mads": "#0072B2", "barrier_attack": "#000000"}
UNITS = np.array([120.0, 20.0])  # seconds and watts
NEAR = 1e-4
"""The points in the legend are those after which the yield grows by less."""


class Way(NamedTuple):
    """Where an agent has been.

    Attributes:
        points: how many points had been asked, ``(T,)``.
        design: the best one so far, in seconds and watts, ``(T, 2)``.
        true: its yield by the equations, ``(T,)``.
        violation: by how much it leaves the true feasible set, ``(T,)``.
    """

    points: np.ndarray
    design: np.ndarray
    true: np.ndarray
    violation: np.ndarray


def problem(name: str, budget: int, surrogate: str) -> Any:
    """The reactor as the agent asks it."""
    keywords: dict[str, Any] = {"formulation": "constraints"}
    if name in ("directional_attack", "cdsm"):
        keywords = {"formulation": "penalty"}
    oracle = {"directional_attack": "vjp", "barrier_attack": "jacobian"}.get(name, "value")
    points = 1 if name == "barrier_attack" else 4
    return optenvs.make(
        "Biodiesel", surrogate=surrogate, points=points, oracle=oracle, budget=budget, **keywords
    )


def travel(name: str, budget: int, surrogate: str = "ode", seed: int = 0) -> Way:
    """Run an agent from the paper's start."""
    env = problem(name, budget, surrogate)
    columns: list[tuple[float, ...]] = []

    def note(_: int, state: State) -> None:
        x = state.hidden.best_point[0].tolist()
        truth = [float(state.metrics[f"true_{what}"][0]) for what in ("objective", "violation")]
        columns.append((float(state.calls["value"][0]), *x, *truth))

    keys = keys_from_seed(seed, 1)
    note(0, env.reset(keys))
    optenvs.rollout(env, agents.make(name), keys=keys, steps=budget, on_step=note)
    table = np.array(columns)
    return Way(table[:, 0], table[:, 1:3] * UNITS, table[:, 3], table[:, 4])


def map_of_yields(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Times, powers, and over them the true yield and what must be at most 0, ``(side, side)`` each."""
    env: Any = problem("mads", 10, "ode")
    data = env.reset(keys_from_seed(0, 1)).hidden.data
    axis = torch.linspace(0, 1, side, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    with torch.no_grad():
        seen = env.look(data, torch.stack((x, y), -1).view(1, -1, 2))
    grid = axis.numpy()
    value, c = -seen.value.view(side, side).numpy(), seen.constraints.view(side, side, -1).numpy()
    # apart, since each is smooth: energy, concentrations, the coldest and the hottest
    parts = (slice(4, 5), slice(5, 505), slice(505, 605), slice(605, 705))
    limits = [c[..., part].max(-1) for part in parts]
    return grid * UNITS[0], grid * UNITS[1], value, limits


def draw(axes: Axes, paths: dict[str, Way], side: int) -> None:
    """The map and the paths."""
    times, powers, value, limits = map_of_yields(side)
    filled = axes.contourf(times, powers, value, levels=np.linspace(0, 2, 11), cmap="Greens", extend="max")
    axes.figure.colorbar(filled, ax=axes, label="yield by the equations")
    for limit in limits:
        axes.contourf(times, powers, limit, levels=[0, np.inf], colors="0.9")
    for name, path in paths.items():
        spent = path.points[np.flatnonzero(path.true >= path.true[-1] - NEAR)[0]]
        label = f"{name}: {spent:.0f} points, {path.true[-1]:.4f}"
        colour = COLOURS[name]
        axes.plot(*path.design.T, color=colour, linewidth=1.3, marker=".", markersize=4, label=label)
        axes.plot(*path.design[-1], color=colour, marker="o", markersize=7, markerfacecolor="none")
    axes.plot(*paths["mads"].design[0], color="black", marker="s", markersize=5)  # the start
    axes.set(xlabel="time (s)", ylabel="power (W)", xlim=(0, 125), ylim=(0, UNITS[1]))
    axes.legend(fontsize=8, loc="upper right")


def main(arguments: list[str] | None = None) -> None:
    """Run the agents, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("biodiesel.png"))
    parser.add_argument("--points", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=160, help="points of the map, each way")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    paths = {name: travel(name, options.points, seed=options.seed) for name in COLOURS}
    print("points             at 10      at 30      at 100     at 300     at 600     time and power")
    for name, path in paths.items():
        shown = [path.true[path.points <= count][-1] for count in (10, 30, 100, 300, 600)]
        time, power = path.design[-1]
        print(f"{name:18s}" + "".join(f"{t:7.4f}    " for t in shown) + f"{time:.2f} s, {power:.4f} W")
    figure = new_figure(6.5, 4.6)
    draw(figure.subplots(), paths, options.side)
    figure.savefig(options.out, dpi=100)
    print("wrote", options.out)


if __name__ == "__main__":
    main()
