"""The oracle ledger: how many answers of each kind an episode has been billed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from .errors import suggest
from .struct import static, struct


@struct
class Ledger:
    """Oracle calls so far: one ``int64`` counter an oracle kind and instance.

    It reads like a mapping: ``ledger["gradient"]`` has shape ``(B,)``. One tensor holds all kinds, so that
    a bill is one addition.
    """

    counts: Int64[Tensor, "*B kinds"]
    kinds: tuple[str, ...] = static()

    @classmethod
    def empty(cls, kinds: tuple[str, ...], batch: int, device: torch.device) -> Ledger:
        """A ledger of zeros for ``batch`` instances."""
        counts = torch.zeros(batch, len(kinds), dtype=torch.int64, device=device)
        return cls(counts=counts, kinds=kinds)

    def __getitem__(self, kind: str) -> Int64[Tensor, "*B"]:
        if kind not in self.kinds:
            raise KeyError(f"no oracle {kind!r} in this ledger; it has {', '.join(self.kinds)}")
        return self.counts[..., self.kinds.index(kind)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)

    def __contains__(self, kind: object) -> bool:
        return kind in self.kinds

    def keys(self) -> tuple[str, ...]:
        """The oracle kinds, in the order of the columns."""
        return self.kinds

    def items(self) -> list[tuple[str, Tensor]]:
        """Pairs of oracle kind and its counters ``(B,)``."""
        return [(kind, self[kind]) for kind in self.kinds]

    def bill(self, calls: Tensor | Mapping[str, int | Tensor]) -> Ledger:
        """The ledger after ``calls`` more: a row ``(kinds,)`` (or ``(1,)``), rows, or counts by kind."""
        if not isinstance(calls, Tensor):
            unknown = set(calls) - set(self.kinds)
            if unknown:
                raise KeyError(f"bill: unknown oracle kinds {sorted(unknown)}; known: {self.kinds}")
            batch = self.counts.shape[:-1]
            columns = [calls.get(kind, 0) for kind in self.kinds]
            calls = torch.stack(
                [
                    column  # already a counter of each instance
                    if isinstance(column, Tensor) and column.shape == batch
                    else torch.as_tensor(column, device=self.counts.device).expand(batch)
                    for column in columns
                ],
                -1,
            )
        return Ledger(counts=self.counts + calls, kinds=self.kinds)

    def spent(self, limits: Int64[Tensor, "kinds"]) -> Bool[Tensor, "*B"]:
        """Whether any budget is used up."""
        return (self.counts >= limits).any(-1)


def limits_of(owner: str, budget: int | Mapping[str, int] | None, bill: Mapping[str, int]) -> dict[str, int]:
    """A budget by oracle kind: a number is of the first kind of ``bill``.

    Raises:
        ValueError: a kind that ``owner`` does not bill, or no whole number >= 1.
    """
    if budget is None:
        return {}
    given = budget if isinstance(budget, Mapping) else {next(iter(bill)): budget}
    for kind, limit in given.items():
        if kind not in bill:
            raise ValueError(f"budget: {owner} bills no {kind!r}{suggest(kind, bill)}")
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1:
            raise ValueError(f"budget: expected a whole number >= 1, got {limit!r} for {kind}")
    return {kind: int(limit) for kind, limit in given.items()}
