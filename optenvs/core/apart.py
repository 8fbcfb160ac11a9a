"""Kinds of a menu that are dear: computed apart, for the rows that pay alone, where some do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from .env import State
from .offer import Kind, Query
from .struct import Part


class Apart(NamedTuple):
    """The rows that pay for some kinds.

    Attributes:
        which: the rows, ``(some,)``.
        state, query: of these rows.
    """

    which: Int64[Tensor, "some"]
    state: Part
    query: Query

    def spread(self, found: Tensor, batch: int) -> Tensor:
        """The answers ``found`` of these rows among ``batch`` rows; the others are zeros."""
        return found.new_zeros(batch, *found.shape[1:]).index_copy_(0, self.which, found)


def dear_kinds(kinds: Mapping[str, Kind], state: State, query: Query, counts: list[int]) -> dict[str, Apart]:
    """The dear ones that some rows pay for and others do not; kinds of the same rows share theirs.

    Args:
        kinds: the menu's.
        state: of all rows.
        query: of all rows; it knows what is paid.
        counts: by kind, how many rows pay.
    """
    groups: list[tuple[Tensor, list[str]]] = []
    for (name, kind), count in zip(kinds.items(), counts, strict=True):
        if not kind.dear or not 0 < count < len(query.paid[name]):
            continue
        which = query.paid[name].nonzero().squeeze(-1)
        group = next((names for rows, names in groups if torch.equal(rows, which)), None)
        if group is None:
            groups.append((which, [name]))
        else:
            group.append(name)
    found: dict[str, Apart] = {}
    for which, names in groups:
        part = Apart(which, Part(state, which), query.among(state, which, frozenset(names)))
        found |= dict.fromkeys(names, part)
    return found
