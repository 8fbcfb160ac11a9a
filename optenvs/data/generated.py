"""Synthetic classes that need no data package: two interleaved spirals, Gaussian blobs."""

from __future__ import annotations

import numpy as np

from .base import Dataset, random_words, split, verify

_TWO_SPIRALS = "5cbbb5466c7eb6d06012a923f0db7d02422ba43f2c102730050ca3a35ae4c2b7"
_BLOBS = "cc93fc74fd62e97fa1b6d2c71a84479cbbff6c77c25e96061b1429f7c673432e"


def _uniform(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    words = random_words(seed, int(np.prod(shape))) >> np.uint64(11)
    return ((words.astype(np.float64) + 0.5) * 2.0**-53).reshape(shape)


def _normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    u = _uniform(seed, (2, *shape))
    return np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1])


def _grid(x: np.ndarray) -> np.ndarray:
    """Inputs to four decimals: sines differ in the last bit from one machine to the next."""
    return np.rint(x.astype(np.float64) * 1e4).astype(np.int32)


def _dataset(name: str, x: np.ndarray, y: np.ndarray, classes: int, seed: int, sha256: str | None) -> Dataset:
    x, y = x.astype(np.float32), y.astype(np.int64)
    if sha256 is not None:
        verify(name, "what this machine generates", sha256, _grid(x), y)
    train, test = split(len(x), len(x) // 5, seed)
    return Dataset(name, x[train], y[train], x[test], y[test], classes, x.shape[1:])


def two_spirals(count: int = 1000, noise: float = 0.05, turns: float = 1.5, seed: int = 0) -> Dataset:
    """Two interleaved spirals in the plane (after Lang and Witbrock 1988), of radius 0.1 to 1.

    Args:
        count: Number of points; every fifth goes to the test part.
        noise: Standard deviation of the noise on both coordinates.
        turns: Turns of each spiral.
        seed: Seed of the points and of the split.
    """
    y = np.arange(count) % 2
    t = np.sqrt(_uniform(3 * seed + 1, (count,)))  # even along the arc, not crowded in the middle
    angle = 2 * np.pi * turns * t + np.pi * y
    x = (0.1 + 0.9 * t)[:, None] * np.stack((np.cos(angle), np.sin(angle)), 1)
    x = x + noise * _normal(3 * seed + 2, (count, 2))
    default = (count, noise, turns, seed) == (1000, 0.05, 1.5, 0)
    return _dataset("two_spirals", x, y, 2, seed, _TWO_SPIRALS if default else None)


def blobs(count: int = 1000, classes: int = 4, dim: int = 8, spread: float = 1.0, seed: int = 0) -> Dataset:
    """One round Gaussian a class, around centres drawn from N(0, I).

    Args:
        count: Number of points; every fifth goes to the test part.
        classes: Number of classes, equal in size to within one point.
        dim: Number of inputs.
        spread: Standard deviation of a class; at 1 the classes overlap.
        seed: Seed of the centres, of the points and of the split.
    """
    y = np.arange(count) % classes
    centres = _normal(3 * seed + 1, (classes, dim))
    x = centres[y] + spread * _normal(3 * seed + 2, (count, dim))
    default = (count, classes, dim, spread, seed) == (1000, 4, 8, 1.0, 0)
    return _dataset("blobs", x, y, classes, seed, _BLOBS if default else None)
