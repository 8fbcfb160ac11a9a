"""One run of pycma that is told places, and draws from a key."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from optenvs.core.random import normal


class CMARun:
    """One object of pycma, and the population that it waits for.

    Args:
        mean, std: the first distribution, ``(d,)`` each.
        lower, upper: where points stay, infinite where they are free, ``(d,)`` each.
        population: points of a generation.
        key: of the random draws, ``(1,)``.

    Raises:
        ImportError: pycma is not there.
    """

    def __init__(
        self,
        mean: np.ndarray,
        std: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        population: int,
        key: Int64[Tensor, "1"],
    ) -> None:
        try:
            import cma
        except ImportError as error:
            raise ImportError(
                f"cma needs the package cma: pip install 'optenvs[peers]', or pip install cma ({error})"
            ) from error
        draws = itertools.count()

        def randn(*shape: int) -> np.ndarray:
            return normal(key, "cma", shape, next(draws), torch.float64)[0].numpy()

        options: dict[str, Any] = {
            "randn": randn,
            "seed": np.nan,  # numpy's own generator stays as it is
            "popsize": population,
            "CMA_stds": std,
            "verbose": -9,
        }
        if np.isfinite(lower).any() or np.isfinite(upper).any():
            options["bounds"] = [
                [float(end) if np.isfinite(end) else None for end in ends] for ends in (lower, upper)
            ]
        self._run = cma.CMAEvolutionStrategy(mean, 1.0, options)
        self._points: list[np.ndarray] = []
        self._scores: list[float] = []

    def ask(self, room: int) -> np.ndarray:
        """The next points of the population, at most so many, ``(n, d)``."""
        if not self._points:
            self._points = self._run.ask()
        first = len(self._scores)
        return np.array(self._points[first : first + room], dtype=np.float64)

    def tell(self, scores: np.ndarray) -> None:
        """The scores of the points that :meth:`ask` gave; less is better, and nothing else is looked at."""
        self._scores.extend(scores)
        if len(self._scores) == len(self._points):
            told = np.array(self._scores)
            # equal ones share a place; infinite values would spoil what pycma remembers
            self._run.tell(self._points, (told[:, None] > told).sum(1).astype(np.float64))
            self._points, self._scores = [], []
