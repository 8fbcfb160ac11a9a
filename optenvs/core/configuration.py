"""What an environment was made of, as text by name: a state goes on only where that is the same.

Class and keywords count, of environments and agents inside it, too; the device and a folder of data do not,
because they may move. Large things count by a digest of their numbers, functions by name and by what they are
made of (:mod:`.contents`), other objects by their names alone, and networks by the shapes of their weights,
which may be learned meanwhile.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Set
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .contents import digest

Configuration = tuple[tuple[str, str], ...]
"""Pairs of name and text; the first is the class."""

_LONG = 120  # characters of a text that is kept as it is
_PLACES = ("device", "folder")  # where tensors and data lie, and may lie elsewhere tomorrow
_TOLD = 3  # differences that a message names


def configuration(env: Any) -> Configuration:
    """The configuration of a frozen dataclass, such as an environment."""
    return tuple(_pairs(env, ""))


def check_origin(where: str, here: Configuration, there: Configuration) -> None:
    """Raise ``ValueError`` unless a state that began under ``there`` may go on under ``here``.

    A state that was made by hand, and has no origin, may.
    """
    if not there or here == there:
        return
    now, then = dict(here), dict(there)
    if now[""] != then[""]:
        raise ValueError(f"{where}: a state of {_short(then[''])} cannot go on in {_short(now[''])}")
    names = [name for name in now | then if now.get(name) != then.get(name)]
    differ = [f"{name}: {then.get(name, 'none')}, here {now.get(name, 'none')}" for name in names]
    told = ", ".join(differ[:_TOLD])
    raise ValueError(f"{where}: the state is of a {_short(now[''])} with other keywords ({told})")


def actor(agent: Any) -> str:
    """Whose an agent's memory is: the name of its class, and of an adapter that of what it adapts."""
    field = getattr(agent, "adapts", "")
    if not field:
        return type(agent).__qualname__
    it = getattr(agent, field)
    name = it if isinstance(it, str) else getattr(it, "__qualname__", type(it).__qualname__)
    return f"{type(agent).__qualname__}({name})"


def check_actor(where: str, here: str, there: str) -> None:
    """Raise ``ValueError`` unless the agent ``here`` may go on with a memory of ``there``.

    With a memory that was made by hand, and is nobody's, it may.
    """
    if there not in ("", here):
        raise ValueError(f"{where}: a memory of agent {there} is none of agent {here}")


def _short(place: str) -> str:
    return place.rpartition(":")[2]


def _pairs(thing: Any, prefix: str) -> Iterator[tuple[str, str]]:
    yield prefix.removesuffix("."), _place(type(thing))
    for field in dataclasses.fields(thing):
        if not field.init or field.name in _PLACES:
            continue
        value = getattr(thing, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _pairs(value, f"{prefix}{field.name}.")
        else:
            text = _text(value)
            if len(text) > _LONG:
                text = f"{text[: _LONG // 3]}... {_digest(text.encode())}"
            yield f"{prefix}{field.name}", text


def _text(value: Any) -> str:
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 and 1 are one setting
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, Tensor | np.ndarray):
        return _numbers(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_text(k)}: {_text(v)}' for k, v in value.items()))}}}"
    if isinstance(value, Set):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, list | tuple | range):
        return f"({', '.join(map(_text, value))})"
    return _named(value)


def _named(value: Any) -> str:
    """What has neither numbers nor keywords of its own."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return str(configuration(value))
    if isinstance(value, functools.partial):
        return f"{_text(value.func)}{_text(value.args)}{_text(value.keywords)}"
    if isinstance(value, FunctionType | MethodType):
        return f"{_place(value)} {digest(value)[:16]}"
    if hasattr(value, "__qualname__"):
        return _place(value)
    # two networks of one form, or two objects of one class, may be two problems
    return f"{_place(type(value))} {digest(value)[:16]}"


def _numbers(value: Tensor | np.ndarray) -> str:
    """An array by its type, its shape and a digest of its numbers."""
    if isinstance(value, Tensor):
        # one number may count as contiguous at any stride, and is then no row of bytes
        row = torch.empty(value.numel(), dtype=value.dtype).copy_(value.detach().flatten())
        raw = row.view(torch.uint8).numpy()
    else:
        raw = np.ascontiguousarray(value)
    kind = str(value.dtype).removeprefix("torch.")
    return f"{kind} {tuple(value.shape)} {_digest(raw.tobytes())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _place(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"
