"""The toy whose lower level is merely convex: its solutions fill a hyperplane (LV-HBA, section 4; LLC).

    F = |x - y2|^2 / 2 + |y1 - 1|^2 / 2,   f = |y1|^2 / 2 - x'y1 + 1'y2,   g = 1'x + 1'y1 + 1'y2 = 0

x in R^n, y = (y1, y2) in R^2n. S(x) = {y1 = x + 1, 1'y2 = -2 1'x - n}, its multiplier is -1, and at the
best of S(x) Phi(x) = (3 1'x + n)^2 / (2n) + |x|^2 / 2, so that x* = -0.3, y1* = 0.7, y2* = -0.4, F* = 0.05
n. The part of x that has mean 0 is felt through F alone, which is why a start of equal coordinates hides
most of the problem.

``objective="bilinear"`` is that of BiC-GAFFA's script, F = (x - 1)'(y1 - 2) + |y2 + 3|^2 with the solution
(1, 2, -3); ``coupling="cubes"`` replaces 1'x in g by the sum of the cubes of x, whose C is not convex, so
that there is no projection onto it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import bound_of, check_bound, check_choice, check_data, check_whole, given
from optenvs.core.random import Keys, normal

from .base import Bilevel
from .geometry import Balance, Cubes
from .parts import Draw, Own, Sizes, Smoothness, Solution

OBJECTIVES = ("matching", "bilinear")
COUPLINGS = ("sum", "cubes")
STARTS = ("normal", "sequential", "zero")


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelToy(Bilevel):
    """A lower level with many solutions under one equality; the optimum is known in closed form.

    Args:
        dim: n; y has 2n coordinates.
        objective: F: ``matching``, or ``bilinear``.
        coupling: what of x is in the equality: ``sum``, or ``cubes``.
        start: ``normal``: x and y of standard normal numbers times ``start_std``, projected onto C (with
            cubes y alone, onto what is feasible at x); ``sequential``: that of the published script, 10
            everywhere, then x projected onto C at this y, and y at that x, which gives x = -20 and y = 10;
            ``zero``.
        start_std: of the normal start.
        data: the start given: ``{"x": (n,), "y": (2n,)}``, projected as a normal one.
        bound: r of the multipliers' box [-r, r]; ``None`` for none.
        tolerance, budget, reward, device, dtype: see :class:`~optenvs.envs.bilevel.base.Bilevel`.
    """

    dim: int = 100
    objective: str = "matching"
    coupling: str = "sum"
    start: str = "normal"
    start_std: float = 1.0
    data: Mapping[str, Any] | None = None
    bound: float | None = 10.0

    closed = True

    def __post_init__(self) -> None:
        check_whole("dim", self.dim)
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("coupling", self.coupling, COUPLINGS)
        check_choice("start", self.start, STARTS)
        check_data(self.data, {"x": (self.dim,), "y": (2 * self.dim,)})
        check_bound(self.bound)
        if not 0 < self.start_std < float("inf"):
            raise ValueError(f"start_std: expected a number > 0, got {self.start_std!r}")
        if self.start_std != 1 and (self.start != "normal" or self.data is not None):
            raise ValueError("start_std: only a normal start has one; expected 1 with another start or data")
        if self.data is not None and self.start != "normal":
            raise ValueError(f"start: data give the start, got {self.start!r} beside them")
        if self.coupling == "cubes" and self.start == "sequential":
            raise ValueError("start: sequential: expected coupling='sum' with it")
        super().__post_init__()

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.dim, 2 * self.dim, 1)

    @property
    def unique(self) -> bool:
        return False

    @property
    def optimum_known(self) -> bool:
        return (self.objective, self.coupling) != ("matching", "cubes")

    def draw(self, keys: Keys) -> Draw:
        n, dtype = self.dim, self.torch_dtype
        x, y = self._begin(keys)
        ones = torch.ones_like(x[:, 0])
        kind = Balance if self.coupling == "sum" else Cubes
        geometry = kind(equal=torch.ones_like(x[:, :1], dtype=torch.bool), bound=bound_of(self.bound, x))
        if isinstance(geometry, Balance):
            x, y = geometry.joint(x, y)
        else:
            y = geometry.feasible(x, y)
        best = 0.05 * n if self.objective == "matching" else 0.0
        smoothness = Smoothness(
            upper=2 * ones,
            lower=(1 + 5**0.5) / 2 * ones,
            convexity=0 * ones,
            jacobian=torch.linalg.vector_norm(geometry.jacobian(x, y), dim=(1, 2)).to(dtype),
        )
        known = best * ones if self.optimum_known else None
        return Draw(data=None, geometry=geometry, smoothness=smoothness, x=x, y=y, best=known)

    def _begin(self, keys: Keys) -> tuple[Tensor, Tensor]:
        n, dtype = self.dim, self.torch_dtype
        if self.data is not None:
            return given(self.data, "x", keys, dtype), given(self.data, "y", keys, dtype)
        if self.start == "normal":
            x = self.start_std * normal(keys, "x", n, dtype=dtype)
            return x, self.start_std * normal(keys, "y", 2 * n, dtype=dtype)
        zero = torch.zeros(len(keys), 3 * n, dtype=dtype, device=keys.device)
        if self.start == "zero":
            return zero[:, :n], zero[:, n:]
        return zero[:, :n] - 20, zero[:, n:] + 10

    # F, f, g with their slopes -----------------------------------------------------------------

    def upper(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        y1, y2 = y.split(self.dim, -1)
        if self.objective == "bilinear":
            return ((x - 1) * (y1 - 2)).sum(-1) + (y2 + 3).square().sum(-1)
        return ((x - y2).square().sum(-1) + (y1 - 1).square().sum(-1)) / 2

    def upper_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y1, y2 = y.split(self.dim, -1)
        if self.objective == "bilinear":
            a, b, c = x - 1, y1 - 2, y2 + 3
            return (a * b).sum(-1) + (c * c).sum(-1), torch.cat((b, a, 2 * c), -1)
        away, off = x - y2, y1 - 1
        value = ((away * away).sum(-1) + (off * off).sum(-1)) / 2
        return value, torch.cat((away, off, -away), -1)

    def lower(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        y1, y2 = y.split(self.dim, -1)
        return (torch.sub(y1, x, alpha=2) * y1).sum(-1) / 2 + y2.sum(-1)

    def lower_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.lower(own, x, y), self.lower_gradient(own, x, y)

    def lower_gradient(self, own: Own, x: Tensor, y: Tensor) -> Tensor:
        y1, y2 = y.split(self.dim, -1)
        return torch.cat((-y1, y1 - x, torch.ones_like(y2)), -1)

    def constrain(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B 1"]:
        return (x**3 if self.coupling == "cubes" else x).sum(-1, True) + y.sum(-1, True)

    def pull(self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        if self.coupling == "sum":
            return self.constrain(own, x, y), multipliers.expand(-1, 3 * self.dim).clone()
        by_x = 3 * x**2 * multipliers
        return self.constrain(own, x, y), torch.cat((by_x, multipliers.expand_as(y)), -1)

    def second(
        self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor | None, vector: Tensor
    ) -> Float[Tensor, "B nm"]:
        first, rest = vector.split(self.dim, -1)
        return torch.cat((-first, first, torch.zeros_like(rest)), -1)

    # The lower solutions -----------------------------------------------------------------------

    def solve(self, own: Own, x: Tensor) -> Solution:
        """The best of S(x): y2 is moved by one number from where F alone wants it."""
        wanted = x if self.objective == "matching" else torch.full_like(x, -3.0)
        y2 = wanted + (self._rest(x) - wanted.sum(-1, True)) / self.dim
        return Solution(torch.cat((x + 1, y2), -1), -torch.ones_like(x[:, :1]))

    def values(
        self, own: Own, x: Tensor, solution: Solution
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """In sums over x alone: F at the best of S(x), and f, which is n/2 - |x|^2/2 + 1'y2."""
        n, rest, size = self.dim, self._rest(x).squeeze(-1), (x * x).sum(-1)
        if self.objective == "bilinear":  # y2 is -3 moved by one number
            value = (x - 1).square().sum(-1) + (rest + 3 * n).square() / n
        else:  # y2 is x moved by one number
            value = ((rest - x.sum(-1)).square() / n + size) / 2
        return value, (n - size) / 2 + rest

    def _rest(self, x: Tensor) -> Float[Tensor, "B 1"]:
        """1'y2 in S(x)."""
        coupled = x**3 + x if self.coupling == "cubes" else 2 * x.sum(-1, True)
        return -(coupled.sum(-1, True) + self.dim)

    def distance(self, own: Own, x: Tensor, y: Tensor, solution: Solution) -> Float[Tensor, "B"]:
        y1, y2 = y.split(self.dim, -1)
        off = (y2.sum(-1, True) - self._rest(x)) / self.dim**0.5
        first = torch.linalg.vector_norm(y1 - x - 1, dim=-1, keepdim=True)
        return torch.linalg.vector_norm(torch.cat((first, off), -1), dim=-1)

    def measure(
        self, own: Own, best: Any, x: Tensor, y: Tensor, F: Tensor, f: Tensor, solution: Any = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """In sums: of the lower solution only the multiplier is taken."""
        return super().measure(own, best, x, y, F, f, Solution(x[:, :0], -torch.ones_like(x[:, :1])))
