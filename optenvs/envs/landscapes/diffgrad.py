"""The three one-dimensional functions of the diffGrad paper (Dubey et al. 2020, eq. 24-26).

The paper's runs begin at -1 and make 300 updates: the default budget pays the first query and 300 more. An
episode never ends as solved, because the paper's runs do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optenvs.core.random import Keys, uniform

from .base import Draw, Landscape

_INSTANCES = ("paper", "random")
_DERIVATIVES = ("correct", "notebook")


@dataclass(frozen=True, eq=False, kw_only=True)
class _OneDimensional(Landscape):
    """What the three share.

    Args:
        instance: ``paper`` (begin at -1), or ``random`` (uniform in [-1, 1]; F1 draws its wells, too).
    """

    dim: int = 1
    budget: Any = 301
    tolerance: float | None = None
    instance: str = "paper"

    domain = (-1.0, 1.0)
    fixed_dim = 1
    minimiser: ClassVar[float]
    minimum: ClassVar[float] = 0.0
    meanings: ClassVar[dict[str, str]] = {
        "global_basin": "1 where the point lies in the basin of the lowest minimum",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.instance not in _INSTANCES:
            raise ValueError(f"instance: expected one of {', '.join(_INSTANCES)}, got {self.instance!r}")

    def draw(self, keys: Keys) -> Draw:
        dtype = self.torch_dtype
        start = torch.full((len(keys), 1), -1.0, dtype=dtype, device=keys.device)
        if self.instance == "random":
            start = uniform(keys, "start", 1, dtype=dtype, low=-1.0, high=1.0)
        return Draw(
            start=start,
            optimum=torch.full_like(start, self.minimiser),
            lowest=torch.full_like(start[:, 0], self.minimum),
        )

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return self.value_and_gradient(x, coefficients)[0]

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        value, slope = self.curve(x[:, 0], coefficients)
        return value, slope.unsqueeze(-1)

    def curve(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        """Value and derivative at ``(B,)``."""
        raise TypeError(f"{self.name} defines no curve")


@dataclass(frozen=True, eq=False, kw_only=True)
class DiffGradF1(_OneDimensional):
    """Two quadratic wells: (x + p)^2 for x <= 0, (x - q)^2 + p^2 - q^2 beyond. The paper: p = 0.3, q = 0.2.

    Global minimum -p (value 0), local minimum q. ``instance="random"`` draws p from [0.2, 0.6] and q from
    [0.1, 0.9 p].
    """

    minimiser = -0.3

    def draw(self, keys: Keys) -> Draw:
        draw = super().draw(keys)
        if self.instance == "paper":
            wells = torch.tensor([0.3, 0.2], dtype=draw.start.dtype, device=keys.device)
            wells = wells.expand(len(keys), 2)
        else:
            left = uniform(keys, "left well", 1, dtype=draw.start.dtype, low=0.2, high=0.6)
            unit = uniform(keys, "right well", 1, dtype=draw.start.dtype)
            wells = torch.cat((left, 0.1 + (0.9 * left - 0.1) * unit), -1)
        return Draw(start=draw.start, optimum=-wells[:, :1], lowest=draw.lowest, coefficients=wells)

    def curve(self, x: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        p, q = coefficients.unbind(-1)
        left = x <= 0
        value = torch.where(left, (x + p) ** 2, (x - q) ** 2 + p * p - q * q)
        return value, 2 * torch.where(left, x + p, x - q)

    def measure(self, x: Tensor) -> dict[str, Tensor]:
        return {"global_basin": (x[:, 0] <= 0).to(x.dtype)}


@dataclass(frozen=True, eq=False, kw_only=True)
class DiffGradF2(_OneDimensional):
    """A steep line, then x^3 + x sin(8 x) + 0.85 for x > -0.9; it jumps by 0.0147 at -0.9.

    Global minimum -0.642919 (1.198e-4); local minima 0 (0.85) and 0.588053 (0.465318).

    Args:
        derivative: ``correct``, or ``notebook``: the authors' code, where a factor 8 is missing.
    """

    derivative: str = "correct"

    minimiser = -0.6429185989152617
    minimum = 0.00011977146994468502

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.derivative not in _DERIVATIVES:
            raise ValueError(
                f"derivative: expected one of {', '.join(_DERIVATIVES)}, got {self.derivative!r}"
            )

    def curve(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        left = x <= -0.9
        sine, cosine = torch.sin(8 * x), torch.cos(8 * x)
        factor = 8.0 if self.derivative == "correct" else 1.0
        value = torch.where(left, -40 * x - 35.15, x**3 + x * sine + 0.85)
        slope = torch.where(left, -40.0, 3 * x * x + sine + factor * x * cosine)
        return value, slope

    def measure(self, x: Tensor) -> dict[str, Tensor]:
        # the basin of the global minimum reaches to the local maximum at -0.24506399
        return {"global_basin": (x[:, 0] <= -0.24506399).to(x.dtype)}


@dataclass(frozen=True, eq=False, kw_only=True)
class DiffGradF3(_OneDimensional):
    """Five pieces: a parabola broken by lines around 0. Global minimum 0; local ones -0.5 and 0.5 (0.25)."""

    minimiser = 0.0

    def curve(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        size, side = x.abs(), torch.where(x > 0, 1.0, -1.0).to(x.dtype)
        # the outer piece is closed on the left side and open on the right one, as is the middle one
        outer = (x <= -0.5) | (x > 0.5)
        inner = (x > -0.4) & (x <= 0.4)
        value = torch.where(outer, x * x, torch.where(inner, 0.875 * size, 0.75 - size))
        slope = torch.where(outer, 2 * x, side * torch.where(inner, 0.875, -1.0).to(x.dtype))
        return value, slope

    def measure(self, x: Tensor) -> dict[str, Tensor]:
        return {"global_basin": (x[:, 0].abs() <= 0.4).to(x.dtype)}
