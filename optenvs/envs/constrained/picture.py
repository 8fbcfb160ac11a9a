"""Pictures of constrained programs: the feasible curve with the path, a control as a field, the residual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.env import State
from optenvs.core.picture import new_figure, to_array
from optenvs.core.struct import tree_map

if TYPE_CHECKING:
    from .base import Constrained
    from .pde import ConstrainedPde

_PATH, _FEASIBLE, _FORBIDDEN = "#D55E00", "#0072B2", "#999999"
_RESOLUTION = 161
_LEAST = 1e-17  # where the logarithm of a residual stops


def program(env: Constrained, states: list[State]) -> np.ndarray:
    """In two dimensions the path among the level sets and the feasible points; the residual by query."""
    if env.size != 2:
        figure = new_figure(5.4, 4.2)
        axes = figure.subplots()
        axes.set_title(f"{env.name}: {env.size} variables, {env.count} constraints")
        _residuals(axes, states)
        return to_array(figure)
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    _plane(env, states, left)
    left.set_title(env.name)
    _residuals(right, states)
    return to_array(figure)


def control(env: ConstrainedPde, states: list[State]) -> np.ndarray:
    """The control and the state as fields over the square, and the residual by query."""
    figure = new_figure(12.0, 3.8)
    axes = figure.subplots(1, 3)
    state, pull = env.fields(states[-1].observation["x"][:1])
    for place, field, title in ((axes[0], pull, "control z"), (axes[1], state, "state w")):
        shown = place.imshow(
            field[0].double().cpu().numpy(), origin="lower", extent=(0, 2, 0, 2), cmap="viridis"
        )
        place.set_title(title)
        figure.colorbar(shown, ax=place, shrink=0.8)
    _residuals(axes[2], states)
    return to_array(figure)


def _residuals(axes: Any, states: list[State]) -> None:
    """The residual and its parts, by query."""
    lines = {"kkt": "-", "stationarity": "--", "feasibility": ":", "complementarity": "-."}
    for name, style in lines.items():
        values = np.array([float(s.metrics[name][0]) for s in states])
        if name == "complementarity" and not values.any():
            continue
        values = np.where(np.isfinite(values), np.maximum(values, _LEAST), np.nan)
        axes.plot(values, style, marker="o", markersize=2.5, label="KKT" if name == "kkt" else name)
    axes.set_yscale("log")
    axes.set_xlabel("queries")
    axes.set_ylabel("residual")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _plane(env: Constrained, states: list[State], axes: Any) -> None:
    path = torch.cat([s.observation["x"][:1] for s in states]).double().cpu().numpy()
    x, y = (np.linspace(*_window(env, states[-1], path, axis), _RESOLUTION) for axis in range(2))
    points = np.stack([grid.ravel() for grid in np.meshgrid(x, y)], -1)
    value, rows = _answers(env, states[-1], points)
    value = value.reshape(len(y), len(x))
    finite = value[np.isfinite(value)]
    # levels of equal area show a valley as well as a peak
    levels = np.unique(np.quantile(finite, np.linspace(0, 1, 18))) if len(finite) else finite
    if len(levels) > 1:
        axes.contour(x, y, value, levels=levels, cmap="viridis", linewidths=0.7)
    for number, row in enumerate(rows.T):
        height = row.reshape(len(y), len(x))
        if not np.nanmin(height) <= 0 <= np.nanmax(height):
            continue
        axes.contour(x, y, height, levels=[0.0], colors=_FEASIBLE, linewidths=1.8)
        if number >= env.equality_count:
            axes.contourf(x, y, height, levels=[0.0, np.inf], colors=_FORBIDDEN, alpha=0.3)
    axes.plot(path[:, 0], path[:, 1], "o-", color=_PATH, markersize=2.5, linewidth=1)
    axes.plot(*path[-1], "o", color="black", markersize=6)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$")


def _window(env: Constrained, last: State, path: np.ndarray, axis: int) -> tuple[float, float]:
    """Around the path and the solution, if that is known; a path that flies away leaves the picture."""
    start = path[0, axis]
    reach = 3 * (1 + abs(start))
    shown = list(np.clip(np.nan_to_num(path[:, axis], nan=start), start - reach, start + reach))
    if last.hidden.optimum is not None:
        shown.append(float(last.hidden.optimum[0, axis]))
    low, high = min(shown), max(shown)
    margin = max(0.25 * (high - low), 0.5)
    return low - margin, high + margin


def _answers(env: Constrained, last: State, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objective ``(m,)`` and constraints ``(m, k)`` of one instance at many points, unbilled."""
    many = torch.from_numpy(points).to(last.observation["x"])
    data = tree_map(lambda leaf: leaf[:1].expand(len(many), *leaf.shape[1:]), last.hidden.data)
    with torch.no_grad():
        value, rows = env.objective(data, many), env.constraints(data, many)
    return value.double().cpu().numpy(), rows.double().cpu().numpy()
