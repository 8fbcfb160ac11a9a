"""Masks of rows that the host has looked at, where it may: what no row takes part in is not computed."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.oracles import inside_transform
from optenvs.core.struct import select

T = TypeVar("T")


class Seen(NamedTuple):
    """Whether some rows of a mask are set, and whether all are; ``(True, False)`` where nobody may look."""

    some: bool
    every: bool


def look(mask: Bool[Tensor, "B"]) -> Seen:
    """What the host sees of a mask."""
    if not mask.is_cpu or inside_transform(mask):
        return Seen(some=True, every=False)
    rows = mask.tolist()  # sooner read than summed up
    return Seen(True in rows, False not in rows)


def mixed(seen: Seen, mask: Bool[Tensor, "B"], yes: T, no: T) -> T:
    """``select``, but for what the host has seen."""
    if seen.every:
        return yes
    return select(mask, yes, no) if seen.some else no


def union(*masks: Bool[Tensor, "B"] | None) -> Bool[Tensor, "B"] | None:
    """The rows of any of the masks but those that the host sees to be empty; ``None`` where all are."""
    found = None
    for mask in masks:
        if mask is None or (mask.is_cpu and not inside_transform(mask) and True not in mask.tolist()):
            continue
        found = mask if found is None else found | mask
    return found


def cat(one: Float[Tensor, "B n"], other: Float[Tensor, "B m"]) -> Float[Tensor, "B N"]:
    """Both parts as one vector."""
    return torch.cat((one, other), -1)
