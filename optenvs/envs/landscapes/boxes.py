"""Boxes of points: ends that are a number or one a coordinate, and where to search in an open one."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

Ends = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


def ends_of(bounds: Any, dim: int) -> Ends:
    """The ends by coordinate.

    Raises:
        ValueError: ``bounds`` are no pair of numbers, or of ``dim`` numbers.
    """
    try:
        low, high = (np.asarray(end, dtype=float) for end in bounds)
        return np.broadcast_to(low, (dim,)), np.broadcast_to(high, (dim,))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"bounds: expected None, 'domain' or (low, high), each a number or {dim} of them, got {bounds!r}"
        ) from error


def searched_box(limits: Ends, domain: Ends) -> Ends:
    """``limits``, but where these have no end as wide as the domain, or wider."""
    (low, high), (first, last) = limits, domain
    width = last - first
    low_end = np.where(np.isfinite(low), low, np.minimum(first, high - width))
    return low_end, np.where(np.isfinite(high), high, np.maximum(last, low_end + width))


def one(end: np.ndarray) -> Any:
    """One number where all coordinates have the same: a space of many stays cheap."""
    return float(end[0]) if (end == end[0]).all() else end
