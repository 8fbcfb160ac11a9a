"""What an agent remembers of parameters without a gradient stays as it was.

Most of a memory has one place for each entry of the point, along its second axis. A struct in which that axis
counts something else says so, by field, in ``second_axis``: ``tensors``, the ``rows`` or ``columns`` of
factored averages (:func:`agents.learned._tensors.parts_of`), or ``whole`` for what belongs to no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optenvs.core.ledger import Ledger
from optenvs.core.struct import fields_of, is_struct, replace

from ..learned._tensors import Shapes, parts_of

Masks = Mapping[str, Tensor]


def resting(absent: list[bool], shapes: Shapes, device: torch.device) -> Masks:
    """Which places rest, by what they are places of, where these parameters have no gradient."""
    parts = parts_of(shapes)
    places = {
        "entries": [part.own for part in parts],
        "tensors": [slice(i, i + 1) for i in range(len(parts))],
        "rows": [part.rows for part in parts],
        "columns": [part.columns for part in parts],
    }
    masks = {}
    for kind, slices in places.items():
        mask = torch.zeros(max(place.stop for place in slices), dtype=torch.bool)
        for place, still in zip(slices, absent, strict=True):
            mask[place] = still
        masks[kind] = mask.to(device)
    return masks


def kept(masks: Masks, before: Any, after: Any, kind: str = "entries") -> Any:
    """``after``, but as ``before`` in the places that rest.

    ``kind`` says what the second axis of a tensor counts.
    """
    if isinstance(after, Tensor):
        mask = masks.get(kind)
        if mask is None or after.shape != before.shape or after.ndim < 2 or after.shape[1] != len(mask):
            return after
        return torch.where(mask.reshape(mask.shape + (1,) * (after.ndim - 2)), before, after)
    if isinstance(after, Ledger):
        return after
    if is_struct(after):
        kinds = getattr(type(after), "second_axis", {})
        changes = {
            name: kept(masks, getattr(before, name), getattr(after, name), kinds.get(name, kind))
            for name in fields_of(after)
        }
        return replace(after, **changes)
    if isinstance(after, dict):
        return {key: kept(masks, before[key], value, kind) for key, value in after.items()}
    if isinstance(after, tuple | list):
        items = [kept(masks, *pair, kind) for pair in zip(before, after, strict=True)]
        return type(after)(*items) if hasattr(after, "_fields") else type(after)(items)
    return after
