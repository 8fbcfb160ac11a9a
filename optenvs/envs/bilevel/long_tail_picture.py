"""The picture of a loss tuned by clients: both values by round, and what the loss does to each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from optenvs.core.picture import new_figure, to_array

if TYPE_CHECKING:
    from optenvs.core.env import State

    from .long_tail import BilevelLongTail

_GREY, _BLUE, _ORANGE = "#B0B0B0", "#0072B2", "#D55E00"


def tuning(core: BilevelLongTail, states: list[State]) -> np.ndarray:
    """F and the value after training against rounds; beside it factor and shift of each class's logit."""
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2)
    rounds = [int(state.calls["round"][0]) for state in states]
    for name, colour in (("upper_value", _ORANGE), ("value", _BLUE), ("test_accuracy", _GREY)):
        course = [float(state.metrics[name][0]) for state in states]
        left.plot(rounds, course, color=colour, label=name.replace("_", " "))
    left.set(xlabel="rounds")
    left.grid(alpha=0.3)
    left.legend(frameon=False, fontsize=8)
    classes = len(core.counts)
    x = states[-1].hidden.mean[0, : 2 * classes].detach().cpu()
    place = np.arange(classes)
    for offset, values, colour, label in (
        (-0.2, torch.sigmoid(x[:classes]), _BLUE, "factor, sigmoid(Delta)"),
        (0.2, x[classes:], _ORANGE, "shift, l"),
    ):
        right.bar(place + offset, values.numpy(), 0.4, color=colour, label=label)
    right.set_xticks(place, [f"{c}\n{count}" for c, count in enumerate(core.counts)], fontsize=7)
    right.set(xlabel="class, and its samples")
    right.grid(alpha=0.3, axis="y")
    right.legend(frameon=False, fontsize=8)
    return to_array(figure)
