"""Pictures of two levels: level sets of both objectives with the path, or progress by what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.env import State
from optenvs.core.picture import new_figure, plot_progress, to_array
from optenvs.core.struct import tree_map

from .parts import Own

if TYPE_CHECKING:
    from .base import Bilevel

_PATH, _UPPER, _LOWER, _SOLUTION = "#D55E00", "#0072B2", "#999999", "#009E73"
_RESOLUTION = 61


def two_levels(env: Bilevel, states: list[State]) -> np.ndarray:
    """One instance: with one variable a level the plane of (x, y), else Phi and distance beside the merit."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    if env.sizes.n == env.sizes.m == 1:
        _plane(env, states, left)
    else:
        _levels(states, left)
    left.set_title(f"{env.name}: x in {env.sizes.n}, y in {env.sizes.m} dimensions")
    plot_progress(right, states)
    right.set_ylabel("best merit so far")
    right.set_title(f"after {len(states) - 1} queries")
    return to_array(figure)


def _plane(env: Bilevel, states: list[State], axes: Any) -> None:
    """Level sets of F, filled, and of f, lines; what is infeasible is hatched; the path and the solutions."""
    last = states[-1]
    path = np.array([[float(s.observation[name][0, 0]) for name in ("x", "y")] for s in states])
    shown = np.nan_to_num(path)
    low, high = np.minimum(shown.min(0), -2.0), np.maximum(shown.max(0), 2.0)
    x, y = (np.linspace(low[i], high[i], _RESOLUTION) for i in (0, 1))
    grid = np.stack([part.ravel() for part in np.meshgrid(x, y)], -1)
    points = torch.from_numpy(grid).to(last.observation["x"])
    own = _spread(env.own(last), len(points))
    at = points[:, :1], points[:, 1:]

    def surface(values: torch.Tensor) -> np.ndarray:
        return values.double().cpu().numpy().reshape(_RESOLUTION, _RESOLUTION)

    with torch.no_grad():
        axes.contourf(x, y, surface(env.upper(own, *at)), levels=20, cmap="Blues_r")
        axes.contour(x, y, surface(env.lower(own, *at)), levels=10, colors=_LOWER, linewidths=0.7)
        if env.sizes.p:
            violation = own.known.violation(env.constrain(own, *at))
            axes.contourf(x, y, surface(violation), [1e-9, np.inf], colors="none", hatches=["//"])
        if env.solvable:
            line = torch.from_numpy(x).to(points).unsqueeze(-1)
            found = env.solve(_spread(env.own(last), len(line)), line).y
            axes.plot(x, found[:, 0].double().cpu().numpy(), color=_SOLUTION, label="y*(x)")
    axes.plot(*path.T, "o-", color=_PATH, markersize=2.5, linewidth=1, label="path")
    axes.plot(*path[-1], "o", color="black", markersize=6)
    axes.set(xlabel="x", ylabel="y", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.legend(loc="lower right")


def _levels(states: list[State], axes: Any) -> None:
    """F, Phi and the distance from the lower solutions by query; the first two on the left scale."""
    queries = np.arange(len(states))
    for name, color, label in (("upper_value", _UPPER, "F(x, y)"), ("value", _SOLUTION, "F(x, y*(x))")):
        if name in states[0].metrics:
            axes.plot(queries, [float(s.metrics[name][0]) for s in states], color=color, label=label)
    axes.set(xlabel="queries", ylabel="upper value")
    axes.legend(loc="upper center")
    if "distance" in states[0].metrics:
        other = axes.twinx()
        other.plot(queries, [float(s.metrics["distance"][0]) for s in states], color=_PATH)
        other.set_ylabel("distance from the lower solutions", color=_PATH)


def _spread(own: Own, count: int) -> Own:
    """The functions of the first instance at many points."""
    return tree_map(lambda leaf: leaf[:1].expand(count, *leaf.shape[1:]), own)
