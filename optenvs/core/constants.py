"""What every step of an environment reads, made once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor

from .spaces import bounded

_UNLIMITED = torch.iinfo(torch.int64).max


class Constants(NamedTuple):
    """Tensors and flags that depend on the configuration alone.

    Attributes:
        bill: of one query, ``(kinds,)``, or ``(1,)`` where all kinds cost the same, which is added faster.
        over: the counts at which an episode is over: then the least bill is more than what is left.
        finite: whether there are such counts.
        share: one over the limit of each kind, 0 where there is none.
        worst: infinity, ``(1,)``.
        horizon: the observation's ``N``.
        bounded: whether a query can lie outside of the action's bounds.
    """

    bill: Int64[Tensor, "_"]
    over: Int64[Tensor, "kinds"]
    finite: bool
    share: Float[Tensor, "kinds"]
    worst: Float[Tensor, "1"]
    horizon: float
    bounded: bool


def constants_of(
    bill: Mapping[str, int],
    least: Mapping[str, int],
    limits: Mapping[str, int],
    horizon: int | None,
    action_space: spaces.Space,
    dtype: torch.dtype,
    device: torch.device,
) -> Constants:
    """The constants of an environment, from its declarations of these names."""
    kinds, prices = tuple(bill), list(bill.values())

    def row(numbers: list[Any], kind: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(numbers, dtype=kind, device=device)

    ends = [limits[kind] - least[kind] + 1 if kind in limits and kind in least else None for kind in kinds]
    return Constants(
        bill=row(prices[:1] if len(set(prices)) == 1 else prices),
        over=row([_UNLIMITED if end is None else end for end in ends]),
        finite=any(end is not None for end in ends),
        share=row([1 / limits[kind] if kind in limits else 0.0 for kind in kinds], dtype),
        worst=torch.full((1,), torch.inf, dtype=dtype, device=device),
        horizon=float("inf") if horizon is None else float(horizon),
        bounded=bounded(action_space),
    )
