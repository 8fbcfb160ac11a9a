"""What every loader returns, the error when a package is absent, and the checks of the raw data."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64


class MissingData(FileNotFoundError):
    """The package or the folder that holds a data set is absent; the message says how to get it."""

    def __init__(self, dataset: str, missing: str, remedy: str) -> None:
        super().__init__(f"data set {dataset!r}: {missing}; {remedy}")


class CorruptData(ValueError):
    """The raw data are not those that the loader was written for."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set, split once and for all into training and test part.

    Compared and hashed by identity; the arrays are read-only, because loaders share them.

    Attributes:
        name: The name under which it is loaded.
        train_x: Inputs, float32 ``(n, *shape)``; images are in [0, 1] and not normalised.
        train_y: Class numbers, int64 ``(n,)``, in ``0 .. classes - 1``.
        test_x: As ``train_x``, of the test part.
        test_y: As ``train_y``, of the test part.
        classes: Number of classes.
        shape: Shape of one input; images are ``(channels, height, width)``.
    """

    name: str
    train_x: Float32[np.ndarray, "n ..."]
    train_y: Int64[np.ndarray, "n"]
    test_x: Float32[np.ndarray, "m ..."]
    test_y: Int64[np.ndarray, "m"]
    classes: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        for x, y in ((self.train_x, self.train_y), (self.test_x, self.test_y)):
            if x.dtype != np.float32 or y.dtype != np.int64:
                raise TypeError(f"{self.name}: expected float32, int64, got {x.dtype}, {y.dtype}")
            if x.shape != (len(y), *self.shape):
                raise ValueError(f"{self.name}: expected {(len(y), *self.shape)}, got {x.shape}")
            if len(y) and not 0 <= y.min() <= y.max() < self.classes:
                raise ValueError(f"{self.name}: a label lies outside 0 .. {self.classes - 1}")
            x.flags.writeable = False
            y.flags.writeable = False

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, train={len(self.train_y)}, test={len(self.test_y)}, "
            f"classes={self.classes}, shape={self.shape})"
        )


def fingerprint(*parts: np.ndarray | bytes) -> str:
    """SHA-256 of raw bytes, or of arrays with their types and shapes, whatever the byte order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
            digest.update(f"{part.dtype.kind}{part.dtype.itemsize}{part.shape}".encode())
            part = part.tobytes()
        digest.update(part)
    return digest.hexdigest()


def verify(dataset: str, what: str, expected: str, *parts: np.ndarray | bytes) -> None:
    """Raise :class:`CorruptData` unless :func:`fingerprint` of ``parts`` is ``expected``."""
    found = fingerprint(*parts)
    if found != expected:
        raise CorruptData(
            f"data set {dataset!r}: {what} is not the published data "
            f"(SHA-256 {found[:12]}..., expected {expected[:12]}...)"
        )


@contextlib.contextmanager
def reading(dataset: str, file: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever goes wrong with the content of a file is told with the names of set and file.

    Raises:
        MissingData: it is not there. CorruptData: it is damaged, or something else.
    """
    try:
        yield
    except FileNotFoundError as error:
        if isinstance(error, MissingData):
            raise
        raise MissingData(dataset, f"no file {file}", "install again what it comes with") from error
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # no right to read it, a broken disk
            raise
        told = str(error) or type(error).__name__
        if told.startswith(f"data set {dataset!r}") and isinstance(error, CorruptData):
            raise
        raise CorruptData(f"data set {dataset!r}: {file} is damaged, or something else ({told})") from error


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raise :class:`CorruptData` where there is none, or one that no class has."""
    if not len(labels):
        raise CorruptData("it holds nothing")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise CorruptData(f"a label lies outside 0 .. {classes - 1}")


def random_words(seed: int, count: int) -> np.ndarray:
    """The first ``count`` words of SplitMix64 (Steele, Lea, Flood 2014), uint64 ``(count,)``.

    numpy promises the same stream over its versions for its legacy generator only; splits and
    generated data must not move with a new version, hence these four lines.
    """
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def split(count: int, test: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a fixed random split: the first ``count - test`` of a permutation, and the rest.

    Returns:
        Training and test rows, int64 ``(count - test,)`` and ``(test,)``.
    """
    order = np.argsort(random_words(seed, count), kind="stable")
    return order[: count - test], order[count - test :]


def standardised(table: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Inputs of mean 0 and standard deviation 1 over the rows ``train``, float32 ``(n, inputs)``.

    An input that never varies there is only centred.
    """
    mean, std = table[train].mean(0), table[train].std(0)
    return ((table - mean) / divisor(mean, std)).astype(np.float32)


def divisor(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The standard deviation, or 1 where it is no more than the rounding of ``mean``."""
    return np.where(std > 1e-12 * np.abs(mean), std, 1.0)
