"""Pictures of convex programs of rectified units: how near, and what the network answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optenvs.core.env import State
from optenvs.core.picture import new_figure, to_array
from optenvs.models.relu import network, recovered

if TYPE_CHECKING:
    from .program import ConvexRelu

_LEAST = 1e-17
_GRID = 121


def program(env: ConvexRelu, states: list[State]) -> np.ndarray:
    """Merit and violation by query; the network over the plane of its inputs, or its outputs by target."""
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    for name, style in (("gap", "-"), ("violation", ":"), ("certificate", "--")):
        values = [max(float(s.metrics[name][0]), _LEAST) for s in states]
        left.plot(values, style, marker="o", markersize=2.5, label=name)
    left.set_yscale("log")
    left.set_xlabel("queries")
    left.set_title(env.name)
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    last = states[-1]
    known, point = last.problem, last.observation["point"][:1]
    hidden, out = recovered(point.double())
    X, y = known.X[:1].double(), known.y[0].double().cpu().numpy()
    d = X.shape[-1]
    plain = d == 3 and bool((X[..., 2] == 1).all())
    if plain or d == 2:
        plane(right, X, y, hidden, out)
    else:
        right.plot(y, network(X, hidden, out)[0].cpu().numpy(), "o", color="#0072B2", markersize=4)
        right.axline((0, 0), slope=1, color="black", linewidth=0.8)
        right.set_xlabel("target")
        right.set_ylabel("output")
    right.set_title(
        f"network of {int(last.metrics['units'][0])} units, cost {float(last.metrics['network'][0]):.4g}"
    )
    return to_array(figure)


def plane(axes: Any, X: torch.Tensor, y: np.ndarray, hidden: torch.Tensor, out: torch.Tensor) -> None:
    """The outputs of a network of two inputs, and of a third that is 1 where there is one, ``(1, n, d)``."""
    points = X[0].cpu().numpy()
    ends = [(points[:, i].min() - 0.2, points[:, i].max() + 0.2) for i in (0, 1)]
    x = [np.linspace(*end, _GRID) for end in ends]
    grid = np.stack([part.ravel() for part in np.meshgrid(*x)], -1)
    many = torch.ones(1, len(grid), points.shape[1], dtype=torch.float64, device=X.device)
    many[0, :, :2] = torch.from_numpy(grid)
    told = network(many, hidden, out)[0].cpu().numpy().reshape(_GRID, _GRID)
    most = max(float(np.abs(told).max()), 1e-9)
    axes.contourf(*x, told, levels=np.linspace(-most, most, 21), cmap="RdBu_r", alpha=0.7)
    if told.min() < 0 < told.max():
        axes.contour(*x, told, levels=[0.0], colors="black", linewidths=1.5)
    axes.scatter(points[:, 0], points[:, 1], c=y, cmap="RdBu_r", edgecolors="black", s=22)
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$")
