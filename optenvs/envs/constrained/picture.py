"""Pictures of constrained programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optenvs.core.env import State
from optenvs.core.picture import new_figure, plot_progress, to_array

if TYPE_CHECKING:
    from .base import Constrained


def program(env: Constrained, states: list[State]) -> np.ndarray:
    """The residual by step of one instance."""
    figure = new_figure(5.0, 4.2)
    axes = figure.subplots()
    plot_progress(axes, states, "kkt")
    axes.set_title(env.name)
    return to_array(figure)


def control(env: Constrained, states: list[State]) -> np.ndarray:
    """The residual by step of one instance."""
    return program(env, states)
