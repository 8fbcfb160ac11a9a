"""Pictures of a swarm: the particles and the recommendation on the landscape, and the progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.env import State
from optenvs.core.picture import new_figure, plot_progress, to_array
from optenvs.envs.landscapes.picture import fill

from .particles import Particles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .base import Swarm

_PARTICLE, _PATH = "#FFFFFF", "#D55E00"
_RESOLUTION = 121


def swarm(env: Swarm, states: list[State]) -> np.ndarray:
    """The swarm of one instance now, the path of its recommendation, and the progress."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    _scene(env, states, left, _window(env, states))
    known = "gap" in states[-1].metrics
    plot_progress(right, states, "gap" if known else None)
    right.set_title(f"after {len(states) - 1} queries")
    return to_array(figure)


def film(env: Swarm, states: list[State], path: str | Path, fps: int) -> None:
    """Write one picture a state into a GIF, or a MP4 where ffmpeg is installed.

    Raises:
        ValueError: another ending, or no states. RuntimeError: no ffmpeg for a MP4.
    """
    from matplotlib import animation

    path = Path(path)
    writers = {".gif": animation.PillowWriter, ".mp4": animation.FFMpegWriter}
    if path.suffix not in writers:
        raise ValueError(f"path: expected a name that ends in .gif or .mp4, got {path.name!r}")
    if not states:
        raise ValueError("states: expected at least one")
    writer = writers[path.suffix]
    if not writer.isAvailable():
        raise RuntimeError(f"path: {path.suffix} needs ffmpeg, which is not installed; .gif does not")
    # the window of the whole episode, so that it does not jump
    window = _window(env, states)
    # a film's pictures have one size, which a constrained layout does not hold
    figure: Figure = new_figure(5.0, 4.6)
    axes = figure.subplots()
    with (made := writer(fps=fps)).saving(figure, str(path), figure.dpi):
        for last in range(1, len(states) + 1):
            axes.clear()
            _scene(env, states[:last], axes, window)
            made.grab_frame()


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


def _window(env: Swarm, states: list[State]) -> list[tuple[float, float]]:
    """The ends of the two axes drawn: the start, the optimum, what was recommended, most of the particles."""
    points = np.stack([_array(s.observation["point"][0]) for s in states])
    shown = [points[0], *(_array(s.hidden.recommendation[:1]) for s in states)]
    if isinstance(env, Particles) and states[-1].hidden.oracle.optimum is not None:
        shown.append(_array(states[-1].hidden.oracle.optimum[:1]))
    # those that fly away leave the picture, not the picture its subject
    shown.append(np.nanquantile(np.where(np.isfinite(points), points, np.nan), (0.1, 0.9), axis=(0, 1)))
    ends = []
    for values in np.concatenate(shown).T[:2]:
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if len(finite) else (-1.0, 1.0)
        margin = 0.08 * (high - low) or 1.0
        ends.append((low - margin, high + margin))
    return ends


def _scene(env: Swarm, states: list[State], axes: Any, window: list[tuple[float, float]]) -> None:
    last = states[-1]
    points = _array(last.observation["point"][0])
    path = np.stack([_array(s.hidden.recommendation[0]) for s in states])
    if isinstance(env, Particles):
        _ground(env, last, path, axes, window)
    if env.size == 1:
        heights = _array(last.observation["value"][0, :, 0])
        axes.plot(points[:, 0], heights, "o", color=_PARTICLE, markeredgecolor="black", markersize=4)
        axes.plot(path[-1:, 0], _array(last.metrics["value"][:1]), "o", color=_PATH, markersize=7)
        axes.set_xlabel("$x_1$")
        axes.set_ylabel("value")
    else:
        axes.plot(path[:, 0], path[:, 1], "-", color=_PATH, linewidth=1.4)
        axes.plot(
            points[:, 0], points[:, 1], "o", color=_PARTICLE, markeredgecolor="black", markersize=4,
            markeredgewidth=0.6,
        )  # fmt: skip
        axes.plot(path[-1, 0], path[-1, 1], "o", color=_PATH, markeredgecolor="black", markersize=8)
        axes.set_ylim(*window[1])
        axes.set_xlabel("$x_1$")
        axes.set_ylabel("$x_2$")
    axes.set_xlim(*window[0])
    axes.set_title(f"{env.particles} particles, {int(last.calls[last.calls.kinds[0]][0]):,} values")


def _ground(
    env: Particles, last: State, path: np.ndarray, axes: Any, window: list[tuple[float, float]]
) -> None:
    """The landscape: a curve in 1-D, the plane of the first two coordinates through the recommendation."""
    like = last.observation["point"]

    def heights(points: np.ndarray) -> np.ndarray:
        return _array(env.function.values_at(last.hidden.oracle, torch.from_numpy(points).to(like)))

    x = np.linspace(*window[0], _RESOLUTION if env.size > 1 else 801)
    if env.size == 1:
        axes.plot(x, heights(x[:, None]), color="#0072B2", linewidth=1.8)
        return
    y = np.linspace(*window[1], _RESOLUTION)
    fill(axes, heights, x, y, path[-1])
    optimum = last.hidden.oracle.optimum
    if optimum is not None:
        axes.plot(*_array(optimum[0, :2]), "*", color="white", markeredgecolor="black", markersize=12)
