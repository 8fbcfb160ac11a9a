"""Memory for large results on the CPU, used again.

A pure step returns new tensors and drops the old ones. The C library gives dropped blocks of some megabytes
back to the system, and every new one then costs a page fault for each 4 kB: up to half the time of a step.
Here such blocks are kept and lent again.

A block is lent as a numpy array under a tensor. Torch keeps that array alive as long as any tensor, view or
numpy array uses its memory, so the array's finalizer runs exactly when nobody does: what somebody still holds
is never written over. What can be seen: such a tensor cannot be made longer in place (``resize_``), it takes
up to 2 MB more than its size, and what is free stays with the process, up to ``KEPT_BYTES`` for each of
``KEPT_KINDS`` sizes; :func:`release` gives it back.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

from .tracing import tracing

SMALLEST, LARGEST = 1 << 20, 1 << 26
"""Sizes of blocks in bytes: below, malloc keeps memory by itself; above, too much would be held back."""

KEPT_BLOCKS, KEPT_BYTES, KEPT_KINDS = 8, 1 << 27, 4
"""At most so many blocks and bytes are kept for one kind, at least two blocks; and so many kinds."""

HUGE_PAGE = 1 << 21
"""What Linux can map at once, instead of 4 kB, for 4 MB and more that numpy allocates."""

DTYPES: dict[torch.dtype, type] = {torch.float32: np.float32, torch.float64: np.float64}

Kind = tuple[torch.dtype, int]
"""A dtype and a size in bytes."""

# What two threads may do at once here, and a finalizer in the midst of it, are single operations on a dict or
# a deque; those are atomic. Hence no lock, which a finalizer or a forked process could find taken.
_free: dict[Kind, deque[np.ndarray]] = {}


def recycled(like: Tensor) -> Tensor | None:
    """A tensor with the shape and dtype of ``like`` and any content, for ``out=``.

    ``None`` where torch allocates better itself: small or very large tensors, other dtypes, devices, layouts
    and subclasses, and while a program is recorded.
    """
    if tracing() or not like.is_cpu or like.dtype not in DTYPES:
        return None
    plain = type(like) in (Tensor, torch.nn.Parameter) and like.layout == torch.strided
    if not plain or not SMALLEST <= like.nbytes <= LARGEST or not like.is_contiguous():
        return None
    kind = like.dtype, like.nbytes
    try:
        block = _blocks(kind).pop()  # the last one to come back: its content may still be in the cache
    except IndexError:
        block = _allocate(kind)
    lent = block.reshape(like.shape)  # a new array, held by the tensor alone
    weakref.finalize(lent, _give_back, kind, block).atexit = False
    return torch.from_numpy(lent)


def release() -> None:
    """Give all kept blocks back to the system."""
    _free.clear()


def _blocks(kind: Kind) -> deque[np.ndarray]:
    """The kept blocks of a kind; a new kind takes the place of the one known longest."""
    blocks = _free.get(kind)
    if blocks is None:
        most = max(2, min(KEPT_BLOCKS, KEPT_BYTES // kind[1]))
        blocks = _free.setdefault(kind, deque(maxlen=most))
        for old in list(_free)[:-KEPT_KINDS]:
            _free.pop(old, None)
    return blocks


def _allocate(kind: Kind) -> np.ndarray:
    """A block that begins at a huge page and lies in whole ones."""
    dtype, size = kind
    pages = -(-size // HUGE_PAGE) + 1  # what is not touched takes no memory
    memory = np.empty(pages * HUGE_PAGE, np.uint8)
    start = -memory.ctypes.data % HUGE_PAGE
    return memory[start : start + size].view(DTYPES[dtype])


def _give_back(kind: Kind, block: np.ndarray) -> None:
    blocks = _free.get(kind)
    if blocks is not None:
        blocks.append(block)  # drops its oldest when full
