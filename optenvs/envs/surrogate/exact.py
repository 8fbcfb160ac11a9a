"""The exact optimum of a small ReLU network over the unit box, by mixed-integer programming (scipy's HiGHS).

A neuron max(0, p) with bounds l <= p <= u has a variable h and a choice z in {0, 1}:
h >= p, h <= p - l (1 - z), h <= u z, h >= 0.
"""

from __future__ import annotations

import numpy as np

from .relu_box import Layers


def relu_optimum(layers: Layers, row: int = 0) -> tuple[float, np.ndarray]:
    """The largest output of one instance over [0, 1]^n, and a point that has it.

    Seconds for tens of neurons; the time grows exponentially with them::

        >>> import optenvs
        >>> from optenvs.core.random import keys_from_seed
        >>> from optenvs.envs.surrogate import relu_optimum
        >>> env = optenvs.make("ReluBox", dim=3, widths=(5,), white_box=True)
        >>> state = env.reset(keys_from_seed(0, 2))
        >>> value, point = relu_optimum(state.problem.weights, row=1)
        >>> value >= -float(state.best[1])
        True

    Args:
        layers: the weights of a :class:`~optenvs.envs.surrogate.relu_box.ReluBox`: ``problem.weights`` of a
            white box.
        row: which instance.

    Raises:
        ImportError: scipy is missing. RuntimeError: the solver did not prove an optimum.
    """
    try:
        from scipy.optimize import milp
    except ImportError as error:
        raise ImportError("the exact optimum needs scipy: pip install scipy") from error
    weights = [w[row].double().cpu().numpy() for w in layers.weight]
    biases = [b[row].double().cpu().numpy() for b in layers.bias]
    inputs, hidden = weights[0].shape[1], sum(len(b) for b in biases[:-1])
    total = inputs + 2 * hidden
    rows, most = [], []
    low, high, before = np.zeros(inputs), np.ones(inputs), 0
    place = inputs
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        middle, radius = weight @ (low + high) / 2 + bias, np.abs(weight) @ (high - low) / 2
        least, greatest = middle - radius, middle + radius
        for j in range(len(bias)):
            h, z = place + j, place + hidden + j
            line = np.zeros(total)
            line[before : before + weight.shape[1]] = weight[j]
            unit, choice = np.eye(total)[h], np.eye(total)[z]
            rows += [line - unit, unit - line - least[j] * choice, unit - max(greatest[j], 0.0) * choice]
            most += [-bias[j], bias[j] - least[j], 0.0]
        before, place = place, place + len(bias)
        low, high = np.maximum(least, 0.0), np.maximum(greatest, 0.0)
    cost = np.zeros(total)
    cost[before : before + weights[-1].shape[1]] = -weights[-1][0]
    upper = np.r_[np.ones(inputs), np.full(hidden, np.inf), np.ones(hidden)]
    found = milp(
        cost,
        constraints=(np.array(rows), -np.inf, np.array(most)),
        bounds=(np.zeros(total), upper),
        integrality=np.r_[np.zeros(inputs + hidden), np.ones(hidden)],
        options={"mip_rel_gap": 1e-9},
    )
    if found.status != 0:
        raise RuntimeError(f"the solver did not prove an optimum: {found.message}")
    return float(biases[-1][0] - found.fun), found.x[:inputs]
