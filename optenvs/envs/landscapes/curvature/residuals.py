"""Powers of residuals: of a linear operator, of Rosenbrock's valley, of a chain of Chebyshev polynomials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from optenvs.core.linear import times
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import struct
from optenvs.envs.landscapes.parts import Draw

from .powers import RESIDUALS, PowerOfNorm
from .rows import OfRows, Rows


@struct
class Operator(Rows):
    """A, b, and A'A, ``(B, n, n)`` or ``(n, n)``."""

    square: Float[Tensor, "... n n"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PowerResidual(OfRows, PowerOfNorm):
    """|A x - b|^p / p. Minimum 0 where the equations have a solution, as they do with m <= n.

    Episodes begin at (1, ..., 1). The paper has m = 100, n = 200 and p = 4. With m > n the minimum and its
    place are those of least squares.

    Args:
        power: p >= 2.
        dim, rows, data, metric: see :class:`optenvs.envs.landscapes.curvature.rows.OfRows`; m = 10 and n = 20
            by default.
        hessian: ``exact``, ``weighted_gauss_newton``, ``fisher_term`` or ``zero``, see
            :mod:`optenvs.envs.landscapes.curvature.powers`. (``inexact`` would be exact.)
    """

    approximations = tuple(kind for kind in RESIDUALS if kind != "inexact")
    default_dim, default_rows = 20, 10
    ridge = 1e-8

    def prepare(self, drawn: Rows) -> Operator:
        a, b = drawn.a.to(self.torch_dtype), drawn.b.to(self.torch_dtype)
        return Operator(a=a, b=b, square=a.mT @ a)

    def draw(self, keys: Keys) -> Draw:
        drawn = self.drawn(keys)
        start = torch.ones(len(keys), self.dim, dtype=self.torch_dtype, device=keys.device)
        optimum, lowest = None, torch.zeros_like(start[:, 0])
        if self.rows >= self.dim:  # the columns of Q are a basis of the range of A
            q, r = torch.linalg.qr(drawn.a)
            along = (drawn.b.unsqueeze(-2) @ q).mT
            optimum = torch.linalg.solve_triangular(r, along, upper=True).squeeze(-1)
            rest = drawn.b - (q @ along).squeeze(-1)
            left = torch.linalg.vector_norm(rest, dim=-1) ** self.power / self.power
            optimum = optimum.to(start.dtype).expand_as(start)
            lowest = left.to(start.dtype).expand_as(lowest) if self.rows > self.dim else lowest
        return Draw(
            start=start,
            optimum=optimum,
            lowest=lowest,
            coefficients=self.own(drawn),
            metric=self.norm(keys, drawn.a),
        )

    def residual(self, x: Tensor, coefficients: Any) -> Tensor:
        told: Operator = self.told(coefficients)
        return times(told.a, x) - told.b

    def pull(self, x: Tensor, coefficients: Any, cotangent: Tensor) -> Tensor:
        return times(self.told(coefficients).a.mT, cotangent)

    def push(self, x: Tensor, coefficients: Any, vector: Tensor) -> Tensor:
        return times(self.told(coefficients).a, vector)

    def gram(self, x: Tensor, coefficients: Any) -> Tensor:
        return self.told(coefficients).square


@dataclass(frozen=True, eq=False, kw_only=True)
class NonlinearRosenbrock(PowerOfNorm):
    """|u|^p / p of the residuals 1 - x_i and 10 (x_{i+1} - x_i^2), i < n. Optimum (1, ..., 1), minimum 0.

    The non-linear equations of Semenov, Jaggi, Doikov 2025, who have n = 2. Episodes begin at
    (-2, 2, -2, ...).

    Args:
        power: p >= 2; with 2 it is half of :class:`optenvs.envs.landscapes.classic.Rosenbrock`.
        hessian: ``exact``, ``inexact``, ``weighted_gauss_newton``, ``fisher_term`` or ``zero``, see
            :mod:`optenvs.envs.landscapes.curvature.powers`.
    """

    dim: int = 2
    power: float = 5.0

    domain = (-2.048, 2.048)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 2:
            raise ValueError(f"dim: expected a whole number >= 2, got {self.dim!r}")

    def draw(self, keys: Keys) -> Draw:
        start = torch.full((len(keys), self.dim), -2.0, dtype=self.torch_dtype, device=keys.device)
        turns = (-1.0) ** torch.arange(self.dim, dtype=start.dtype, device=start.device)
        return Draw(start=start * turns, optimum=torch.ones_like(start), lowest=torch.zeros_like(start[:, 0]))

    def residual(self, x: Tensor, coefficients: Any) -> Tensor:
        head, tail = x[:, :-1], x[:, 1:]
        return torch.cat((1 - head, 10 * (tail - head * head)), -1)

    def pull(self, x: Tensor, coefficients: Any, cotangent: Tensor) -> Tensor:
        flat, bent = cotangent.chunk(2, -1)
        return pad(-flat - 20 * x[:, :-1] * bent, (0, 1)) + pad(10 * bent, (1, 0))

    def push(self, x: Tensor, coefficients: Any, vector: Tensor) -> Tensor:
        head, tail = vector[:, :-1], vector[:, 1:]
        return torch.cat((-head, 10 * (tail - 2 * x[:, :-1] * head)), -1)

    def gram(self, x: Tensor, coefficients: Any) -> Tensor:
        head = x[:, :-1]
        diagonal = pad(1 + 400 * head * head, (0, 1)) + pad(torch.full_like(head, 100.0), (1, 0))
        return banded(diagonal, -200 * head)

    def second(self, x: Tensor, coefficients: Any, u: Tensor, vector: Tensor) -> Tensor:
        return pad(-20 * u.chunk(2, -1)[1], (0, 1)) * vector

    def seconds(self, x: Tensor, coefficients: Any, u: Tensor) -> Tensor:
        return torch.diag_embed(pad(-20 * u.chunk(2, -1)[1], (0, 1)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Chebyshev(PowerOfNorm):
    """|u|^p / p of u_1 = (1 - x_1) / 2 and u_i = x_i - (2 x_{i-1}^2 - 1). Optimum (1, ..., 1), minimum 0.

    The chain of Chebyshev polynomials of Semenov, Jaggi, Doikov 2025, who have n = 1000 and p = 4. An error
    grows four-fold from one coordinate to the next, so that tiny values are reached far from the optimum: the
    gap is the measure here, not the distance. Episodes begin uniformly on [0, 1). For large n ask for
    Hessian-vector products, which cost what a gradient costs; J'J is tridiagonal.

    Args:
        power: p >= 2.
        hessian: ``exact``, ``inexact``, ``weighted_gauss_newton``, ``fisher_term`` or ``zero``, see
            :mod:`optenvs.envs.landscapes.curvature.powers`.
    """

    dim: int = 10
    power: float = 4.0

    domain = (-1.0, 1.0)

    def draw(self, keys: Keys) -> Draw:
        start = uniform(keys, "start", self.dim, dtype=self.torch_dtype)
        return Draw(start=start, optimum=torch.ones_like(start), lowest=torch.zeros_like(start[:, 0]))

    def residual(self, x: Tensor, coefficients: Any) -> Tensor:
        head = x[:, :-1]
        return torch.cat(((1 - x[:, :1]) / 2, x[:, 1:] - (2 * head * head - 1)), -1)

    def pull(self, x: Tensor, coefficients: Any, cotangent: Tensor) -> Tensor:
        first, rest = cotangent[:, :1], cotangent[:, 1:]
        return torch.cat((-first / 2, rest), -1) - pad(4 * x[:, :-1] * rest, (0, 1))

    def push(self, x: Tensor, coefficients: Any, vector: Tensor) -> Tensor:
        return torch.cat((-vector[:, :1] / 2, vector[:, 1:] - 4 * x[:, :-1] * vector[:, :-1]), -1)

    def gram(self, x: Tensor, coefficients: Any) -> Tensor:
        head = x[:, :-1]
        own = torch.cat((torch.full_like(x[:, :1], 0.25), torch.ones_like(head)), -1)
        return banded(own + pad(16 * head * head, (0, 1)), -4 * head)

    def second(self, x: Tensor, coefficients: Any, u: Tensor, vector: Tensor) -> Tensor:
        return pad(-4 * u[:, 1:], (0, 1)) * vector

    def seconds(self, x: Tensor, coefficients: Any, u: Tensor) -> Tensor:
        return torch.diag_embed(pad(-4 * u[:, 1:], (0, 1)))


def banded(diagonal: Float[Tensor, "B n"], beside: Float[Tensor, "B n-1"]) -> Float[Tensor, "B n n"]:
    """The symmetric tridiagonal matrix."""
    side = torch.diag_embed(beside, 1)
    return torch.diag_embed(diagonal) + side + side.mT
