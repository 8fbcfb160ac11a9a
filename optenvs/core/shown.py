"""What an environment or an agent prints of itself: keywords, and of large things their shape and dtype."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .tracing import tracing

_FEW, _NAMES, _LONG = 6, 20, 200
"""What is printed: numbers of an array or parts of a sequence; names of a mapping; characters of all else."""


class Shown:
    """Prints a dataclass as :func:`keywords_of` does.

    ``dataclass`` writes a ``__repr__`` into each class that has none of its own, so that each gets this one.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign] # that of the nearest base which wrote one

    def __repr__(self) -> str:
        return keywords_of(self)


def keywords_of(thing: Any) -> str:
    """``Name(keyword=value, ...)`` of a dataclass, each value in a few words."""
    fields = [field.name for field in dataclasses.fields(thing) if field.repr]
    told = ", ".join(f"{name}={shown(getattr(thing, name, None))}" for name in fields)
    return f"{type(thing).__qualname__}({told})"


def shown(value: Any) -> str:
    """A value in a few words: an array by shape and dtype, a function and a network by name."""
    if isinstance(value, Tensor | np.ndarray):
        return _array(value)
    if isinstance(value, torch.nn.Module):
        count = sum(weights.numel() for weights in value.parameters())
        return f"<{type(value).__qualname__} of {count} weights>"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # one that somebody has written, or ours; what dataclass writes is wrapped, and prints arrays whole
        return keywords_of(value) if hasattr(type(value).__repr__, "__wrapped__") else repr(value)
    if isinstance(value, Mapping):
        told = [f"{key!r}: {shown(part)}" for key, part in _first(value.items(), _NAMES)]
        return f"{{{_some(told, len(value))}}}"
    if isinstance(value, list | tuple | Set) and type(value) in (list, tuple, set, frozenset):
        return _sequence(value)
    if isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        return f"<function {value.__qualname__}>"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):  # a table of another package
        return f"<{type(value).__qualname__} {shape}>"
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _array(value: Tensor | np.ndarray) -> str:
    kind = "tensor" if isinstance(value, Tensor) else "array"
    dtype = str(value.dtype).removeprefix("torch.")
    size = value.numel() if isinstance(value, Tensor) else value.size
    if size <= _FEW and value.ndim <= 1 and not _hidden(value):
        return f"{kind}({_numbers(value.tolist())}, {dtype})"
    return f"<{kind} {tuple(value.shape)} {dtype}>"


def _numbers(value: Any) -> Any:
    """As they are told in single precision: its own digits, not those of the same number in double."""
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _hidden(value: Any) -> bool:
    """Whether nobody can look at the numbers now: a transform or a recording is under way."""
    if not isinstance(value, Tensor):
        return False
    return tracing() or torch._C._functorch.is_functorch_wrapped_tensor(value)  # type: ignore[attr-defined]


def _sequence(value: Any) -> str:
    opened, closed = {list: "[]", tuple: "()"}.get(type(value), "{}")
    parts = _some([shown(part) for part in _first(value)], len(value))
    return f"{opened}{parts}{',' * (type(value) is tuple and len(value) == 1)}{closed}"


def _first(parts: Any, count: int = _FEW) -> list[Any]:
    return [part for _, part in zip(range(count), parts, strict=False)]


def _some(texts: list[str], count: int) -> str:
    return ", ".join(texts) + (f", ... {count} in all" if count > len(texts) else "")
