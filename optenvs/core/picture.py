"""Pictures of an episode as arrays. matplotlib (extra ``plot``) is loaded by drawing, not by importing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .env import OptimizationEnv, State


def new_figure(width: float = 5.0, height: float = 4.0) -> Figure:
    """A figure that belongs to no window and to no global list.

    Raises:
        ImportError: matplotlib is not installed; the message names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing needs matplotlib: pip install 'optenvs[plot]' or pip install matplotlib"
        ) from error
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def to_array(figure: Figure) -> np.ndarray:
    """The figure's pixels, uint8 ``(height, width, 3)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plot_progress(axes: Any, states: list[State], metric: str | None = None) -> None:
    """The best merit (or a metric) against the calls of the main oracle, into ``axes``."""
    main = states[0].calls.kinds[0]
    calls = [int(s.calls[main][0]) for s in states]
    values = [float(s.best[0] if metric is None else s.metrics[metric][0]) for s in states]
    axes.plot(calls, values, color="#0072B2", linewidth=1.8)
    if len(values) > 1 and min(values) > 0:
        axes.set_yscale("log")
    axes.set_xlabel(f"{main} calls")
    axes.set_ylabel("best value so far" if metric is None else metric.replace("_", " "))
    axes.grid(alpha=0.3)


def progress(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """An episode's progress against oracle cost, for environments that draw nothing of their own."""
    figure = new_figure()
    plot_progress(figure.subplots(), states)
    return to_array(figure)
