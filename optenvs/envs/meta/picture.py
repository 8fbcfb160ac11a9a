"""Pictures of controlled methods: the progress, and what was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optenvs.core.env import State
from optenvs.core.picture import new_figure, plot_progress, to_array

if TYPE_CHECKING:
    from optenvs.core.env import OptimizationEnv


def trials(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """The gap by trials, and beside it log2 of the radius of each trial, accepted or rejected."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    plot_progress(left, states, "gap" if "gap" in states[-1].metrics else None)
    left.set_title(env.name)
    gamma = np.log2([max(float(s.metrics["gamma"][0]), 1e-300) for s in states[1:]])
    accepted = np.array([float(s.metrics["accepted"][0]) > 0 for s in states[1:]], dtype=bool)
    number = np.arange(1, len(states))
    right.plot(number, gamma, color="#999999", linewidth=0.8)
    for chosen, mark, colour, label in (
        (accepted, "o", "#0072B2", "accepted"),
        (~accepted, "x", "#D55E00", "rejected"),
    ):
        right.plot(number[chosen], gamma[chosen], mark, color=colour, label=label, markersize=5)
    right.set_xlabel("trial")
    right.set_ylabel(r"$\log_2 \gamma$")
    right.set_title(f"after {len(states) - 1} trials")
    right.grid(alpha=0.3)
    right.legend()
    return to_array(figure)


def meta_loss(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """The losses of what was played, and the held-out loss where it was measured, by inner gradients."""
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    calls = [int(s.calls["inner"][0]) for s in states]
    axes.plot(
        calls,
        [float(s.metrics["meta_loss"][0]) for s in states],
        color="#999999",
        linewidth=0.9,
        label="of what was played",
    )
    axes.plot(
        calls,
        [float(s.metrics["held_out"][0]) for s in states],
        color="#0072B2",
        drawstyle="steps-post",
        label="held out",
    )
    axes.set_xlabel("inner gradients")
    axes.set_ylabel("meta-loss")
    axes.set_title(env.name)
    axes.grid(alpha=0.3)
    axes.legend()
    return to_array(figure)
