"""Pictures of a training run: losses and accuracies against gradient (or minibatch) calls."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from optenvs.core.env import State
from optenvs.core.evaluations import Evaluations, due
from optenvs.core.picture import new_figure, to_array

_BATCH, _TRAIN, _TEST = "#999999", "#0072B2", "#D55E00"


class Trains(Protocol):
    """What is drawn of an environment that trains networks, one or a swarm of them."""

    @property
    def name(self) -> str:
        """What the picture is called."""
        ...

    @property
    def network(self) -> Any:
        """The model, of a certain ``size``."""
        ...

    @property
    def objective(self) -> Any:
        """Model and loss, of a certain name ``loss``."""
        ...

    @property
    def evaluations(self) -> Evaluations:
        """Queries between two measurements on all data."""
        ...


def training(env: Trains, states: list[State]) -> np.ndarray:
    """Minibatch loss at every query, loss and accuracy on all data at epoch ends, of one instance."""
    figure = new_figure(9.0, 4.2)
    losses, accuracies = figure.subplots(1, 2)
    main = states[0].calls.kinds[0]
    calls = np.array([int(s.calls[main][0]) for s in states])
    ends = [i for i, s in enumerate(states) if due(env.evaluations, int(s.k[0]))]
    losses.plot(calls, _series(states, "loss"), color=_BATCH, linewidth=0.8, label="minibatch")
    for part, color in (("train", _TRAIN), ("test", _TEST)):
        marks = {"color": color, "marker": "o", "markersize": 4, "label": part}
        losses.plot(calls[ends], _series(states, f"{part}_loss")[ends], **marks)
        accuracies.plot(calls[ends], _series(states, f"{part}_accuracy")[ends], **marks)
    losses.set_yscale("log")
    losses.set_title(f"{env.name}, {env.network.size:,} parameters")
    accuracies.set_ylim(0, 1.02)
    for axes, what in ((losses, env.objective.loss.replace("_", "-")), (accuracies, "accuracy")):
        axes.set_xlabel(f"{main} calls")
        axes.set_ylabel(what)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return to_array(figure)


def _series(states: list[State], metric: str) -> Any:
    return np.array([float(s.metrics[metric][0]) for s in states])
