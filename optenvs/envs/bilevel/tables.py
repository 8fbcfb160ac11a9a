"""Two classes of samples with a label each, by the name of a set, the path of a file, or as given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.data import NAMES, Dataset, MissingData, load

_GIVEN = ("inputs", "labels")
_FIELDS = (*_GIVEN, "rows", "x")


class Table(NamedTuple):
    """All samples of a set, training and test part together.

    Attributes:
        inputs: ``(M, d)``, float64.
        signs: -1 or +1, ``(M,)``, float64.
    """

    inputs: Float[Tensor, "M d"]
    signs: Float[Tensor, "M"]


def table(data: Any, folder: str | None, classes: tuple[int, int] | None, device: torch.device) -> Table:
    """The samples that the keyword ``data`` stands for.

    Args:
        data: the name of a set (:data:`optenvs.data.NAMES`), the path or the name of a LIBSVM file, or a
            mapping of ``inputs`` (M, d) and ``labels`` (M,).
        folder: where files are looked for.
        classes: the class that is -1 and the one that is +1; other samples are left out. ``None`` where there
            are only two, in their order.
        device: where they go.

    Raises:
        ValueError: no set and no file has this name, arrays do not fit, or the classes are not there.
    """
    if classes is not None and not (isinstance(classes, tuple | list) and len(classes) == 2):
        raise ValueError(f"classes: expected two, the one of -1 and the one of +1, or None, got {classes!r}")
    classes = None if classes is None else (classes[0], classes[1])
    if isinstance(data, Mapping):
        inputs, labels = _given(data)
        return _chosen("data", inputs, labels, classes, device)
    if not isinstance(data, str | os.PathLike):
        came = type(data).__name__
        raise ValueError(f"data: expected a name, a path, or a mapping of {', '.join(_FIELDS)}, got {came}")
    return _named(os.fspath(data), folder, os.environ.get("OPTENVS_DATA"), classes, device)


@lru_cache(maxsize=8)
def _named(
    name: str, folder: str | None, root: str | None, classes: tuple[int, int] | None, device: torch.device
) -> Table:
    # ``root`` is in the key only: the loaders read the variable themselves
    found = _load(name, folder)
    inputs = np.concatenate((found.train_x, found.test_x)).reshape(-1, int(np.prod(found.shape)))
    labels = np.concatenate((found.train_y, found.test_y))
    return _chosen(name, inputs, labels, classes, device)


def _load(name: str, folder: str | None) -> Dataset:
    if name in NAMES and name != "libsvm":
        try:
            return load(name, **({} if folder is None else {"folder": folder}))
        except TypeError as error:
            raise ValueError(f"folder: {error}") from error
    try:
        return load("libsvm", file=name, folder=folder)
    except MissingData as error:
        known = [known for known in NAMES if known != "libsvm"]
        raise MissingData(
            name, f"no set has this name{suggest(name, known)}, and {str(error).split(': ', 1)[1]}", "or else"
        ) from error


def _given(data: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    for name in data:
        if name not in _FIELDS:
            raise ValueError(f"data: no {name!r}{suggest(str(name), _FIELDS)}")
    for name in _GIVEN:
        if name not in data:
            raise ValueError(f"data: {name}: missing; expected {' and '.join(_GIVEN)}")
    try:
        inputs, labels = (np.asarray(data[name], dtype=np.float64) for name in _GIVEN)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data: inputs, labels: expected arrays of numbers ({error})") from error
    if inputs.ndim != 2 or labels.shape != inputs.shape[:1] or not inputs.size:
        came = f"{inputs.shape} and {labels.shape}"
        raise ValueError(f"data: inputs, labels: expected shapes (M, d) and (M,), got {came}")
    if not np.isfinite(inputs).all() or not np.isfinite(labels).all():
        bad = ~np.isfinite(np.column_stack((inputs, labels))).all(1)
        raise ValueError(f"data: row {int(bad.argmax())}: expected finite numbers")
    return inputs, labels


def _chosen(
    name: str, inputs: np.ndarray, labels: np.ndarray, classes: tuple[int, int] | None, device: torch.device
) -> Table:
    there = np.unique(labels)
    pair = tuple(there.tolist()) if classes is None else classes
    if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(there.tolist()):
        shown = ", ".join(f"{label:g}" for label in there[:12]) + (", ..." if len(there) > 12 else "")
        raise ValueError(f"classes: expected two of those of {name}, {shown}; got {classes!r}")
    kept = np.isin(labels, pair)
    with torch.inference_mode(False):  # these stay
        x = torch.tensor(inputs[kept], dtype=torch.float64, device=device)
        signs = torch.tensor(np.where(labels[kept] == pair[1], 1.0, -1.0), device=device)
    return Table(x, signs)
