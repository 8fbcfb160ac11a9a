"""Which instance an episode has, and when it is over: one rule for every face.

Row i of ``reset(seed=s)`` is instance i of seed s at every batch size; the n-th automatic or unseeded reset
after it is a function of that row's key and n alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.random import Keys, fold_in, keys_from_seed
from optenvs.core.struct import struct


@struct
class Episodes:
    """The seed keys of a batch and how many episodes each row has begun since seeding."""

    base: Keys
    count: Tensor

    @classmethod
    def seeded(cls, seed: int | Sequence[int], batch: int, device: torch.device) -> Episodes:
        """From one seed for the batch, or one seed a row (each row then is instance 0 of its seed)."""
        if isinstance(seed, int | np.integer):
            base = keys_from_seed(int(seed), batch, device)
        else:
            if len(seed) != batch:
                raise ValueError(f"seed: expected an integer or {batch} of them, got {len(seed)}")
            base = torch.cat([keys_from_seed(int(s), 1, device) for s in seed])
        return cls(base=base, count=torch.zeros_like(base))

    def keys(self) -> Keys:
        """The keys of the current episodes."""
        return torch.where(self.count == 0, self.base, fold_in(self.base, self.count))

    def next(self, rows: Tensor | None = None) -> Episodes:
        """One episode further, in all rows or where ``rows`` (bool) holds."""
        step = torch.ones_like(self.count) if rows is None else rows.to(torch.int64)
        return Episodes(base=self.base, count=self.count + step)


def instance_keys(instance: Any, batch: int, device: torch.device) -> Keys:
    """The keys of ``options={"instance": ...}``: an episode's key, or one a row.

    Raises:
        ValueError: neither an integer nor ``batch`` integers.
    """
    keys = torch.as_tensor(np.asarray(instance) if not isinstance(instance, Tensor) else instance)
    if keys.is_floating_point() or keys.dtype == torch.bool or keys.ndim > 1:
        raise ValueError(f"instance: expected an integer key or {batch} of them, got {instance!r}")
    keys = keys.to(device=device, dtype=torch.int64)
    if keys.ndim == 1 and len(keys) != batch:
        raise ValueError(f"instance: expected an integer key or {batch} of them, got {len(keys)}")
    return keys.expand(batch).clone()


def over(state: State) -> Tensor:
    """Whether episodes have ended, bool ``(B,)``.

    Gymnasium's ``reset`` cannot say that an instance is solved at its start, or that its budget pays no more:
    such an episode takes one step to say so.
    """
    return state.done & (state.k > 0)
