"""The chain of differences on which methods of second order are slow.

With the differences d_1 = x_1, d_i = x_i - a x_{i-1} (authors' code of Semenov, Jaggi, Doikov 2025, see
:mod:`.base`; its description has the linear term, its function has not)::

    f(x) = (|d_1|^q + ... + |d_n|^q) / q - x_n,     q = p + 1

As x_n = sum_i a^(n-i) d_i, the differences at the minimiser are d_i = a^((n-i)/p), and the minimum is
-p/(p+1) sum_i a^((n-i)(p+1)/p). Without the linear term both are 0. From 0 the gradient is 0 but in the last
coordinate, and each step of a method of second order makes one more coordinate move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from optenvs.core.random import Keys
from optenvs.envs.landscapes.parts import Draw

from .base import Bend, Curved, nothing, power
from .residuals import banded


@dataclass(frozen=True, eq=False, kw_only=True)
class PDifference(Curved):
    """(|x_1|^(p+1) + the sum of |x_i - a x_{i-1}|^(p+1)) / (p+1) - x_n. Known minimiser and minimum.

    Episodes begin at 0, without the linear term at (1, ..., 1).

    Args:
        power: p >= 1; with 1 it is a quadratic.
        ratio: a.
        linear: whether there is the term - x_n; the authors' code has not.
        hessian: ``exact`` or ``zero``; and the others of
            :class:`optenvs.envs.landscapes.curvature.base.Curved`.
    """

    dim: int = 10
    power: float = 2.0
    ratio: float = 1.0
    linear: bool = True

    domain = (-2.0, 2.0)

    def __post_init__(self) -> None:
        if not 1 <= self.power < float("inf"):
            raise ValueError(f"power: expected a number >= 1, got {self.power!r}")
        if not -float("inf") < self.ratio < float("inf"):
            raise ValueError(f"ratio: expected a finite number, got {self.ratio!r}")
        super().__post_init__()

    def draw(self, keys: Keys) -> Draw:
        start = torch.full(
            (len(keys), self.dim), 0.0 if self.linear else 1.0, dtype=torch.float64, device=keys.device
        )
        optimum, lowest = torch.zeros_like(start), torch.zeros_like(start[:, 0])
        if self.linear:
            place = torch.arange(self.dim - 1, -1, -1, dtype=start.dtype, device=start.device)
            pull, p = self.ratio**place, self.power
            size = pull.abs() ** (1 / p)
            lowest = lowest - p / (p + 1) * (size * pull.abs()).sum()
            # x_i is the sum of a^(i-j) d_j over j <= i
            way = (place.unsqueeze(0) - place.unsqueeze(1)).clamp_min(0)
            sums = torch.tril((self.ratio**way).mT)
            optimum = optimum + sums @ (size * pull.sign())
        dtype = self.torch_dtype
        return Draw(start=start.to(dtype), optimum=optimum.to(dtype), lowest=lowest.to(dtype))

    def _differences(self, x: Tensor) -> Tensor:
        return x - pad(self.ratio * x[:, :-1], (1, 0))

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        found = (self._differences(x).abs() ** (self.power + 1)).sum(-1) / (self.power + 1)
        return found - x[:, -1] if self.linear else found

    def bend(self, x: Tensor, coefficients: Any) -> Bend:
        p, zero = self.power, self.hessian == "zero"
        d = self._differences(x)
        size = d.abs()

        def back(weights: Tensor) -> Tensor:
            """The product of the transposed differences with a vector."""
            return weights - pad(self.ratio * weights[:, 1:], (0, 1))

        gradient = back(d.sign() * size**p)
        if self.linear:
            gradient = gradient - pad(torch.ones_like(x[:, :1]), (self.dim - 1, 0))
        value = (size ** (p + 1)).sum(-1) / (p + 1)

        def hessian() -> Tensor:
            bent = p * power(size, p - 1)
            after = pad(self.ratio**2 * bent[:, 1:], (0, 1))
            return banded(bent + after, -self.ratio * bent[:, 1:])

        return Bend(
            value=value - x[:, -1] if self.linear else value,
            gradient=gradient,
            hessian=lambda: nothing(x) if zero else hessian(),
            product=lambda v: (
                torch.zeros_like(v) if zero else back(p * power(size, p - 1) * self._differences(v))
            ),
        )
