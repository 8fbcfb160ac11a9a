"""Two levels for the tests, without constraints or under one equality, whose optimum biases no method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.linear import times
from optenvs.core.menu import Kind
from optenvs.core.random import Keys, normal
from optenvs.envs.bilevel.base import Bilevel
from optenvs.envs.bilevel.geometry import Geometry, affine
from optenvs.envs.bilevel.inequality import BilevelInequality
from optenvs.envs.bilevel.parts import Draw, Own, Sizes, Smoothness, Solution
from optenvs.envs.bilevel.toy import BilevelToy

H = ((2.0, 0.5), (0.5, 1.0))
INVERSE = ((1 / 1.75, -0.5 / 1.75), (-0.5 / 1.75, 2 / 1.75))  # a solve would look at what it solves
B = ((1.0, -0.5), (0.25, 0.5))
A, C = ((1.0, 1.0),), ((0.5, -1.0),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Short(Bilevel):
    """Two levels with some kinds on the menu: what is never asked is recorded, too, in each step.

    Args:
        kinds: those beside the two values; all by default.
    """

    kinds: tuple[str, ...] = ()

    def menu(self) -> dict[str, Kind]:
        kept = {"upper", "lower", *self.kinds}
        return {name: kind for name, kind in super().menu().items() if not self.kinds or name in kept}


@dataclass(frozen=True, eq=False, kw_only=True)
class OneInequality(Short, BilevelInequality):
    """One upper and one lower variable."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SmallToy(Short, BilevelToy):
    """A merely convex lower level under one equation."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoQuadratics(Short):
    """F = |x - a|^2 / 2 + |y - b|^2 / 2, f = (y - B x)'H (y - B x) / 2, and A y + C x = 0 if wanted.

    With b = y*(a) the gradient of F is 0 at the optimum: regularised and penalised methods end there, too.

    Args:
        equalities: whether there is the constraint.
        away: what is added to b, without constraints.
        noise: of f, drawn anew at each query: its standard deviation as a part of f, and of its slope by y.
    """

    equalities: bool = False
    away: float = 0.0
    noise: float = 0.0

    @property
    def sizes(self) -> Sizes:
        return Sizes(2, 2, int(self.equalities))

    @property
    def unique(self) -> bool:
        return True

    @property
    def stochastic(self) -> bool:
        return self.noise > 0

    def drawn(self, state: State) -> dict[str, Tensor]:
        data = state.hidden.data
        if not self.noise:
            return data
        drawn = self.noise * normal(state.key, "noise", 3, state.k, dtype=self.torch_dtype)
        return data | {"scale": 1 + drawn[:, :1], "shift": drawn[:, 1:]}

    def draw(self, keys: Keys) -> Draw:
        a, x, y = (normal(keys, name, 2, dtype=self.torch_dtype) for name in ("a", "x", "y"))
        one = torch.ones_like(x[:, 0])
        geometry = Geometry(equal=torch.ones_like(x[:, :0], dtype=torch.bool), bound=torch.inf * one)
        if self.equalities:
            by_x, by_y = (self._matrix(M, x) for M in (C, A))
            nothing = by_x[:, :0]
            geometry = affine(by_x, by_y, torch.zeros_like(x[:, :1]), nothing, torch.inf * one)
            y = geometry.feasible(x, y)
        smoothness = Smoothness(upper=one, lower=4 * one, convexity=0.8 * one, jacobian=2 * one)
        b = self._solved(a).y + self.away
        data = {"a": a, "b": b, "scale": torch.ones_like(x[:, :1]), "shift": torch.zeros_like(x)}
        best = 0 * one
        if self.away:
            by_x = self._matrix(B, x)
            unit = torch.eye(2, dtype=x.dtype, device=x.device)
            found = torch.linalg.solve(unit + by_x.mT @ by_x, a + times(by_x.mT, b))
            best = ((found - a).square().sum(-1) + (times(by_x, found) - b).square().sum(-1)) / 2
        return Draw(data=data, geometry=geometry, smoothness=smoothness, x=x, y=y, best=best)

    def upper(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return ((x - own.data["a"]).square().sum(-1) + (y - own.data["b"]).square().sum(-1)) / 2

    def upper_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.upper(own, x, y), torch.cat((x - own.data["a"], y - own.data["b"]), -1)

    def lower(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        off = y - times(self._matrix(B, x), x)
        bent = times(self._matrix(H, x), off) * own.data["scale"] / 2
        return (off * bent).sum(-1) + (own.data["shift"] * y).sum(-1)

    def lower_slope(self, own: Own, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        off = y - times(self._matrix(B, x), x)
        bent = times(self._matrix(H, x), off) * own.data["scale"]
        slope = torch.cat((-times(self._matrix(B, x).mT, bent), bent + own.data["shift"]), -1)
        return (off * bent).sum(-1) / 2 + (own.data["shift"] * y).sum(-1), slope

    def constrain(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B p"]:
        return own.known.value(x, y) if self.equalities else y[:, :0]

    def second(
        self, own: Own, x: Tensor, y: Tensor, multipliers: Tensor | None, vector: Tensor
    ) -> Float[Tensor, "B nm"]:
        bent = times(self._matrix(H, x), vector) * own.data["scale"]
        return torch.cat((-times(self._matrix(B, x).mT, bent), bent), -1)

    def solve(self, own: Own, x: Tensor) -> Solution:
        return self._solved(x)

    def hypergradient(self, own: Own, x: Tensor) -> Float[Tensor, "B n"]:
        unit = torch.eye(2, dtype=x.dtype, device=x.device)
        turned = torch.stack([self._solved(row.expand_as(x)).y for row in unit], -1)  # the Jacobian of y*
        return x - own.data["a"] + times(turned.mT, self._solved(x).y - own.data["b"])

    def _solved(self, x: Tensor) -> Solution:
        y = times(self._matrix(B, x), x)
        if not self.equalities:
            return Solution(y, y[:, :0])
        by_y = self._matrix(A, x)
        turned = self._matrix(INVERSE, x) @ by_y.mT  # H^-1 A'
        multipliers = (times(by_y, y) + times(self._matrix(C, x), x)) / (by_y @ turned).squeeze(-1)
        return Solution(y - times(turned, multipliers), multipliers)

    def _matrix(self, rows: tuple[tuple[float, ...], ...], like: Tensor) -> Float[Tensor, "B p m"]:
        return torch.tensor(rows, dtype=like.dtype, device=like.device).expand(len(like), -1, -1)
