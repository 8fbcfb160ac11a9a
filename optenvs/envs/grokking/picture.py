"""Pictures of group arithmetic: losses and accuracies beside the nodes' purity; energies on the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.evaluations import due
from optenvs.core.picture import new_figure, to_array

from .energy import shares

if TYPE_CHECKING:
    from optenvs.core.env import State

    from .base import Arithmetic
    from .feature_energy import FeatureEnergy

_GREY, _BLUE, _ORANGE, _GREEN = "#999999", "#0072B2", "#D55E00", "#009E73"


def grokking(env: Arithmetic, states: list[State]) -> np.ndarray:
    """Training loss, accuracies of both parts, and how pure the nodes are, of one instance."""
    figure = new_figure(9.0, 4.2)
    losses, scores = figure.subplots(1, 2)
    main = states[0].calls.kinds[0]
    calls = np.array([int(s.calls[main][0]) for s in states])
    ends = [i for i, s in enumerate(states) if due(env.evaluations, int(s.k[0]))]
    losses.plot(calls, _series(states, "loss"), color=_BLUE, linewidth=1.2, label="train")
    losses.plot(calls[ends], _series(states, "test_loss")[ends], "o-", color=_ORANGE, ms=3, label="test")
    losses.set_yscale("log")
    losses.set_ylabel("loss")
    losses.set_title(f"{env.name}, {env.algebra.name}, {env.train_count} of {env.total} pairs")
    for name, colour in (("train_accuracy", _BLUE), ("test_accuracy", _ORANGE), ("purity", _GREEN)):
        scores.plot(
            calls[ends], _series(states, name)[ends], "o-", color=colour, ms=3, label=name.replace("_", " ")
        )
    scores.set_ylim(0, 1.02)
    scores.set_title(f"{env.width} nodes, {env.network.size:,} parameters")
    for axes in (losses, scores):
        axes.set_xlabel(f"{main} calls")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return to_array(figure)


def energies(env: FeatureEnergy, states: list[State]) -> np.ndarray:
    """The energy of every node of one instance against the queries, and which irreps the nodes hold now."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    order = env.algebra.order
    course = np.array([s.observation["energy"][0, :, 0].double().cpu().numpy() for s in states]) / order
    left.plot([int(s.k[0]) for s in states], course, color=_BLUE, linewidth=0.8, alpha=0.7)
    for height in np.unique(np.round(env.tables.largest.double().cpu().numpy()[1:] / order, 9)):
        left.axhline(height, color=_ORANGE, linestyle="--", linewidth=0.9)
    left.set_xlabel("queries")
    left.set_ylabel("energy / M")
    left.set_title(f"{env.name}, {env.algebra.name}; dashed: the irreps' largest")
    left.grid(alpha=0.3)
    with torch.no_grad():
        held = shares(env.tables, states[-1].observation["point"][0])[:, 1:]
    right.imshow(held.double().cpu().numpy(), aspect="auto", vmin=0, vmax=1, cmap="viridis")
    right.set_xlabel("irrep (conjugates together)")
    right.set_ylabel("node")
    right.set_title(f"share in a node's power (yellow: all), after {int(states[-1].k[0])} queries")
    return to_array(figure)


def _series(states: list[State], metric: str) -> Any:
    return np.array([float(s.metrics[metric][0]) for s in states])
