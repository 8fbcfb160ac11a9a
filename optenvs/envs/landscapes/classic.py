"""The classic test functions, with closed-form gradients (tests hold them against autograd)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from optenvs.core.random import Keys, uniform

from .base import Draw, Landscape


class _FromDomain(Landscape):
    """Instances that begin uniformly in the search domain; the optimum is the same point for all."""

    at: ClassVar[float] = 0.0
    """Every coordinate of the minimiser."""
    minimum: ClassVar[float] = 0.0
    """The minimum, for each coordinate where the function is separable and not 0."""

    def draw(self, keys: Keys) -> Draw:
        dtype, (low, high) = self.torch_dtype, self.domain
        start = uniform(keys, "start", self.dim, dtype=dtype, low=low, high=high)
        return Draw(
            start=start,
            optimum=torch.full_like(start, self.at),
            lowest=torch.full_like(start[:, 0], self.minimum * self.dim),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Rosenbrock(_FromDomain):
    """Rosenbrock's valley in n dimensions (Rosenbrock 1960): sum of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2.

    One query: one point. Optimum (1, ..., 1) with value 0.
    """

    dim: int = 2
    domain = (-2.048, 2.048)
    at = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 2:
            raise ValueError(f"dim: Rosenbrock needs at least 2, got {self.dim}")

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        head, tail = x[:, :-1], x[:, 1:]
        return (100 * (tail - head**2) ** 2 + (1 - head) ** 2).sum(-1)

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        head, tail = x[:, :-1], x[:, 1:]
        bend, rest = tail - head * head, 1 - head
        value = (100 * bend * bend + rest * rest).sum(-1)
        gradient = pad(200 * bend, (1, 0)) - pad(400 * head * bend + 2 * rest, (0, 1))
        return value, gradient


@dataclass(frozen=True, eq=False, kw_only=True)
class Rastrigin(_FromDomain):
    """Rastrigin's function: A n + sum of x_i^2 - A cos(2 pi x_i). Optimum 0 with value 0.

    Args:
        amplitude: A; 10 in the literature, 2.5 in that of consensus-based optimization.
    """

    dim: int = 2
    amplitude: float = 10.0
    domain = (-5.12, 5.12)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.amplitude < float("inf"):
            raise ValueError(f"amplitude: expected a number >= 0, got {self.amplitude!r}")

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return (x * x + self.amplitude * (1 - torch.cos(2 * math.pi * x))).sum(-1)

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        slope = 2 * x + 2 * self.amplitude * math.pi * torch.sin(2 * math.pi * x)
        return self.value(x, None), slope


@dataclass(frozen=True, eq=False, kw_only=True)
class RastriginProduct(Landscape):
    """A product of Rastrigin functions about several points, each a global minimum with value 0.

    The test function of polarized consensus-based optimization (Bungert, Roith, Wacker 2022). One query: one
    point.

    Args:
        minima: the points, of ``dim`` coordinates each.
        amplitude: of each factor, see :class:`Rastrigin`.
    """

    dim: int = 2
    minima: tuple[tuple[float, ...], ...] = ((3.0, 2.0), (0.0, 0.0), (-1.0, -3.5))
    amplitude: float = 2.5
    domain = (-7.0, 7.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.minima or any(len(point) != self.dim for point in self.minima):
            raise ValueError(f"minima: expected points of {self.dim} coordinates, got {self.minima!r}")
        if not 0 <= self.amplitude < float("inf"):
            raise ValueError(f"amplitude: expected a number >= 0, got {self.amplitude!r}")
        _ = self._minima  # made now: a tensor made inside a transform would not outlive it

    def draw(self, keys: Keys) -> Draw:
        low, high = self.domain
        start = uniform(keys, "start", self.dim, dtype=self.torch_dtype, low=low, high=high)
        return Draw(start=start, lowest=torch.zeros_like(start[:, 0]))

    @cached_property
    def _minima(self) -> Tensor:
        return torch.tensor(self.minima, dtype=self.torch_dtype, device=self.torch_device)

    def known_minima(self) -> Tensor:
        return self._minima

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        offset = x.unsqueeze(-2) - self._minima  # (B, minima, n)
        ripple = self.amplitude * (1 - torch.cos(2 * math.pi * offset))
        factors = (offset * offset + ripple).sum(-1)
        return reduce(torch.mul, factors.unbind(-1))  # prod has no second derivative under vmap


@dataclass(frozen=True, eq=False, kw_only=True)
class Ackley(_FromDomain):
    """Ackley's function (Ackley 1987), parameters 20, 0.2, 2 pi. Optimum 0 with value 0."""

    dim: int = 2
    domain = (-32.768, 32.768)

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        radius = (x * x).mean(-1).sqrt()
        ripple = torch.cos(2 * math.pi * x).mean(-1)
        return 20 * (1 - torch.exp(-0.2 * radius)) + math.e - torch.exp(ripple)

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        # the slope is taken as 0 at the optimum itself, where the function has a cusp
        limits = torch.finfo(x.dtype)  # the upper one keeps products of the Hessian finite far out
        radius = (x * x).mean(-1, keepdim=True).clamp(limits.tiny, limits.max).sqrt()
        funnel = 20 * torch.exp(-0.2 * radius)
        hills = torch.exp(torch.cos(2 * math.pi * x).mean(-1, keepdim=True))
        value = (20 - funnel + math.e - hills).squeeze(-1)
        gradient = 0.2 * funnel * x / radius + 2 * math.pi * hills * torch.sin(2 * math.pi * x)
        return value, gradient / self.dim


@dataclass(frozen=True, eq=False, kw_only=True)
class StyblinskiTang(_FromDomain):
    """Styblinski and Tang's function (1990): half the sum of x_i^4 - 16 x_i^2 + 5 x_i.

    Optimum -2.903534 in every coordinate, with value -39.166166 n.
    """

    dim: int = 2
    at = -2.903534027771177
    minimum = -39.16616570377141

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        square = x * x
        return 0.5 * (square * square - 16 * square + 5 * x).sum(-1)

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        return self.value(x, None), 2 * x * x * x - 16 * x + 2.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Beale(Landscape):
    """Beale's function (1958) in two dimensions: the sum over i of (c_i - x (1 - y^i))^2.

    Optimum (3, 0.5) with value 0.
    """

    domain = (-4.5, 4.5)
    fixed_dim = 2

    def draw(self, keys: Keys) -> Draw:
        low, high = self.domain
        start = uniform(keys, "start", 2, dtype=self.torch_dtype, low=low, high=high)
        optimum = torch.tensor([3.0, 0.5], dtype=start.dtype, device=start.device)
        return Draw(start=start, optimum=optimum.expand_as(start), lowest=torch.zeros_like(start[:, 0]))

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return beale(x)[0]

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        return beale(x)


def beale(point: Tensor) -> tuple[Tensor, Tensor]:
    """Beale's function and its gradient at ``(B, 2)``."""
    x, y = point.unbind(-1)
    value, slope_x, slope_y = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    for power, constant in ((1, 1.5), (2, 2.25), (3, 2.625)):
        rest = constant - x + x * y**power
        value = value + rest * rest
        slope_x = slope_x + 2 * rest * (y**power - 1)
        slope_y = slope_y + 2 * rest * x * power * y ** (power - 1)
    return value, torch.stack((slope_x, slope_y), -1)
