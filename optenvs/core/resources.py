"""Resources: what is heavy and shared (a data set, a language model, an expert), named by its recipe.

A :class:`Resource` is a frozen dataclass that says how a thing is made. It has no tensors, so that a
``Problem`` holds it as a ``static()`` field: it is never a row, and a snapshot saves the recipe. The thing
itself is made where it is used, once a process, device and dtype::

    @dataclass(frozen=True)
    class Digits(Resource):
        count: int = 200

        def build(self, device, dtype):
            return torch.from_numpy(load("digits").train_x[: self.count]).to(device, dtype)

    images = problem.images.like(point)   # on the point's device, of its dtype

A recipe says all that the thing depends on: two that are equal give the same thing. What it reads from a file
should be named by its content (a checksum), not by the place of the file alone.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .tracing import tracing

_made: dict[tuple[Resource, torch.device, torch.dtype], Any] = {}
_making = threading.RLock()


@dataclass(frozen=True)
class Resource(abc.ABC):
    """A recipe. Subclasses are frozen dataclasses of hashable fields, see the module."""

    @abc.abstractmethod
    def build(self, device: torch.device, dtype: torch.dtype) -> Any:
        """The thing, its floating tensors of ``dtype``; a function of the fields and of these two alone."""

    def like(self, tensor: Tensor) -> Any:
        """The thing on the device of ``tensor`` and of its dtype."""
        return self.on(tensor.device, tensor.dtype)

    def on(self, device: torch.device | str, dtype: torch.dtype) -> Any:
        """The thing on a device, made if it is not there yet.

        Raises:
            TypeError: the class is no frozen dataclass of its own, or a field is not hashable.
            RuntimeError: it would be made while a program is recorded, and be part of the record.
        """
        name = type(self).__name__
        parameters = vars(type(self)).get("__dataclass_params__")
        if parameters is None or not (parameters.frozen and parameters.eq):
            raise TypeError(f"{name}: expected @dataclass(frozen=True) on the class: its fields are its name")
        key = self, _whole(torch.device(device)), dtype
        try:
            hash(key)
        except TypeError as error:
            told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
            raise TypeError(f"{name}: expected hashable fields (tuples for lists), got {told}") from error
        with _making:  # reentrant: a thing may be made of others
            if key not in _made:
                if tracing():
                    raise RuntimeError(f"{name}: not made yet; ask it once before a program is recorded")
                with _apart(key[1]):
                    _made[key] = self.build(key[1], dtype)
            return _made[key]


def forget(*resources: Resource) -> None:
    """Drop these things, or all, from the process; whoever asks again makes them again."""
    with _making:
        for key in [key for key in _made if not resources or key[0] in resources]:
            del _made[key]


@contextlib.contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Whoever happens to ask first: neither his mode nor his global generators matter, or notice."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it draws nothing)
    cards = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(cards), torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def _whole(device: torch.device) -> torch.device:
    """``cuda`` and ``cuda:0`` are one device, where that is the current one."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
