"""Reads the one kind of pickle that CIFAR-10 is published as, and nothing that could run code.

A pickle is a program. This reader knows four names, those of numpy's array reconstruction, and puts
inert stand-ins of ours in their place; every other name is refused. What is left are containers,
numbers, bytes and arrays of bytes.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np


class UnsafePickle(pickle.UnpicklingError):
    """The pickle names something other than numpy's array reconstruction."""


class _ByteType:
    """Stands for ``numpy.dtype('uint8')``; its state (byte order, alignment) has nothing to say."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise UnsafePickle(f"an array of type {code!r}: only bytes ('u1') are read")

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for a ``numpy.ndarray`` that is being put together again."""

    array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _ByteType) or not isinstance(content, bytes):
            raise UnsafePickle("an array whose content is not plain bytes")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise UnsafePickle(f"an array of class {kind!r}")
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the old protocols; no other codec is let through."""
    if encoding != "latin1":
        raise UnsafePickle(f"the codec {encoding!r}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _ByteType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise UnsafePickle(f"the pickle names {module}.{name}: refused")
        return _KNOWN[module, name]

    def persistent_load(self, pid: object) -> Any:
        raise UnsafePickle(f"the pickle refers to an outside object {pid!r}: refused")


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        if value.array is None:
            raise UnsafePickle("an array without content")
        return value.array
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    raise UnsafePickle(f"the pickle holds an object of type {type(value).__name__}")


def loads(content: bytes) -> Any:
    """The containers, numbers, strings and uint8 arrays of a pickle; strings of Python 2 are bytes.

    Raises:
        UnsafePickle: The pickle names anything else; nothing that it names has been run or
            imported.
    """
    return _plain(_Unpickler(io.BytesIO(content), encoding="bytes").load())
