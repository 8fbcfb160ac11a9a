"""Files in LIBSVM's format, of the user's own: ``label index:value index:value ...``, one row a line.

Such files (fourclass, gisette, a9a, ...) are in no package. They are read as they lie, compressed (``.gz``,
``.bz2``, ``.xz``) or not, and as the user's own data they have no published checksum.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from .base import CorruptData, Dataset, MissingData, reading, split
from .idx import data_folder

_SUFFIXES: dict[str, Callable[..., IO[Any]]] = {
    "": open,
    ".txt": open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_NAME = "libsvm"


def libsvm(
    file: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    features: int | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The rows of a LIBSVM file, dense, in the units of the file; the classes in the order of their labels.

    Read once a process: a file that is changed later is not read again.

    Args:
        file: a path, or a name in ``folder``, or in the folder that ``OPTENVS_DATA`` names.
        test: the file of the test part. Without one, every fifth row, by the fixed permutation of
            :func:`optenvs.data.base.split`.
        features: the number of inputs; ``None`` for the largest index that occurs. Indices begin at 1.
        folder: where names are looked for.

    Raises:
        MissingData: there is no such file.
        CorruptData: a line is not of the format (the message names file and line), a label is no whole
            number, an index is larger than ``features``, or there are fewer than two classes.
    """
    if features is not None and (isinstance(features, bool) or not isinstance(features, int) or features < 1):
        raise ValueError(f"features: expected a whole number >= 1 or None, got {features!r}")
    paths = [find(file, folder)] + ([] if test is None else [find(test, folder)])
    parts = []
    for path in paths:
        with reading(_NAME, path):
            parts.append(_read(path))
    width = max(int(part.indices.max(initial=0)) for part in parts)
    if features is not None and width > features:
        raise CorruptData(f"data set {_NAME!r}: {file}: index {width} is larger than features = {features}")
    width = width if features is None else features
    labels = np.concatenate([part.labels for part in parts])
    if (labels != np.rint(labels)).any():
        raise CorruptData(f"data set {_NAME!r}: {file}: a label is no whole number; classes were expected")
    named, classes = np.unique(labels, return_inverse=True)
    if len(named) < 2:
        raise CorruptData(f"data set {_NAME!r}: {file}: expected two classes or more, got {len(named)}")
    x = np.concatenate([_dense(part, width) for part in parts])
    y = classes.astype(np.int64)
    count = len(parts[0].labels)
    rows = (np.arange(count), np.arange(count, len(y))) if len(parts) > 1 else split(count, count // 5)
    name = Path(file).name
    return Dataset(name, x[rows[0]], y[rows[0]], x[rows[1]], y[rows[1]], len(named), (width,))


def find(file: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> Path:
    """The file that is meant, with or without the suffix of a compressed one.

    Raises:
        MissingData: there is none; the message names the places that were looked at.
    """
    given, root = Path(file).expanduser(), data_folder(folder)
    places = [given] if root is None or given.is_absolute() else [root / given, given]
    for place in places:
        for suffix in _SUFFIXES:
            path = place.with_name(place.name + suffix) if place.name else place
            if path.is_file():
                return path
    looked = " or ".join(map(str, places))
    raise MissingData(
        _NAME, f"no file {looked}", "give its path, or its name and folder= (or its folder in OPTENVS_DATA)"
    )


class _Rows(NamedTuple):
    """The rows of a file: the entries of each, and the indices (from 1) and values of all in one run."""

    labels: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    values: np.ndarray


def _read(path: Path) -> _Rows:
    labels, counts, indices, values = [], [], [], []
    opened = _SUFFIXES.get(path.suffix, open)
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            words = line.split("#", 1)[0].split()
            if not words:
                continue
            label, fields = words[0], [word for word in words[1:] if not word.startswith("qid:")]
            try:
                pairs = np.array(" ".join(fields).replace(":", " ").split(), dtype=np.float64)
                odd = [field for field in fields if field.count(":") != 1]
                if odd or len(pairs) != 2 * len(fields):
                    raise ValueError(f"expected index:value, got {(odd or fields)[0]!r}")
                index = pairs[0::2]
                if len(index) and (index[0] < 1 or (np.diff(index) <= 0).any() or (index % 1).any()):
                    raise ValueError("expected whole indices >= 1 that increase")
                labels.append(float(label))
                if not np.isfinite(pairs).all() or not np.isfinite(labels[-1]):
                    raise ValueError("expected finite numbers")
            except ValueError as error:
                raise CorruptData(f"line {number}: {error}") from error
            counts.append(len(index))
            indices.append(index.astype(np.int64))
            values.append(pairs[1::2])
    if not labels:
        raise CorruptData("it holds nothing")
    return _Rows(np.array(labels), np.array(counts), np.concatenate(indices), np.concatenate(values))


def _dense(rows: _Rows, width: int) -> np.ndarray:
    x = np.zeros((len(rows.labels), width), np.float32)
    x[np.repeat(np.arange(len(x)), rows.counts), rows.indices - 1] = rows.values
    return x
