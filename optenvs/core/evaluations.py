"""When what is too dear for every step is measured: every so many queries, or after given ones."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

Evaluations = int | tuple[int, ...] | None
"""A period in queries, numbers of queries in increasing order, or ``None`` for the start alone."""


def check_evaluations(given: Any) -> None:
    """Raise ``ValueError`` unless ``given`` says when to evaluate."""
    numbers = given if isinstance(given, tuple | list) else () if given is None else (given,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in numbers)
    if not whole or list(numbers) != sorted(set(numbers)) or given in ((), []):
        raise ValueError(
            "evaluation_period: expected a whole number >= 1, increasing numbers of queries, or None, "
            f"got {given!r}"
        )


def due(evaluations: Evaluations, query: int) -> bool:
    """Whether it is time to evaluate after query number ``query``."""
    if evaluations is None:
        return False
    if isinstance(evaluations, int):
        return query % evaluations == 0
    return query in evaluations


def due_rows(evaluations: Evaluations, queries: Int64[Tensor, "B"]) -> Bool[Tensor, "B"]:
    """:func:`due` row by row."""
    if evaluations is None:
        return torch.zeros_like(queries, dtype=torch.bool)
    if isinstance(evaluations, int):
        return queries % evaluations == 0
    return torch.isin(queries, torch.tensor(evaluations, device=queries.device))


def until_next(evaluations: Evaluations, query: int) -> float:
    """How many queries after number ``query`` the next evaluation comes; infinite where none does."""
    if evaluations is None:
        return float("inf")
    if isinstance(evaluations, int):
        return evaluations - query % evaluations
    place = bisect_right(evaluations, query)
    return evaluations[place] - query if place < len(evaluations) else float("inf")


def times(evaluations: Evaluations, count: int) -> list[int]:
    """The numbers of the queries below ``count`` after which there is an evaluation; the first is one."""
    if isinstance(evaluations, int):
        return list(range(0, count, evaluations))
    return [0, *(n for n in evaluations or () if n < count)]


def stretched(evaluations: Evaluations, repeat: int) -> Evaluations:
    """The same times in actions of ``repeat`` queries each."""
    if evaluations is None or isinstance(evaluations, int):
        return None if evaluations is None else -(-evaluations // repeat)
    return tuple(sorted({-(-n // repeat) for n in evaluations}))
