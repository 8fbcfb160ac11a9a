"""Pictures of landscapes: the function with the path on it, and the progress beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.env import State
from optenvs.core.picture import new_figure, plot_progress, to_array

if TYPE_CHECKING:
    from .base import Landscape

_PATH = "#D55E00"
_RESOLUTION = 121


def landscape(env: Landscape, states: list[State]) -> np.ndarray:
    """The path of one instance on its landscape: a curve in 1-D; above 2-D a plane through the last point."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    path = torch.cat([s.observation["point"][:1] for s in states]).double().cpu().numpy()
    (_curve if env.dim == 1 else _plane)(env, states[-1], path, left)
    left.set_title(f"{env.name}, {env.dim} dimension{'s' if env.dim > 1 else ''}")
    known = "gap" in states[-1].metrics
    plot_progress(right, states, "gap" if known else None)
    right.set_title(f"after {len(states) - 1} queries")
    return to_array(figure)


def _window(env: Landscape, last: State, path: np.ndarray, axis: int) -> tuple[float, float]:
    low, high = (float(end[axis]) for end in env.searched)
    low, high = (end if np.isfinite(end) else default for end, default in ((low, -1.0), (high, 1.0)))
    shown = [*path[:, axis]]
    if last.hidden.optimum is not None:
        shown.append(float(last.hidden.optimum[0, axis]))
    # a path that flies away leaves the picture, not the picture its subject
    shown = np.clip(np.nan_to_num(shown), low - (high - low), high + (high - low))
    first, final = min(low, *shown), max(high, *shown)
    margin = 0.05 * (final - first)
    return first - margin, final + margin


def _values(env: Landscape, last: State, points: np.ndarray) -> np.ndarray:
    like = last.observation["point"]
    return env.values_at(last.hidden, torch.from_numpy(points).to(like)).double().cpu().numpy()


def _curve(env: Landscape, last: State, path: np.ndarray, axes: Any) -> None:
    x = np.linspace(*_window(env, last, path, 0), 801)
    axes.plot(x, _values(env, last, x[:, None]), color="#0072B2", linewidth=1.8)
    axes.plot(path[:, 0], _values(env, last, path), "o-", color=_PATH, markersize=3, linewidth=0.8)
    axes.plot(path[-1:, 0], _values(env, last, path[-1:]), "o", color="black", markersize=6)
    axes.set_xlabel("x")
    axes.set_ylabel("value")


def _plane(env: Landscape, last: State, path: np.ndarray, axes: Any) -> None:
    x = np.linspace(*_window(env, last, path, 0), _RESOLUTION)
    y = np.linspace(*_window(env, last, path, 1), _RESOLUTION)
    fill(axes, lambda points: _values(env, last, points), x, y, path[-1])
    axes.plot(path[:, 0], path[:, 1], "o-", color=_PATH, markersize=2.5, linewidth=1)
    axes.plot(*path[-1, :2], "o", color="black", markersize=6)
    if last.hidden.optimum is not None:
        best = last.hidden.optimum[0].double().cpu().numpy()
        axes.plot(best[0], best[1], "*", color="white", markeredgecolor="black", markersize=12)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$")


def fill(
    axes: Any, values: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray, through: np.ndarray
) -> None:
    """Filled contours of ``values`` over the first two coordinates, the others as in ``through``."""
    points = np.tile(through, (len(x) * len(y), 1))
    points[:, 0], points[:, 1] = (grid.ravel() for grid in np.meshgrid(x, y))
    heights = values(points).reshape(len(y), len(x))
    finite = heights[np.isfinite(heights)]
    # levels of equal area show a valley as well as a peak
    levels = np.unique(np.quantile(finite, np.linspace(0, 1, 24))) if len(finite) else finite
    if len(levels) > 1:
        axes.contourf(x, y, heights, levels=levels, cmap="viridis", norm=_ranks(levels))


def _ranks(levels: np.ndarray) -> Any:
    from matplotlib.colors import BoundaryNorm

    return BoundaryNorm(levels, 256)
