"""ReLU networks that an agent is handed: their linear pieces, and their big-M constraints.

A network is layers ``weight`` ``(B, out, in)`` and ``bias`` ``(B, out)`` with ReLU between them and one
output. The neurons are numbered layer by layer, H in all; one is active where its pre-activation a is > 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core import Agent


def relu_network(agent: Agent, problem: Any) -> Any:
    """The layers of the problem's network.

    Raises:
        ValueError: the network is hidden, or is no ReLU network whose output is the objective.
    """
    name = type(agent).__name__
    if problem.weights is None:
        raise ValueError(f"{name}: white_box: the network is hidden; make the problem with white_box=True")
    if not problem.task.piecewise_linear:
        raise ValueError(
            f"{name}: expected a ReLU network whose one output is the objective, got "
            f"{type(problem.task).__name__}"
        )
    return problem.weights


def activations(layers: Any, x: Float[Tensor, "B m n"]) -> list[Float[Tensor, "B m _"]]:
    """The pre-activations of each hidden layer."""
    found = []
    for weight, bias in zip(layers.weight[:-1], layers.bias[:-1], strict=True):
        a = x @ weight.mT + bias.unsqueeze(1)
        found.append(a)
        x = a.relu()
    return found


def gradient(layers: Any, a: list[Float[Tensor, "B m _"]]) -> Float[Tensor, "B m n"]:
    """The gradient of the output on the linear piece with these pre-activations."""
    slope = layers.weight[-1].expand(-1, a[0].shape[1], -1)
    for weight, hidden in zip(reversed(layers.weight[:-1]), reversed(a), strict=True):
        slope = (slope * (hidden > 0)) @ weight
    return slope


def rates(
    layers: Any, a: list[Float[Tensor, "B m _"]], d: Float[Tensor, "B m n"]
) -> list[Float[Tensor, "B m _"]]:
    """How fast each pre-activation changes along ``d`` on its linear piece."""
    found = []
    for weight, hidden in zip(layers.weight[:-1], a, strict=True):
        change = d @ weight.mT
        found.append(change)
        d = change * (hidden > 0)
    return found


class Layers:
    """One network of numpy arrays, for the linear programs; float64."""

    def __init__(self, layers: Any, row: int) -> None:
        self.weight = [w[row].double().cpu().numpy() for w in layers.weight]
        self.bias = [b[row].double().cpu().numpy() for b in layers.bias]
        self.inputs = self.weight[0].shape[1]
        self.neurons = sum(len(b) for b in self.bias[:-1])

    def pattern(self, x: np.ndarray) -> np.ndarray:
        """Which neurons are active at ``x``, bool ``(H,)``."""
        active = []
        for weight, bias in zip(self.weight[:-1], self.bias[:-1], strict=True):
            a = weight @ x + bias
            active.append(a > 0)
            x = np.maximum(a, 0)
        return np.concatenate(active)

    def piece(self, pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The piece of ``pattern``: pre-activations A x + c, ``(H, n)`` and ``(H,)``; the output's slope."""
        slope, offset = np.eye(self.inputs), np.zeros(self.inputs)
        slopes, offsets, first = [], [], 0
        for weight, bias in zip(self.weight[:-1], self.bias[:-1], strict=True):
            slope, offset = weight @ slope, weight @ offset + bias
            slopes.append(slope)
            offsets.append(offset)
            on = pattern[first : first + len(bias)]
            slope, offset = slope * on[:, None], offset * on
            first += len(bias)
        return np.concatenate(slopes), np.concatenate(offsets), (self.weight[-1] @ slope)[0]


def big_m(
    layers: Layers, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The network as a mixed-integer program: minimise c v + offset over v = (x, h, z) with A v <= b.

    Neuron j has the output h_j and the binary z_j, and with bounds L <= a <= U of its pre-activation

        h >= a,   h >= 0,   h <= a - L (1 - z),   h <= U z.

    The bounds are those of interval arithmetic. The lower bound 0 of h and the box of x are not in A.

    Returns:
        A, b, c and the offset; minus the minimum is the largest output.
    """
    size, hidden = layers.inputs, layers.neurons
    count = size + 2 * hidden
    rows, sides = [], []
    inputs = np.arange(size)
    low, high, first = lower, upper, 0
    for weight, bias in zip(layers.weight[:-1], layers.bias[:-1], strict=True):
        plus, minus = np.maximum(weight, 0), np.minimum(weight, 0)
        low, high = plus @ low + minus @ high + bias, plus @ high + minus @ low + bias
        neurons = first + np.arange(len(bias))
        each = np.arange(len(bias))
        above, below, off = (np.zeros((len(bias), count)) for _ in range(3))
        above[:, inputs] = weight  # a - h <= 0
        above[each, size + neurons] = -1
        below[:, inputs] = -weight  # h - a - L z <= -L
        below[each, size + neurons] = 1
        below[each, size + hidden + neurons] = -low
        off[each, size + neurons] = 1  # h - U z <= 0
        off[each, size + hidden + neurons] = -high
        rows += [above, below, off]
        sides += [-bias, bias - low, np.zeros(len(bias))]
        inputs, first = size + neurons, first + len(bias)
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    cost = np.zeros(count)
    cost[inputs] = -layers.weight[-1][0]
    return np.concatenate(rows), np.concatenate(sides), cost, -float(layers.bias[-1][0])


def first_crossing(
    a: list[Tensor], change: list[Tensor], x: Tensor, d: Tensor, lower: Tensor, upper: Tensor
) -> Float[Tensor, "B m"]:
    """How far along ``d`` the linear piece of ``x`` reaches within the box; infinite where ``d`` is zero."""
    value, speed = torch.cat(a, -1), torch.cat(change, -1)
    kink = torch.where(value * speed < 0, -value / speed, torch.inf).amin(-1)
    room = torch.where(d > 0, upper - x, lower - x)
    face = torch.where(d != 0, room / d, torch.inf).amin(-1)
    return torch.minimum(kink, face)
