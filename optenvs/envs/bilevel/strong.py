"""The toy whose lower level is strongly convex, under affine equalities at both levels (LV-HBA; LLSC).

    F = sin(c'x + d'y) + log(|x + y|^2 + 1),   f = |x - y|^2 / 2,   A y + H x = 0,   X = {x : E x = 0}

with all entries uniform in [0, 1). y*(x) is the projection of x onto {y : A y = -H x}, linear in x: y* = Y
x. With N a basis of X, M = (I + Y) N, q = N'(c + Y'd) and kappa = q'(M'M)^{-1} q the optimum is
one-dimensional: Phi* = min over s of sin s + log(1 + s^2 / kappa), at an s in [-pi/2, 0]: below, the sine
is no smaller and the logarithm larger. Phi has other local minima.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import bound_of, check_bound, check_choice, check_data, check_rows, check_whole, given
from optenvs.core.linear import times
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import struct

from .base import Bilevel
from .geometry import Affine, affine
from .parts import Draw, Own, Sizes, Smoothness, Solution

STARTS = ("normal", "tens")
_GRID, _SECTIONS = 2048, 60


@struct
class Directions:
    """The directions c and d of the sine, ``(B, n)`` each."""

    c: Float[Tensor, "B n"]
    d: Float[Tensor, "B n"]


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelStrong(Bilevel):
    """A strongly convex lower level under affine equalities, whose optimum is known.

    Args:
        dim: n = m.
        equations: p, the rows of A and H, below n.
        upper_equations: the rows of E, below n.
        start: ``normal``: x and y of standard normal numbers times ``start_std``, projected onto C;
            ``tens``: the script's, x the projection of 10 onto X, y that of 10 onto what is feasible there.
        start_std: of the normal start.
        data: the instance given: ``{"A": (p, n), "H": (p, n), "E": (e, n), "c": (n,), "d": (n,)}``; the rows
            of A, and those of E, are independent: else A y = -H x has no solution for some x.
        bound: r of the multipliers' box [-r, r]; ``None`` for none.
        tolerance, budget, reward, device, dtype: see :class:`~optenvs.envs.bilevel.base.Bilevel`.
    """

    dim: int = 100
    equations: int = 90
    upper_equations: int = 45
    start: str = "normal"
    start_std: float = 1.0
    data: Mapping[str, Any] | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        n, p, e = self.dim, self.equations, self.upper_equations
        check_whole("dim", n, 2)
        check_whole("equations", p)
        check_whole("upper_equations", e)
        for field, rows in (("equations", p), ("upper_equations", e)):
            if rows >= n:
                raise ValueError(f"{field}: expected fewer than dim, {n}, got {rows}")
        check_choice("start", self.start, STARTS)
        check_data(self.data, {"A": (p, n), "H": (p, n), "E": (e, n), "c": (n,), "d": (n,)})
        if self.data is not None:
            for name in ("A", "E"):
                check_rows(name, self.data[name])
        check_bound(self.bound)
        if not 0 < self.start_std < float("inf"):
            raise ValueError(f"start_std: expected a number > 0, got {self.start_std!r}")
        if self.start_std != 1 and self.start != "normal":
            raise ValueError("start_std: only a normal start has one; expected 1 with another start")
        super().__post_init__()

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.dim, self.dim, self.equations)

    @property
    def unique(self) -> bool:
        return True

    def draw(self, keys: Keys) -> Draw:
        n, dtype = self.dim, self.torch_dtype
        A, H, E, c, d = (self._drawn(keys, name) for name in ("A", "H", "E", "c", "d"))
        right = torch.zeros_like(A[:, :, 0])
        geometry = affine(
            H.to(dtype), A.to(dtype), right.to(dtype), E.to(dtype), bound_of(self.bound, c).to(dtype)
        )
        best = _least(A, H, E, c, d).to(dtype)
        # Frobenius' norm: 1.15 times the largest singular value of a large matrix of such entries
        norm = (H.square().sum((-2, -1)) + A.square().sum((-2, -1))).sqrt().to(dtype)
        c, d = c.to(dtype), d.to(dtype)
        ones = torch.ones_like(best)
        smoothness = Smoothness(
            upper=c.square().sum(-1) + d.square().sum(-1) + 4, lower=2 * ones, convexity=ones, jacobian=norm
        )
        if self.start == "normal":
            x = self.start_std * normal(keys, "x", n, dtype=dtype)
            x, y = geometry.joint(x, self.start_std * normal(keys, "y", n, dtype=dtype))
        else:
            x = geometry.upper(torch.full_like(c, 10.0))
            y = geometry.feasible(x, torch.full_like(c, 10.0))
        data = Directions(c=c, d=d)
        return Draw(data=data, geometry=geometry, smoothness=smoothness, x=x, y=y, best=best)

    def _drawn(self, keys: Keys, name: str) -> Tensor:
        """In float64, in which the optimum is found whatever the dtype."""
        if self.data is not None:
            return given(self.data, name, keys, torch.float64)
        n = self.dim
        shapes = {"A": (self.equations, n), "H": (self.equations, n), "E": (self.upper_equations, n)}
        shape = shapes.get(name, (n,))
        return uniform(keys, name, shape, dtype=torch.float64)

    # F, f, g with their slopes -----------------------------------------------------------------

    def upper(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        along = (own.data.c * x + own.data.d * y).sum(-1)
        return along.sin() + (x + y).square().sum(-1).log1p()

    def upper_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        c, d, both = own.data.c, own.data.d, x + y
        along, size = (c * x + d * y).sum(-1, True), both.square().sum(-1, True)
        slope, common = along.cos(), 2 * both / (1 + size)
        value = (along.sin() + size.log1p()).squeeze(-1)
        return value, torch.cat((slope * c + common, slope * d + common), -1)

    def lower(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return (x - y).square().sum(-1) / 2

    def lower_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        away = x - y
        return away.square().sum(-1) / 2, torch.cat((away, -away), -1)

    def constrain(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B p"]:
        return own.known.value(x, y)

    def pull(self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor) -> tuple[Tensor, Tensor]:
        known: Affine = own.known
        pulled = torch.cat((times(known.by_x.mT, multipliers), times(known.by_y.mT, multipliers)), -1)
        return known.value(x, y), pulled

    def second(
        self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor | None, vector: Tensor
    ) -> Float[Tensor, "B nm"]:
        return torch.cat((-vector, vector), -1)

    # The lower solutions -----------------------------------------------------------------------

    def solve(self, own: Own, x: Tensor) -> Solution:
        y = own.known.feasible(x, x)
        return Solution(y, times(own.known.inverse.mT, x - y))


def _least(
    A: Float[Tensor, "B p n"], H: Float[Tensor, "B p n"], E: Float[Tensor, "B e n"], c: Tensor, d: Tensor
) -> Float[Tensor, "B"]:
    """Phi*."""
    n = A.shape[-1]
    inverse = torch.linalg.pinv(A)
    unit = torch.eye(n, dtype=A.dtype, device=A.device)
    solved = unit - inverse @ A - inverse @ H  # Y
    whole, _ = torch.linalg.qr(E.mT, mode="complete")
    basis = whole[:, :, E.shape[1] :]
    moved = basis + solved @ basis
    q = times(basis.mT, c + times(solved.mT, d))
    _, triangle = torch.linalg.qr(moved)  # M'M = R'R
    kappa = torch.linalg.solve_triangular(triangle.mT, q.unsqueeze(-1), upper=False).square().sum((-2, -1))

    def value(s: Tensor) -> Tensor:
        return s.sin() + (s.square() / kappa.unsqueeze(-1)).log1p()

    grid = torch.linspace(-math.pi / 2, 0, _GRID, dtype=A.dtype, device=A.device).expand(len(A), _GRID)
    middle = grid.gather(1, value(grid).argmin(-1, keepdim=True))
    reach = math.pi / 2 / (_GRID - 1)
    for _ in range(_SECTIONS):  # three points about the best, ever closer
        nearby = torch.cat((middle - reach, middle, middle + reach), -1)
        middle = nearby.gather(1, value(nearby).argmin(-1, keepdim=True))
        reach *= 0.6
    return value(middle).squeeze(-1)
