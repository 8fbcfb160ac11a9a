"""The canyons of consensus-based optimization: a curved valley whose floor is full of barriers.

Riedl, Klock, Geldhauser, Fornasier, "Gradient is All You Need?", 2023 (arXiv 2306.09778), the authors' code
(KonstantinRiedl/CBOGlobalConvergenceAnalysis, v6.0). With ``v`` the height over the valley's centre line,
``b = -x - 1.6 y`` and ``C = (1 - cos(0.75 pi x)) + (1 - cos(0.75 pi y))``:

    variant 3   v = y - (x - 1) (x - 4)^2 / 8 - 2
                E = 25 (1 - exp(-1.4 v^2 exp(-0.002 x^4))) + 0.4 x^2 + 0.2 y^2 + A C + S,
                A = 0.25, noisy 1.1625
    variant 2   v = -y - 0.6 x (x - 4)
                E = 25 (1 - exp(-1.2 v^2)) + 0.75 x^2 + 0.2 y^2 + A C + S,      A = 0, noisy 1.5
    both        S = 4 exp(1 - 2 v^4) max((1 - exp(-9 b^2)) sign(b), 0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.core.random import Keys

from .base import Draw, Landscape


class _Variant(NamedTuple):
    """What differs between the variants: the weight of x^2, the amplitude A of the cosines, the start."""

    bowl: float
    ripple: float
    start: tuple[float, float]


_VARIANTS = {
    "2": _Variant(0.75, 0.0, (5.0, -1.0)),
    "2noisy": _Variant(0.75, 1.5, (5.0, -1.0)),
    "3": _Variant(0.4, 0.25, (8.0, 8.0)),
    "3noisy": _Variant(0.4, 1.1625, (8.0, 8.0)),
}
_FREQUENCY = 0.75 * math.pi


@dataclass(frozen=True, eq=False, kw_only=True)
class GrandCanyon(Landscape):
    """The canyon functions of Riedl et al. (2023) in two dimensions. Optimum 0 with value 0.

    One query: one point. "noisy" means many barriers across the valley; the function itself is exact.

    Args:
        variant: ``2``, ``2noisy``, ``3`` or ``3noisy``. Episodes begin at (8, 8), those of ``2`` at (5, -1).
    """

    variant: str = "3noisy"

    domain = (-10.0, 10.0)
    fixed_dim = 2

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS:
            raise ValueError(f"variant: got {self.variant!r}{suggest(str(self.variant), _VARIANTS)}")
        super().__post_init__()

    def draw(self, keys: Keys) -> Draw:
        start = torch.tensor(_VARIANTS[self.variant].start, dtype=self.torch_dtype, device=keys.device)
        start = start.expand(len(keys), 2)
        return Draw(start=start, optimum=torch.zeros_like(start), lowest=torch.zeros_like(start[:, 0]))

    def _wall(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """v, the exponent of the walls, and the slopes: of v in x, of the exponent in x and in y.

        ``v`` has slope 1 in y for the variants 3, and -1 for the variants 2.
        """
        if self.variant.startswith("2"):
            v, slope = -y - 0.6 * x * (x - 4), 2.4 - 1.2 * x
            return v, slope, 1.2 * v * v, (2.4 * v * slope, -2.4 * v, -torch.ones_like(v))
        v, slope = y - ((x - 1) * (x - 4) ** 2 / 8 + 2), -(x - 4) * (3 * x - 6) / 8
        fade = 1.4 * torch.exp(-0.002 * x**4)
        wall = v * v * fade
        return v, slope, wall, (2 * v * slope * fade - 0.008 * x**3 * wall, 2 * v * fade, torch.ones_like(v))

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        x, y = x.unbind(-1)
        bowl, ripple, _ = _VARIANTS[self.variant]
        v, _, wall, _ = self._wall(x, y)
        b = -x - 1.6 * y
        step = torch.where(b > 0, -torch.expm1(-9 * b * b), 0.0)
        value = -25 * torch.expm1(-wall) + bowl * x * x + 0.2 * y * y
        value = value + 4 * torch.exp(1 - 2 * v**4) * step
        if ripple:
            value = value + ripple * (2 - torch.cos(_FREQUENCY * x) - torch.cos(_FREQUENCY * y))
        return value

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        value = self.value(x, coefficients)
        x, y = x.unbind(-1)
        bowl, ripple, _ = _VARIANTS[self.variant]
        v, v_x, wall, (wall_x, wall_y, v_y) = self._wall(x, y)
        b = -x - 1.6 * y
        inner = torch.exp(-9 * b * b)
        step = torch.where(b > 0, 1 - inner, 0.0)
        step_b = torch.where(b > 0, 18 * b * inner, 0.0)
        ridge = 4 * torch.exp(1 - 2 * v**4)
        ridge_v = -8 * v**3 * ridge * step
        steep = 25 * torch.exp(-wall)
        frequency = ripple * _FREQUENCY
        slope_x = steep * wall_x + 2 * bowl * x + frequency * torch.sin(_FREQUENCY * x)
        slope_y = steep * wall_y + 0.4 * y + frequency * torch.sin(_FREQUENCY * y)
        slope_x = slope_x + ridge_v * v_x - ridge * step_b
        slope_y = slope_y + ridge_v * v_y - 1.6 * ridge * step_b
        return value, torch.stack((slope_x, slope_y), -1)
