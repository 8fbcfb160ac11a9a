"""What a solver is shown of a problem: the coordinates that may move, and numbers where there are none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .form import MULTIPLIERS, Form
from .functions import Functions

_BY_ROW, _BY_BOTH = (
    ("gradient", "hessian_product", "hvp", "adjoint_product"),
    ("hessian", "objective_hessian"),
)
_UNKNOWN = 1e10
"""In place of a value that is no number where none has been seen."""


class Shown(Functions):
    """A problem as a solver sees it.

    * A coordinate whose bounds are equal is held there, and the solver does not see it.
    * Hessians are made symmetric.
    * A value that is no number is told as a little worse than the worst one seen, and a constraint as a
      little more violated: a line search then comes back, where it would divide by infinities. Entries of
      derivatives that are no numbers are zeros. A method that knows what to do is told the truth.

    Args:
        functions: the problem.
        start: where to begin, ``(n,)``; brought into the box, if that is kept.
        bounded: whether the box is kept.
        honest: whether the solver is told what is no number.

    Raises:
        ValueError: a lower bound is above the upper one.
    """

    def __init__(self, functions: Functions, start: np.ndarray, bounded: bool, honest: bool) -> None:
        lower, upper = functions.lower, functions.upper
        crossed = np.flatnonzero(lower > upper)
        if bounded and len(crossed):
            i = crossed[0]
            raise ValueError(
                f"{functions.owner}: bounds: expected lower <= upper, got {lower[i]} > {upper[i]} at {i}"
            )
        self.whole, self.owner, self._honest = functions, functions.owner, honest
        self._at = np.clip(start, lower, upper) if bounded else np.array(start)
        self.free = lower < upper if bounded else np.full(len(start), True)
        self.form: Form = dataclasses.replace(functions.form, size=int(self.free.sum()))
        self.start, self.lower, self.upper = self._at[self.free], lower[self.free], upper[self.free]
        if not bounded:
            self.lower, self.upper = np.full_like(self.start, -np.inf), np.full_like(self.start, np.inf)
        self._least, self._most = np.inf, -np.inf
        self._violated = np.zeros(functions.count)

    @property
    def multipliers(self) -> np.ndarray:  # type: ignore[override]
        """Those of the problem."""
        return self.whole.multipliers

    @multipliers.setter
    def multipliers(self, multipliers: np.ndarray) -> None:
        self.whole.multipliers = np.array(multipliers, np.float64)

    def point(self, x: np.ndarray) -> np.ndarray:
        """The whole point of the free coordinates ``x``."""
        found = self._at.copy()
        found[self.free] = x
        return found

    def ask(self, kind: str, x: Any, **places: Any) -> np.ndarray:
        """The answer in the free coordinates."""
        for name, place in places.items():
            if name != MULTIPLIERS and len(place) == len(self.start) and kind != "adjoint_product":
                moved = np.zeros(len(self.free))
                moved[self.free] = place
                places[name] = moved
        found = self.whole.ask(kind, self.point(x), **places)
        if kind in _BY_ROW:
            found = found[self.free]
        elif kind in _BY_BOTH:
            found = found[np.ix_(self.free, self.free)]
            found = (found + found.T) / 2
        elif kind == "jacobian":
            found = found[:, self.free]
        return found if self._honest else self._tamed(kind, found)

    def _tamed(self, kind: str, found: np.ndarray) -> np.ndarray:
        fine = np.isfinite(found)
        if kind == "value":
            if fine.all():
                self._least, self._most = min(self._least, found.item()), max(self._most, found.item())
                return found
            seen = self._most > -np.inf
            return np.array([self._most + max(1.0, self._most - self._least) if seen else _UNKNOWN])
        if kind == "constraints":
            self._violated = np.maximum(self._violated, np.where(fine, np.abs(found), 0.0))
            return np.where(fine, found, 1.0 + 2 * self._violated)
        return np.where(fine, found, 0.0)
