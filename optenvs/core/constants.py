"""What every step of an environment reads, made once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor

from .spaces import bounded

_UNLIMITED = torch.iinfo(torch.int64).max


class Constants(NamedTuple):
    """Tensors and flags that depend on the configuration alone.

    Attributes:
        bill: of one query, ``(kinds,)``.
        over: the counts at which an episode is over: then the least bill is more than what is left.
        finite: whether there are such counts.
        share: one over the limit of each kind, 0 where there is none.
        worst: infinity, ``(1,)``.
        horizon: the observation's ``N``.
        bounded: whether a query can lie outside of the action's bounds.
    """

    bill: Int64[Tensor, "kinds"]
    over: Int64[Tensor, "kinds"]
    finite: bool
    share: Float[Tensor, "kinds"]
    worst: Float[Tensor, "1"]
    horizon: float
    bounded: bool


class Priced(Protocol):
    """What constants are made of."""

    @property
    def bill(self) -> dict[str, int]:
        """What a query costs."""
        ...

    @property
    def least_bill(self) -> dict[str, int]:
        """The least an answer costs."""
        ...

    @property
    def limits(self) -> dict[str, int]:
        """The budget by kind."""
        ...

    @property
    def horizon(self) -> int | None:
        """Steps that the budget pays."""
        ...

    @property
    def action_space(self) -> spaces.Space:
        """Of one instance."""
        ...

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of points."""
        ...

    @property
    def torch_device(self) -> torch.device:
        """Of all tensors."""
        ...


def constants_of(env: Priced) -> Constants:
    """The constants of an environment."""
    kinds, limits, least = tuple(env.bill), env.limits, env.least_bill

    def row(numbers: list[Any], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(numbers, dtype=dtype, device=env.torch_device)

    ends = [limits[kind] - least[kind] + 1 if kind in limits and kind in least else None for kind in kinds]
    return Constants(
        bill=row([env.bill[kind] for kind in kinds]),
        over=row([_UNLIMITED if end is None else end for end in ends]),
        finite=any(end is not None for end in ends),
        share=row([1 / limits[kind] if kind in limits else 0.0 for kind in kinds], env.torch_dtype),
        worst=torch.full((1,), torch.inf, dtype=env.torch_dtype, device=env.torch_device),
        horizon=float("inf") if env.horizon is None else float(env.horizon),
        bounded=bounded(env.action_space),
    )
