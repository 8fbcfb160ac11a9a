"""Which instance an episode has, and when it is over: one rule for every face.

Row i of ``reset(seed=s)`` is instance i of seed s at every batch size; the n-th automatic or unseeded reset
after it is a function of that row's key and n alone. ``options={"instance": key}`` meets an instance again;
other options are left to whoever wraps the face.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    def seeded(cls, seed: Any, batch: int, device: torch.device) -> Episodes:
        """From one seed for the batch, or one seed a row (each row then is instance 0 of its seed)."""
        given: Any = seed.tolist() if isinstance(seed, np.ndarray | Tensor) and seed.ndim == 1 else seed
        if isinstance(given, list | tuple | range):
            if len(given) != batch:
                raise ValueError(f"seed: expected a whole number or {batch} of them, got {len(given)}")
            base = torch.cat([keys_from_seed(s, 1, device) for s in given])
        else:
            base = keys_from_seed(given, batch, device)
        return cls(base=base, count=torch.zeros_like(base))

    def keys(self) -> Keys:
        """The keys of the current episodes."""
        return torch.where(self.count == 0, self.base, fold_in(self.base, self.count))

    def next(self, rows: Tensor | None = None) -> Episodes:
        """One episode further, in all rows or where ``rows`` (bool) holds."""
        step = torch.ones_like(self.count) if rows is None else rows.to(torch.int64)
        return Episodes(base=self.base, count=self.count + step)


def instance_keys(options: Mapping[str, Any] | None, keys: Keys) -> Keys:
    """``keys`` with those of ``options["instance"]`` in their place: one for all rows, or one a row.

    In a list ``None`` leaves a row its own.

    Raises:
        ValueError: neither a whole number nor ``B`` of them.
    """
    instance = None if options is None else options.get("instance")
    if instance is None:
        return keys
    batch = len(keys)
    if isinstance(instance, Tensor) and instance.ndim == 1 and instance.dtype == torch.int64:
        _check_count(len(instance), batch)
        return instance.to(keys.device, copy=True)  # such as info["key"], which may live on an accelerator
    if isinstance(instance, np.ndarray | Tensor):
        instance = instance.tolist()
    if not isinstance(instance, list | tuple):
        return torch.full_like(keys, _key(instance))
    _check_count(len(instance), batch)
    own = keys.tolist() if None in instance else instance
    found = [mine if key is None else _key(key) for key, mine in zip(instance, own, strict=True)]
    return torch.tensor(found, dtype=torch.int64, device=keys.device)


def _check_count(count: int, batch: int) -> None:
    if count != batch:
        raise ValueError(f"instance: expected a whole number or {batch} of them, got {count}")


def _key(key: Any) -> int:
    """An instance's key: 64 bits, as a signed whole number."""
    if isinstance(key, np.ndarray | Tensor) and key.ndim == 0:
        key = key.item()
    whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
    if not whole or not -(1 << 63) <= key < 1 << 63:
        raise ValueError(f"instance: expected a whole number of 64 bits (an episode's key), got {key!r}")
    return int(key)


def over(state: State) -> Tensor:
    """Whether episodes have ended, bool ``(B,)``.

    Gymnasium's ``reset`` cannot say that an instance is solved at its start, or that its budget pays no more:
    such an episode takes one step to say so.
    """
    return state.done & (state.k > 0)
