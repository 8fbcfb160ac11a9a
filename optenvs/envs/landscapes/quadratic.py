"""Quadratics with a chosen spectrum, and the random least squares of learned optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core.random import Keys, normal, uniform

from .base import Draw, Landscape

_SPECTRA = ("log", "linear", "clusters", "random", "wishart")
_ENTRIES = ("normal", "uniform")


@dataclass(frozen=True, eq=False, kw_only=True)
class Quadratic(Landscape):
    """A convex quadratic, half of z' A z, with largest eigenvalue 1 (smoothness 1) and optimum 0.

    Args:
        spectrum: eigenvalues of A: ``log`` (geometric from 1/condition to 1), ``linear``, ``clusters`` (half
            at each end), ``random`` (log-uniform, with the ends present), or ``wishart`` (A = B B' + 0.1 I
            with standard normal B, whose condition number is what it is).
        condition: the condition number.
        scale: standard deviation of the starting point's coordinates.
    """

    dim: int = 10
    spectrum: str = "log"
    condition: float = 100.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spectrum not in _SPECTRA:
            raise ValueError(f"spectrum: expected one of {', '.join(_SPECTRA)}, got {self.spectrum!r}")
        if self.spectrum == "wishart" and self.condition != 100.0:
            raise ValueError(f"condition: {self.condition!r} would have no effect with spectrum='wishart'")
        if self.start is not None and self.scale != 1.0:
            raise ValueError(f"scale: {self.scale!r} would have no effect beside start=")
        if not 1 <= self.condition < float("inf"):
            raise ValueError(f"condition: expected a number >= 1, got {self.condition!r}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale: expected a number > 0, got {self.scale!r}")

    def draw(self, keys: Keys) -> Draw:
        start = self.scale * normal(keys, "start", self.dim, dtype=self.torch_dtype)
        return Draw(
            start=start,
            optimum=torch.zeros_like(start),
            lowest=torch.zeros_like(start[:, 0]),
            coefficients=self._matrix(keys),
        )

    def _matrix(self, keys: Keys) -> Tensor:
        """Eigenvalues ``(B, n)``, or for ``wishart`` the whole matrix ``(B, n, n)``."""
        n, dtype = self.dim, self.torch_dtype
        if self.spectrum == "wishart":
            root = normal(keys, "matrix", (n, n), dtype=dtype)
            return root @ root.mT + 0.1 * torch.eye(n, dtype=dtype, device=keys.device)
        if self.spectrum == "random":
            unit = uniform(keys, "spectrum", n, dtype=torch.float64)
            unit = torch.cat((torch.zeros_like(unit[:, :1]), unit[:, 1:]), 1)
            if n > 1:
                unit = torch.cat((unit[:, :-1], torch.ones_like(unit[:, :1])), 1)
        else:
            unit = torch.linspace(0, 1, n, dtype=torch.float64, device=keys.device)
            unit = unit.round() if self.spectrum == "clusters" else unit
            unit = unit.expand(len(keys), n)
        if n == 1:
            unit = torch.ones_like(unit)
        if self.spectrum == "linear":
            lowest = 1 / self.condition
            return (lowest + (1 - lowest) * unit).to(dtype)
        return (self.condition ** (unit - 1)).to(dtype)

    def value(self, x: Tensor, coefficients: Tensor) -> Tensor:
        return self.value_and_gradient(x, coefficients)[0]

    def value_and_gradient(self, x: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        if coefficients.ndim == x.ndim:
            gradient = coefficients * x
        else:
            gradient = torch.bmm(coefficients, x.unsqueeze(-1)).squeeze(-1)
        return 0.5 * torch.linalg.vecdot(x, gradient), gradient


@dataclass(frozen=True, eq=False, kw_only=True)
class LeastSquares(Landscape):
    """The random quadratics |W x - y|^2 of Andrychowicz et al. (2016), without a factor of a half.

    Args:
        entries: ``normal`` (the paper), or ``uniform`` on [0, 1) (the authors' code), for W and y.
    """

    dim: int = 10
    entries: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.entries not in _ENTRIES:
            raise ValueError(f"entries: expected one of {', '.join(_ENTRIES)}, got {self.entries!r}")

    def draw(self, keys: Keys) -> Draw:
        entries = normal if self.entries == "normal" else uniform
        matrix = entries(keys, "W", (self.dim, self.dim), dtype=torch.float64)
        target = entries(keys, "y", self.dim, dtype=torch.float64)
        dtype = self.torch_dtype
        start = 0.01 * normal(keys, "start", self.dim, dtype=dtype)
        return Draw(
            start=start,
            optimum=torch.linalg.solve_ex(matrix, target).result.to(dtype),  # _ex looks for no error
            lowest=torch.zeros_like(start[:, 0]),
            coefficients=(matrix.to(dtype), target.to(dtype)),
        )

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return self.value_and_gradient(x, coefficients)[0]

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        matrix, target = coefficients
        rest = torch.bmm(matrix, x.unsqueeze(-1)).squeeze(-1) - target
        return torch.linalg.vecdot(rest, rest), 2 * torch.bmm(rest.unsqueeze(-2), matrix).squeeze(-2)
