"""Powers of the norm of residuals, f = |u(x)|^p / p.

Semenov, Jaggi, Doikov 2025 (see :mod:`.base`), with the Jacobian J of u and s = |u|^(p-2)::

    gradient                = s J'u
    Hessian (exact)         = s (J'J + sum_i u_i Hessian(u_i)) + (p-2) |u|^(p-4) (J'u)(J'u)'
    inexact                 = the same without the second derivatives of u
    weighted_gauss_newton   = s J'J; with p = 2 the matrix of Gauss and Newton (not of the paper)
    fisher_term             = (p-2) |u|^(p-4) (J'u)(J'u)' = F'F, of rank one

All of them are 0 where u is, if p > 2. (The authors' generic class weights the second derivatives by another
factor; this one is the derivative.)
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Bend, Curved, dot, nothing, outer, power

RESIDUALS = ("exact", "inexact", "weighted_gauss_newton", "fisher_term", "zero")


@dataclass(frozen=True, eq=False, kw_only=True)
class PowerOfNorm(Curved):
    """|u(x)|^p / p of residuals u. A subclass says what they are, and how J and their Hessians multiply.

    Args:
        power: p >= 2.
    """

    power: float = 4.0

    approximations = RESIDUALS

    def __post_init__(self) -> None:
        if not 2 <= self.power < math.inf:
            raise ValueError(f"power: expected a number >= 2, got {self.power!r}")
        super().__post_init__()

    @abc.abstractmethod
    def residual(self, x: Float[Tensor, "B n"], coefficients: Any) -> Float[Tensor, "B m"]:
        """The residuals u."""

    @abc.abstractmethod
    def pull(self, x: Tensor, coefficients: Any, cotangent: Float[Tensor, "B m"]) -> Float[Tensor, "B n"]:
        """The product of J' with a vector."""

    @abc.abstractmethod
    def push(self, x: Tensor, coefficients: Any, vector: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
        """The product of J with a vector."""

    @abc.abstractmethod
    def gram(self, x: Tensor, coefficients: Any) -> Float[Tensor, "B n n"]:
        """J'J."""

    def second(self, x: Tensor, coefficients: Any, u: Tensor, vector: Tensor) -> Tensor | None:
        """The product of the sum of u_i times the Hessian of u_i with a vector; ``None`` for u linear."""
        return None

    def seconds(self, x: Tensor, coefficients: Any, u: Tensor) -> Tensor | None:
        """That sum."""
        return None

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return _size(self.residual(x, coefficients)).squeeze(-1) ** self.power / self.power

    def bend(self, x: Tensor, coefficients: Any) -> Bend:
        u, p, kind = self.residual(x, coefficients), self.power, self.hessian
        size = _size(u)
        weight = power(size, p - 2)
        slope = self.pull(x, coefficients, u)
        whole, exact = kind in ("exact", "inexact", "weighted_gauss_newton"), kind == "exact"
        ranked = kind in ("exact", "inexact", "fisher_term")

        def factor() -> Tensor:
            # of the unit residual, so that nothing is divided by |u| where p < 4
            unit = slope / torch.where(size > 0, size, 1.0)
            return math.sqrt(p - 2) * power(size, p / 2 - 1) * unit

        def hessian() -> Tensor:
            if not whole:
                return outer(factor()) if ranked else nothing(x)
            found = weight.unsqueeze(-1) * self._curved(x, coefficients, u, exact)
            along = factor() if ranked else None
            return found if along is None else torch.addcmul(found, along.unsqueeze(-1), along.unsqueeze(-2))

        def product(vector: Tensor) -> Tensor:
            found = torch.zeros_like(vector)
            if whole:
                found = self.pull(x, coefficients, self.push(x, coefficients, vector))
                bent = self.second(x, coefficients, u, vector) if exact else None
                found = weight * (found if bent is None else found + bent)
            if ranked:
                along = factor()
                found = found + along * dot(along, vector)
            return found

        return Bend(
            value=size.squeeze(-1) ** p / p,
            gradient=weight * slope,
            hessian=hessian,
            product=product,
            factor=lambda: factor().unsqueeze(-2),
        )

    def _curved(self, x: Tensor, coefficients: Any, u: Tensor, exact: bool) -> Tensor:
        """J'J, and with ``exact`` the second derivatives."""
        found = self.gram(x, coefficients)
        bent = self.seconds(x, coefficients, u) if exact else None
        return found if bent is None else found + bent


def _size(u: Float[Tensor, "B m"]) -> Float[Tensor, "B 1"]:
    """|u|, with the slope 0 at 0."""
    square = (u * u).sum(-1, keepdim=True)
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
