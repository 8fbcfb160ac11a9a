"""Zeros that cost nothing until somebody reads them or writes into them.

To fill a large tensor with zeros takes a pass through memory, whoever looks at it. The pages that the system
hands out are zeros already, and are found when they are first touched.
"""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor

from .tracing import tracing

WORTH_BYTES = 1 << 20
"""Below, filling is quicker than asking for pages."""

_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)  # not everywhere


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``torch.zeros``; nobody else's memory, large ones on the CPU not touched yet."""
    size = math.prod(shape) * dtype.itemsize
    if size >= WORTH_BYTES and device.type == "cpu" and _PRIVATE and not tracing():
        try:
            pages = mmap.mmap(-1, size, flags=_PRIVATE)
        except OSError:  # the system counts them, and has no more
            return torch.zeros(shape, dtype=dtype, device=device)
        return torch.frombuffer(pages, dtype=dtype).view(shape)
    return torch.zeros(shape, dtype=dtype, device=device)
