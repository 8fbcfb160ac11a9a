"""The spectral radius of a matrix >= 0 that is applied, and never made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

_STEPS, _RESTARTS, _TOLERANCE = 80, 20, 1e-10
_LOOK = 4  # steps between two looks at what is found
_TINY = 1e-300

Vector = Float[np.ndarray, " K"]


def largest(apply: Callable[[np.ndarray], np.ndarray], start: Vector) -> tuple[float, Vector]:
    """The largest eigenvalue of a matrix >= 0, and its vector, by Arnoldi's method begun anew at it.

    Such a matrix has a real eigenvalue of largest modulus, with a vector >= 0. ``start`` is one, too.

    Raises:
        ArithmeticError: when it is not found to 1e-10 in 20 rounds of at most 80 steps.
    """
    vector = start
    for _ in range(_RESTARTS):
        value, vector, left = _round(apply, vector / np.linalg.norm(vector))
        if left <= _TOLERANCE * abs(value):
            return value, vector
    raise ArithmeticError(f"the spectral radius is not found in {_RESTARTS} rounds of Arnoldi's method")


def _round(apply: Callable[[np.ndarray], np.ndarray], start: Vector) -> tuple[float, Vector, float]:
    """The eigenvalue and its vector on a Krylov space, and the norm of what the equation leaves."""
    steps = min(_STEPS, len(start))
    basis, heights = start[None], np.zeros((steps + 1, steps))
    value, weights, left = 0.0, np.ones(1), np.inf
    for j in range(steps):
        new = apply(basis[j])
        for _ in range(2):  # once is not enough for orthogonality to rounding
            parts = basis @ new
            heights[: j + 1, j] += parts
            new = new - parts @ basis
        height = heights[j + 1, j] = float(np.linalg.norm(new))
        over = j + 1 == steps or height <= _TINY
        if over or j % _LOOK == _LOOK - 1:
            values, vectors = np.linalg.eig(heights[: j + 1, : j + 1])
            place = int(np.real(values).argmax())
            value, weights = float(np.real(values[place])), np.real(vectors[:, place])
            left = float(height * abs(weights[-1]))
            if over or left <= _TOLERANCE * abs(value):
                break
        basis = np.concatenate((basis, new[None] / height))
    vector = weights @ basis[: len(weights)]
    return value, vector * np.sign(vector.sum()), left
