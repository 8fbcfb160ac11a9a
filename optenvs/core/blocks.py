"""Large batches by blocks of rows that fit into a cache.

A formula of several elementwise operations on many megabytes goes through memory once an operation, and each
result of that size is new memory, which costs a page fault for each 4 kB. By blocks the intermediate results
stay in the cache, in memory that malloc has at hand. Rows do not see each other: the numbers are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .oracles import inside_transform
from .tracing import tracing

BLOCK_BYTES = 1 << 20
"""What the second cache of a core holds, or half of it."""

WORTH_BYTES = 4 * BLOCK_BYTES
"""Below, memory is at hand anyway, and blocks only cost calls."""


def row_blocks(like: Tensor, row_bytes: int | None = None) -> list[slice]:
    """The rows of ``like``, ``(B, ...)``, by blocks; all at once where that does not help or is not possible.

    So it is in small batches, on other devices, while a graph is recorded, and inside the transforms of
    ``torch.func`` and ``torch.compile``. What is made of a row takes ``row_bytes``, by default its own size.
    """
    rows = len(like)
    whole = [slice(0, rows)]
    if tracing() or torch.is_grad_enabled() or not like.is_cpu or inside_transform(like):
        return whole
    row = like.nbytes // max(rows, 1) if row_bytes is None else row_bytes
    if rows * row < WORTH_BYTES:
        return whole
    size = max(BLOCK_BYTES // row, 1)
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
