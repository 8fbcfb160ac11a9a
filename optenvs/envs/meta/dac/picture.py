"""Pictures of steered descents: what was reached, and by which rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.picture import new_figure, to_array

if TYPE_CHECKING:
    from optenvs.core.env import OptimizationEnv, State

_COLOURS = ("#0072B2", "#D55E00", "#009E73")


def toy(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """The function with the points on it, and the two rates by action."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    walk = states[-1].hidden
    places = walk.point[:1]
    low, high = min(-5.0, float(places.min())), max(5.0, float(places.max()))
    line = torch.linspace(low, high, 200, dtype=places.dtype, device=places.device).unsqueeze(0)
    row = type(walk.function)(walk.function.numbers[:1], walk.function.least[:1], walk.function.kind)
    left.plot(line[0].cpu(), row.value_and_slope(line)[0][0].cpu(), color="#999999")
    left.plot(places[0].cpu(), row.value_and_slope(places)[0][0].cpu(), "o", color=_COLOURS[0], markersize=4)
    left.set_xlabel("x")
    left.set_ylabel("f(x)")
    left.set_title(env.name)
    _lines(right, states[1:], {name: _seen(name) for name in ("lr", "momentum")}, "log10 of the rate")
    return to_array(figure)


def training(env: OptimizationEnv, states: list[State]) -> np.ndarray:
    """The losses, and the learning rate, by action."""
    figure = new_figure(9.0, 4.2)
    left, right = figure.subplots(1, 2)
    losses = {name: _metric(name) for name in ("loss", "validation_loss", "test_loss")}
    _lines(left, states, losses, "loss")
    left.set_title(env.name)
    _lines(right, states[1:], {"lr": _metric("lr")}, "learning rate")
    return to_array(figure)


def _seen(name: str) -> Any:
    return lambda state: float(state.observation[name][0, 0])


def _metric(name: str) -> Any:
    return lambda state: float(state.metrics[name][0])


def _lines(axes: Any, states: list[State], told: dict[str, Any], label: str) -> None:
    for colour, (name, value) in zip(_COLOURS, told.items(), strict=False):
        numbers = [int(state.k[0]) for state in states]
        axes.plot(numbers, [value(state) for state in states], "o-", color=colour, label=name, markersize=3)
    axes.set_xlabel("actions")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if states:
        axes.legend()
