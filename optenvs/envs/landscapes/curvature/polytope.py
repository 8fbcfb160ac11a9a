"""The distance from a polytope, as a sum of powers of the violated inequalities.

Semenov, Jaggi, Doikov 2025 (see :mod:`.base`), with v_i = max(a_i' x - b_i, 0)::

    f(x) = sum_i v_i^p
    gradient            = p A' v^(p-1)
    Hessian (exact)     = p (p-1) A' diag(v^(p-2)) A

With p = 2 a violated inequality counts in full, one that holds not at all, and at its face it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core.linear import times
from optenvs.core.random import Keys, normal, uniform
from optenvs.envs.landscapes.parts import Draw

from .base import Bend, gram, nothing, power
from .rows import OfRows, Rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Polytope(OfRows):
    """The sum of max(a_i' x - b_i, 0)^p. Minimum 0, on the whole polytope A x <= b.

    A drawn polytope has points: b = A z + s with z standard normal and hidden and s uniform on [0, 1).
    Episodes begin at (1, ..., 1).

    Args:
        power: p >= 2.
        dim, rows, data, metric: see :class:`optenvs.envs.landscapes.curvature.rows.OfRows`; m = 30 by
            default. Data must have a point with A x <= b, or else the minimum is not 0; nobody looks for one.
        hessian: ``exact`` or ``zero``; and the others of
            :class:`optenvs.envs.landscapes.curvature.base.Curved`.
    """

    power: float = 4.0

    default_rows = 30
    ridge = 1e-8

    def __post_init__(self) -> None:
        if not 2 <= self.power < float("inf"):
            raise ValueError(f"power: expected a number >= 2, got {self.power!r}")
        super().__post_init__()

    def prepare(self, drawn: Rows) -> Rows:
        return Rows(a=drawn.a.to(self.torch_dtype), b=drawn.b.to(self.torch_dtype))

    def drawn(self, keys: Keys) -> Rows:
        found = super().drawn(keys)
        if self._given is not None:
            return found
        inside = normal(keys, "inside", self.dim, dtype=torch.float64)
        return Rows(
            a=found.a, b=times(found.a, inside) + uniform(keys, "slack", self.rows, dtype=torch.float64)
        )

    def draw(self, keys: Keys) -> Draw:
        drawn = self.drawn(keys)
        start = torch.ones(len(keys), self.dim, dtype=self.torch_dtype, device=keys.device)
        return Draw(
            start=start,
            lowest=torch.zeros_like(start[:, 0]),
            coefficients=self.own(drawn),
            metric=self.norm(keys, drawn.a),
        )

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        told: Rows = self.told(coefficients)
        return ((times(told.a, x) - told.b).clamp_min(0) ** self.power).sum(-1)

    def bend(self, x: Tensor, coefficients: Any) -> Bend:
        told: Rows = self.told(coefficients)
        a, p, zero = told.a, self.power, self.hessian == "zero"
        rest = times(a, x) - told.b
        over = rest.clamp_min(0)

        def bent() -> Tensor:
            return torch.where(rest > 0, p * (p - 1) * power(over, p - 2), 0.0)

        return Bend(
            value=(over**p).sum(-1),
            gradient=times(a.mT, p * over ** (p - 1)),
            hessian=lambda: nothing(x) if zero else gram(a, bent()),
            product=lambda v: torch.zeros_like(v) if zero else times(a.mT, bent() * times(a, v)),
        )
