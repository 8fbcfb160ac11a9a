"""One upper and one lower variable under an inequality that is active at the solution.

    x in [-2, 2],   F = (x - 1)^2 / 2 + y^2 / 2,   f = (y - 2)^2 / 2,   g = y - x <= 0

y*(x) = x with the multiplier 2 - x, so that Phi(x) = (x - 1)^2 / 2 + x^2 / 2 and x* = y* = 1/2, lambda* =
3/2. With r < 3/2 in Z = [0, r] the reformulation of LV-HBA is another problem, whose solution at r = 1 is
near x = y = 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import bound_of, check_bound, check_data, given
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import struct

from .base import Bilevel
from .geometry import Geometry
from .parts import Draw, Own, Sizes, Smoothness, Solution

END = 2.0


@struct
class Wedge(Geometry):
    """X = [-2, 2], and y <= x."""

    @property
    def free(self) -> bool:
        return False

    @property
    def has(self) -> tuple[str, ...]:
        return ("joint", "feasible", "jacobian")

    def jacobian(self, x: Float[Tensor, "B 1"], y: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1 2"]:
        """The constraint's Jacobian by (x, y)."""
        return torch.stack((-torch.ones_like(x), torch.ones_like(y)), -1)

    def upper(self, x: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        return x.clamp(-END, END)

    def joint(
        self, x: Float[Tensor, "B 1"], y: Float[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
        x = torch.maximum(x, (x + y) / 2).clamp(-END, END)
        return x, torch.minimum(x, y)

    def feasible(self, x: Float[Tensor, "B 1"], y: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        return torch.minimum(x, y)


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelInequality(Bilevel):
    """The one-dimensional problem with an active inequality; the optimum is x = y = 1/2.

    Args:
        data: the start given: ``{"x": (1,), "y": (1,)}``, projected onto C; by default uniform in [-2, 2],
            projected.
        bound: r of the multiplier's box [0, r]; ``None`` for none.
        tolerance, budget, reward, device, dtype: see :class:`~optenvs.envs.bilevel.base.Bilevel`.
    """

    data: Mapping[str, Any] | None = None
    bound: float | None = 10.0

    def __post_init__(self) -> None:
        check_data(self.data, {"x": (1,), "y": (1,)})
        check_bound(self.bound)
        super().__post_init__()

    @property
    def sizes(self) -> Sizes:
        return Sizes(1, 1, 1)

    @property
    def unique(self) -> bool:
        return True

    def draw(self, keys: Keys) -> Draw:
        dtype = self.torch_dtype
        if self.data is None:
            x, y = (uniform(keys, name, 1, dtype=dtype, low=-END, high=END) for name in ("x", "y"))
        else:
            x, y = (given(self.data, name, keys, dtype) for name in ("x", "y"))
        ones = torch.ones_like(x[:, 0])
        geometry = Wedge(equal=torch.zeros_like(x, dtype=torch.bool), bound=bound_of(self.bound, x))
        x, y = geometry.joint(x, y)
        smoothness = Smoothness(upper=ones, lower=ones, convexity=ones, jacobian=2**0.5 * ones)
        return Draw(data=None, geometry=geometry, smoothness=smoothness, x=x, y=y, best=0.25 * ones)

    def upper(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return ((x - 1).square() + y.square()).squeeze(-1) / 2

    def upper_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.upper(own, x, y), torch.cat((x - 1, y), -1)

    def lower(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return (y - 2).square().squeeze(-1) / 2

    def lower_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.lower(own, x, y), torch.cat((torch.zeros_like(x), y - 2), -1)

    def constrain(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B 1"]:
        return y - x

    def pull(self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        return y - x, torch.cat((-multipliers, multipliers), -1)

    def solve(self, own: Own, x: Tensor) -> Solution:
        return Solution(x.clamp_max(2.0), (2 - x).clamp_min(0))
