"""Instances of the convex programs: drawn from a teacher, or given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.core.given import check_data, given, numbers
from optenvs.core.random import Keys, normal
from optenvs.core.shown import shown
from optenvs.models.relu import Gated, network, patterns

NAMES = ("X", "y", "gates")


def sizes_of(data: Any, loss: str) -> tuple[int, int, int]:
    """n, d and P of data that are given.

    Raises:
        ValueError: no mapping of X ``(n, d)``, y ``(n,)`` and gates ``(P, d)``; labels other than -1 and 1
            where the loss is not squared; no gate, or one on the boundary of its cone.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"data: expected a mapping of {', '.join(NAMES)}, got {type(data).__name__}")
    for name in data:
        if name not in NAMES:
            raise ValueError(f"data: no {name!r}{suggest(str(name), NAMES)}")
    shapes = {name: shape_of(data, name) for name in ("X", "gates") if name in data}
    for name, shape in shapes.items():
        if len(shape) != 2 or not all(shape):
            what = "rows of inputs" if name == "X" else "at least one gate, a row each; there is no pattern"
            raise ValueError(f"data: {name}: expected a matrix of {what}, got shape {shape}")
    n, d = shapes.get("X", (1, 1))
    P = shapes.get("gates", (1, d))[0]
    check_data(data, {"X": (n, d), "y": (n,), "gates": (P, d)})
    y = numbers(data["y"])
    if loss != "squared" and not np.isin(y, (-1.0, 1.0)).all():
        raise ValueError(
            f"data: y: expected labels -1 and 1 for the {loss} loss, got {y[~np.isin(y, (-1.0, 1.0))][0]}"
        )
    X, gates = numbers(data["X"]), numbers(data["gates"])
    on = np.argwhere(((X @ gates.T == 0) & (X != 0).any(1)[:, None]).any(0)).ravel()
    if len(on):
        raise ValueError(
            f"data: gates: gate {on[0]} lies on the boundary of its cone, orthogonal to an input; "
            "expected gates inside of their cones"
        )
    return n, d, P


def shape_of(data: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """The shape of an array that is given.

    Raises:
        ValueError: it is none.
    """
    try:
        return numbers(data[name]).shape
    except (TypeError, ValueError) as error:
        raise ValueError(f"data: {name}: expected a matrix of numbers, got {shown(data[name])}") from error


def distinct(data: Mapping[str, Any]) -> Float[np.ndarray, "P d"]:
    """The gates of which no earlier one has the same pattern."""
    X, gates = numbers(data["X"]), numbers(data["gates"])
    _, first = np.unique(X @ gates.T >= 0, axis=1, return_index=True)
    return gates[np.sort(first)]


def gated(X: Tensor, y: Tensor, gates: Tensor, beta: float, loss: str) -> Gated:
    """The program of these gates; of those with one pattern the first counts."""
    D, first = patterns(X, gates)
    kept = first.unsqueeze(1).to(X)
    size = torch.full_like(X[:, 0, 0], beta)
    return Gated(X=X, y=y, D=D * kept, E=(2 * D - 1) * kept, gates=gates, beta=size, loss=loss)


def drawn(keys: Keys, n: int, d: int, P: int, beta: float, loss: str, noise: float) -> Gated:
    """Standard normal inputs and gates; a teacher of three units and noise tell targets, or their signs."""
    f64 = torch.float64
    X, gates = normal(keys, "X", (n, d), dtype=f64), normal(keys, "gates", (P, d), dtype=f64)
    out = normal(keys, "teacher out", 3, dtype=f64)
    y = network(X, normal(keys, "teacher", (3, d), dtype=f64), out)
    y = y + noise * normal(keys, "noise", n, dtype=f64)
    return gated(X, y if loss == "squared" else torch.where(y < 0, -1.0, 1.0).to(f64), gates, beta, loss)


def told(data: Mapping[str, Any], keys: Keys, beta: float, loss: str) -> Gated:
    """The program that is given, for every key."""
    fields = (given({**data} | {"gates": distinct(data)}, name, keys, torch.float64) for name in NAMES)
    return gated(*fields, beta=beta, loss=loss)


def all_gates(X: Any) -> Float[np.ndarray, "P 3"]:
    """A gate inside of each cone of inputs ``(n, 3)`` in general position: all activation patterns.

    Each vertex x_i x x_j of the arrangement, with either sign, belongs to four cones, those of the two signs
    of both i and j; the sum of a cone's vertices lies inside it.
    """
    X = numbers(X)
    if X.ndim != 2 or X.shape[1] != 3:
        raise ValueError(f"X: all patterns are counted for inputs of 3 numbers alone, got shape {X.shape}")
    inside: dict[bytes, np.ndarray] = {}
    for i in range(len(X)):
        for j in range(i):
            corner = np.cross(X[i], X[j])
            for ray in (corner, -corner):
                ray = ray / np.linalg.norm(ray)
                signs = X @ ray >= 0
                for bits in range(4):
                    signs[i], signs[j] = bits & 1, bits >> 1
                    inside[signs.tobytes()] = inside.get(signs.tobytes(), np.zeros(3)) + ray
    return np.stack(list(inside.values()))
