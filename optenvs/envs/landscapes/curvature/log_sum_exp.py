"""The smoothed maximum of linear functions, centred so that its minimiser is known.

Semenov, Jaggi, Doikov 2025 (see :mod:`.base`), with the smoothing mu and pi = softmax((A x - b) / mu)::

    f(x) = mu log sum_i exp((a_i' x - b_i) / mu)
    gradient                = A' pi
    Hessian (exact)         = (A' diag(pi) A - gradient gradient') / mu
    weighted_gauss_newton   = A' diag(pi) A / mu

A, b are drawn; then the gradient at 0 is taken from every a_i, so that the minimiser is 0 and the minimum is
f(0). B = A' A is of the rows before that. In its norm f is quasi-self-concordant with the constant 2 / mu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core.linear import times
from optenvs.core.random import Keys
from optenvs.envs.landscapes.parts import Draw

from .base import Bend, dot, gram, nothing
from .rows import OfRows, Rows


@dataclass(frozen=True, eq=False, kw_only=True)
class LogSumExp(OfRows):
    """mu log of the sum of exp((a_i' x - b_i) / mu). Optimum 0; the minimum is an instance's own.

    Episodes begin at (1, ..., 1). The paper has n = m = 1000 and mu = 1.

    Args:
        mu: the smoothing, > 0.
        centred: whether the gradient at 0 is taken from the rows; without it no minimum is known, and where 0
            is not among the convex combinations of the rows there is none.
        dim, rows, data, metric: see :class:`optenvs.envs.landscapes.curvature.rows.OfRows`. The authors'
            draws, ``A = rand(n, m) * 2 - 1`` and then ``b = rand(m) * 2 - 1``, are ``data=(A.T, b)``.
        hessian: ``exact``, ``weighted_gauss_newton`` or ``zero``; and the others of
            :class:`optenvs.envs.landscapes.curvature.base.Curved`.
    """

    mu: float = 1.0
    centred: bool = True

    approximations = ("exact", "weighted_gauss_newton", "zero")

    def __post_init__(self) -> None:
        if not 0 < self.mu < float("inf"):
            raise ValueError(f"mu: expected a number > 0, got {self.mu!r}")
        super().__post_init__()

    @property
    def bounded_below(self) -> bool:
        return self.centred

    def prepare(self, drawn: Rows) -> Rows:
        a = drawn.a
        if self.centred:
            a = a - torch.softmax(-drawn.b / self.mu, -1).unsqueeze(-2) @ a
        return Rows(a=a.to(self.torch_dtype), b=drawn.b.to(self.torch_dtype))

    def draw(self, keys: Keys) -> Draw:
        drawn = self.drawn(keys)
        start = torch.ones(len(keys), self.dim, dtype=self.torch_dtype, device=keys.device)
        lowest = self.mu * torch.logsumexp(-drawn.b / self.mu, -1)
        return Draw(
            start=start,
            optimum=torch.zeros_like(start) if self.centred else None,
            lowest=lowest.to(start.dtype).expand(len(keys)) if self.centred else None,
            coefficients=self.own(drawn),
            metric=self.norm(keys, drawn.a),
        )

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        told: Rows = self.told(coefficients)
        return self.mu * torch.logsumexp((times(told.a, x) - told.b) / self.mu, -1)

    def bend(self, x: Tensor, coefficients: Any) -> Bend:
        told: Rows = self.told(coefficients)
        a = told.a
        scaled = (times(a, x) - told.b) / self.mu
        weight = torch.softmax(scaled, -1)
        gradient = times(a.mT, weight)

        def hessian() -> Tensor:
            if self.hessian == "zero":
                return nothing(x)
            # of rows less their mean: nothing is subtracted that the sum would cancel
            centred = a - gradient.unsqueeze(-2) if self.hessian == "exact" else a
            return gram(centred, weight / self.mu)

        def product(vector: Tensor) -> Tensor:
            if self.hessian == "zero":
                return torch.zeros_like(vector)
            whole = times(a.mT, weight * times(a, vector))
            exact = self.hessian == "exact"
            return (whole - gradient * dot(gradient, vector) if exact else whole) / self.mu

        return Bend(self.mu * torch.logsumexp(scaled, -1), gradient, hessian, product)
