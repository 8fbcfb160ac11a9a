"""A digest of what a user's functions, modules and objects are made of: two that can differ differ in it.

Names are not enough: a loop makes functions of one code whose defaults or closures hold different numbers,
and networks of one form have other weights. Functions count by code, defaults and closure (the variables
of their file are looked up live, and count by its name), networks and other objects by their class and by all
that they hold, arrays by their numbers. What cannot be looked into equals itself alone.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Set
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), torch.dtype, torch.device)


def digest(*things: Any) -> str:
    """The digest of ``things``, the same in every process but for what cannot be looked into."""
    reader = _Reader()
    for thing in things:
        reader.read(thing)
    return reader.found.hexdigest()


class _Reader:
    """Goes through what it is given, and what that holds, each object once.

    Attributes:
        found: the digest so far.
    """

    def __init__(self) -> None:
        self.found = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # the objects too: an id may be given again when one dies

    def read(self, value: Any) -> None:
        """Take ``value`` in."""
        if isinstance(value, _PLAIN):
            self._note(type(value).__name__, repr(value))
            return
        if id(value) in self._seen:
            self._note("again", self._seen[id(value)][0])
            return
        self._seen[id(value)] = len(self._seen), value
        for kinds, look in _LOOKS:
            if isinstance(value, kinds):
                look(self, value)
                return
        self._object(value)

    def _note(self, *words: Any) -> None:
        self.found.update(f"{words}\n".encode())

    def _all(self, name: str, *values: Any) -> None:
        self._note(name, len(values))
        for value in values:
            self.read(value)

    def _tensor(self, value: Tensor) -> None:
        if value.layout != torch.strided or value.is_quantized:
            self._object(value)
            return
        self._note("tensor", value.dtype, tuple(value.shape), value.device)
        numbers = value.detach().cpu().resolve_conj().resolve_neg()
        # one number may count as contiguous at any stride, and is then no row of bytes
        row = numbers.new_empty(numbers.numel()).copy_(numbers.flatten())
        self.found.update(row.view(torch.uint8).numpy().tobytes())

    def _array(self, value: np.ndarray | np.generic) -> None:
        self._note("array", value.dtype, value.shape)
        if value.dtype.hasobject:
            self._all("objects", *value.reshape(-1).tolist())
        else:
            self.found.update(value.tobytes())

    def _code(self, value: CodeType) -> None:
        self.found.update(value.co_code)
        self._all("code", value.co_names, value.co_varnames, value.co_freevars, value.co_consts)

    def _function(self, value: FunctionType) -> None:
        cells = [_content(cell) for cell in value.__closure__ or ()]
        self._all(
            "function", value.__module__, value.__code__, value.__defaults__, value.__kwdefaults__, cells
        )
        self._all("attributes", value.__dict__)

    def _builtin(self, value: BuiltinFunctionType) -> None:
        self._note("builtin", value.__module__, value.__qualname__)
        self.read(value.__self__)

    def _class(self, value: type) -> None:
        self._note("class", value.__module__, value.__qualname__)
        found = value.__module__ != "__main__" and _at(value.__module__, value.__qualname__) is value
        if found or not value.__flags__ & _WRITTEN_IN_PYTHON:
            return
        # made within a function, or in a file that may have made another one of this name before
        own = {name: part for name, part in vars(value).items() if name not in _OF_CLASSES}
        self._all("made", *value.__bases__, own)

    def _object(self, value: Any) -> None:
        self.read(type(value))
        try:
            parts = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001, whatever an object raises that cannot be taken apart
            self._note("itself", id(value))
            return
        if isinstance(parts, str):
            known = _at(getattr(value, "__module__", "") or "", parts) is value
            self._all("named", parts, None if known else getattr(value, "__wrapped__", id(value)))
        else:
            self._all("parts", *(list(part) if hasattr(part, "__next__") else part for part in parts))


_OF_CLASSES = ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "_abc_impl")
_WRITTEN_IN_PYTHON = 1 << 9  # CPython's Py_TPFLAGS_HEAPTYPE
_LOOKS: tuple[tuple[Any, Callable[[_Reader, Any], None]], ...] = (
    (Tensor, _Reader._tensor),
    (np.ndarray | np.generic, _Reader._array),
    (CodeType, _Reader._code),
    (FunctionType, _Reader._function),
    (BuiltinFunctionType, _Reader._builtin),
    (MethodType, lambda reader, value: reader._all("method", value.__func__, value.__self__)),
    (staticmethod | classmethod, lambda reader, value: reader._all("method", value.__func__)),
    (property, lambda reader, value: reader._all("property", value.fget, value.fset)),
    (
        functools.partial,
        lambda reader, value: reader._all("partial", value.func, value.args, value.keywords),
    ),
    (type, _Reader._class),
    (ModuleType, lambda reader, value: reader._note("module", value.__name__)),
    (list | tuple, lambda reader, value: reader._all(type(value).__name__, *value)),
    (Set, lambda reader, value: reader._all("set", *sorted(digest(part) for part in value))),
)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return ...


def _at(module: str, name: str) -> Any:
    """What is at this place, or None."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
