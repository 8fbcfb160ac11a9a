"""Queries of several shape classes: each draws one, by its number, the same for all instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from optenvs.core.random import integers
from optenvs.core.struct import tree_map


def drawn(k: Int64[Tensor, "B"], count: int) -> Int64[Tensor, "B"]:
    """The shape class of query number ``k``, of ``count``."""
    return integers(torch.zeros_like(k), "shape class", 1, count, k)[:, 0]


def by_class(k: Int64[Tensor, "B"], count: int, ask: Callable[[int, Tensor | None], Any]) -> Any:
    """The answers of the classes that the rows draw.

    Rows that stepped together draw the same; those of an episode that began at another time may not.

    Args:
        k: the number of each row's query.
        count: how many classes there are; with one nothing is looked at.
        ask: ``(class, rows) -> tree`` of tensors with those rows first, ``None`` for all.
    """
    if count == 1:
        return ask(0, None)
    numbers = drawn(k, count)
    met = sorted(set(numbers.tolist()))
    if len(met) == 1:
        return ask(met[0], None)
    whole = None
    for number in met:
        some = (numbers == number).nonzero()[:, 0]
        part = ask(number, some)
        if whole is None:
            whole = tree_map(lambda leaf: leaf.new_zeros(len(k), *leaf.shape[1:]), part)
        whole = put(whole, some, part)
    return whole


def put(whole: Any, some: Int64[Tensor, "b"], part: Any) -> Any:
    """``whole`` with the rows ``some`` as in ``part``."""
    return tree_map(lambda leaf, new: leaf.index_copy(0, some, new.to(leaf.dtype)), whole, part)
