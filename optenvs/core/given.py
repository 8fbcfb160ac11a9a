"""What users give by keyword: whole numbers, names, and an instance's data in place of draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import check_keywords, suggest
from .random import Keys
from .shown import shown

Shapes = Mapping[str, tuple[int, ...]]


def check_settings(owner: str, keywords: Mapping[str, Any], cls: type, taken: Iterable[str] = ()) -> None:
    """Refuse keywords that an environment of ``cls`` does not take, and a dtype that is none, by their names.

    Args:
        owner: the function whose keywords they are.
        keywords: those that it hands on.
        cls: the environment's class, a dataclass.
        taken: the fields that the function fills itself.

    Raises:
        UnknownKeyword: no such keyword. ValueError: ``dtype`` is not a name of one.
    """
    known = {field.name for field in dataclasses.fields(cls) if field.init}
    check_keywords(owner, keywords, known - {*taken})
    if "dtype" in keywords and keywords["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {keywords['dtype']!r}")


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected a whole number >= {least}, got {value!r}")


def is_number(value: Any) -> bool:
    """Whether ``value`` is one real number, numpy's included; no bool, and no word."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_finite(name: str, value: Any, least: float = -math.inf) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite number of at least ``least``."""
    if not (is_number(value) and least <= value < math.inf and value > -math.inf):
        wanted = "a finite number" if least == -math.inf else f"a number >= {least:g}"
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")


def numbers(value: Any) -> np.ndarray:
    """A copy of what is given as float64: an array, a tensor of any dtype or device, or sequences.

    Raises:
        TypeError, ValueError: bools, words, complex numbers, or rows of several lengths.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.double().numpy() if value.is_floating_point() else value.numpy()
    found = np.asarray(value)
    mixed = isinstance(value, list | tuple) and any(isinstance(part, bool | np.bool_) for part in value)
    if found.dtype.kind not in "iufO" or mixed:
        raise TypeError(f"expected real numbers, got {'bool' if mixed else found.dtype}")
    return np.array(found, dtype=np.float64)


def check_data(data: Any, shapes: Shapes) -> None:
    """Raise unless ``data`` is ``None`` or a mapping of finite arrays of these shapes, all of them.

    Raises:
        ValueError: another name, a missing one, another shape, or numbers that are not finite.
    """
    if data is None:
        return
    if not isinstance(data, Mapping):
        raise ValueError(f"data: expected a mapping of {', '.join(shapes)}, got {type(data).__name__}")
    for name in data:
        if name not in shapes:
            raise ValueError(f"data: no {name!r}{suggest(str(name), shapes)}")
    for name, shape in shapes.items():
        if name not in data:
            raise ValueError(f"data: {name}: missing; expected all of {', '.join(shapes)}")
        try:
            array = numbers(data[name])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"data: {name}: expected numbers of shape {shape}, got {shown(data[name])}"
            ) from error
        if array.shape != shape or not np.isfinite(array).all():
            came = f"shape {array.shape}" if array.shape != shape else "numbers that are not finite"
            raise ValueError(f"data: {name}: expected finite numbers of shape {shape}, got {came}")


def check_rows(name: str, matrix: Any) -> None:
    """Raise ``ValueError`` unless the rows of a matrix that is given are independent."""
    array = numbers(matrix)
    rank = int(np.linalg.matrix_rank(array))
    if rank < len(array):
        raise ValueError(f"data: {name}: expected independent rows, {rank} of {len(array)} are")


def given(data: Mapping[str, Any], name: str, keys: Keys, dtype: torch.dtype) -> Tensor:
    """One array for every instance, ``(B, *shape)``."""
    array = torch.tensor(numbers(data[name]), dtype=dtype, device=keys.device)
    return array.expand(len(keys), *array.shape)


def check_choice(field: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of these names."""
    if value not in known:
        raise ValueError(f"{field}: expected one of {', '.join(known)}, got {value!r}")


def check_bound(value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is r > 0 of the multipliers' box, or ``None``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and value > 0):
        raise ValueError(f"bound: expected a number > 0 or None, got {value!r}")


def bound_of(value: float | None, like: Tensor) -> Tensor:
    """The bound r, one a row of ``like``, ``(B,)``; infinite for ``None``."""
    return torch.full_like(like[:, 0], float("inf") if value is None else float(value))
