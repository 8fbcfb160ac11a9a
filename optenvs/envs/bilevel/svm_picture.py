"""The picture of an SVM's two levels: both values against the bill, and the penalty of every sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optenvs.core.picture import new_figure, to_array

if TYPE_CHECKING:
    from optenvs.core.env import State

    from .svm import BilevelSvm

_GREY, _BLUE, _ORANGE = "#B0B0B0", "#0072B2", "#D55E00"


def penalties(core: BilevelSvm, states: list[State]) -> np.ndarray:
    """F at the pair and Phi at the exact lower solution; beside it the log penalties, before and now."""
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2)
    draw_values(left, states)
    draw_penalties(right, core, states)
    return to_array(figure)


def draw_values(axes: Any, states: list[State]) -> None:
    """``upper_value`` and ``value`` against the derivatives that were paid."""
    unit = "derivatives"
    calls = [int(state.calls[unit][0]) for state in states]
    if not calls[-1]:  # whoever buys no derivatives is shown by queries
        unit, calls = "queries", [int(state.k[0]) for state in states]
    for name, label, colour, line in (
        ("upper_value", "F(x, y)", _ORANGE, "-"),
        ("value", "F at the exact lower solution", _BLUE, "--"),
    ):
        axes.plot(calls, [float(s.metrics[name][0]) for s in states], line, color=colour, label=label)
    axes.set(xlabel=unit, ylabel="upper objective")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def draw_penalties(axes: Any, core: BilevelSvm, states: list[State]) -> None:
    """Each sample's log penalty, in the order of the present ones; samples with a wrong label in orange."""
    first, now = (state.observation["x"][0].detach().cpu().numpy() for state in (states[0], states[-1]))
    wrong = states[-1].hidden.data.flipped[0].cpu().numpy()
    order = np.argsort(now, kind="stable")
    place = np.arange(len(order))
    axes.plot(place, first[order], ".", color=_GREY, markersize=3, label="at the start")
    for which, colour, label in ((~wrong, _BLUE, "now"), (wrong, _ORANGE, "now, with a wrong label")):
        shown = which[order]
        if shown.any():
            axes.plot(place[shown], now[order][shown], ".", color=colour, markersize=5, label=label)
    margin = 0.04 * (core.high - core.low)
    axes.set(ylim=(core.low - margin, core.high + margin), xlabel="sample", ylabel="log penalty")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
