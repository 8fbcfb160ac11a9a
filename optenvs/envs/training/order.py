"""The order of the minibatches: every epoch a permutation, without sorting in any step.

An instance draws one uniform permutation P of its n samples. Epoch e reads P along its own stride: sample
``P[(a_e i + c_e) mod n]`` is the i-th, with ``a_e`` uniform on the numbers prime to n and ``c_e`` uniform.
A fresh uniform permutation each epoch would cost a sort of n numbers an instance, or a branch on data; this
costs a product. The first epoch's order is uniform, every sample comes at most once an epoch, and an
incomplete last batch is dropped.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from optenvs.core.random import Keys, integers, permutation


@lru_cache(maxsize=32)
def _units(count: int, device: torch.device) -> Tensor:
    """The numbers of ``1 .. count - 1`` prime to ``count`` (1 itself only if it is the only one)."""
    numbers = np.arange(1, max(count, 2))
    units = numbers[np.gcd(numbers, count) == 1]
    return torch.from_numpy(units[units > 1] if len(units) > 1 else units).to(device)


def draw_order(keys: Keys, count: int) -> Int32[Tensor, "B n"]:
    """P: one uniform permutation of ``count`` samples a key."""
    return permutation(keys, "order", count).to(torch.int32)


def minibatch(
    keys: Keys, order: Int32[Tensor, "B n"], query: Int64[Tensor, "B"], size: int
) -> Int64[Tensor, "B m"]:
    """The samples of minibatch number ``query`` (counted from 0 over all epochs), ``(B, size)``."""
    count, device = order.shape[1], order.device
    epoch, place = query // (count // size), query % (count // size)
    units = _units(count, device)
    stride = units[integers(keys, "stride", 1, len(units), counter=epoch)]
    offset = integers(keys, "offset", 1, count, counter=epoch)
    within = place.unsqueeze(-1) * size + torch.arange(size, device=device)
    return order.gather(1, (stride * within + offset) % count).to(torch.int64)
