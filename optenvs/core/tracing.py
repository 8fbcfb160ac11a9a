"""Whether a program is being recorded, to be compiled: then nothing is written over in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

_recording: ContextVar[bool] = ContextVar("recording", default=False)


def tracing() -> bool:
    """Whether what is called now is recorded, by a compiled rollout or by ``torch.compile``."""
    return torch.compiler.is_compiling() or _recording.get()


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Around calls that are recorded."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)
