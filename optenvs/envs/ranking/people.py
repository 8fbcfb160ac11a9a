"""What a person has said about the points of queries, as data of an episode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

Rankings = Sequence[Sequence[int]]
"""A row a query after the first: the named points from best to worst, none where none was better."""


def check_ranking(name: str, ranking: Sequence[int], shown: int, most: int, least: int = 0) -> None:
    """Require ``least`` to ``most`` different points out of those shown.

    Args:
        name: of the ranking, for the message.
        ranking: indices of points, the best first.
        shown: the number m of points.
        most: so many may be named.
        least: so many must be.

    Raises:
        TypeError: an index is no whole number. ValueError: a wrong index, one twice, too many or too few.
    """
    for index in ranking:
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"{name}: expected whole numbers, got {index!r}")
        if not 0 <= index < shown:
            raise ValueError(f"{name}: expected points 0 .. {shown - 1}, got {index}")
    if len(set(ranking)) < len(ranking):
        raise ValueError(f"{name}: expected different points, got {list(ranking)}")
    if not least <= len(ranking) <= most:
        count = str(most) if least == most else f"at most {most}" if not least else f"{least} to {most}"
        raise ValueError(f"{name}: expected {count} of {shown} points, got {len(ranking)}: {list(ranking)}")


def table(rankings: Rankings, named: int, device: torch.device) -> Int64[Tensor, "T2 k"]:
    """The orders by number of the query: the start alone, what was said, then nothing; -1 names nobody."""
    rows = [(0,), *rankings, ()]
    padded = [[*row, *[-1] * (named - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.int64, device=device)
