"""SCOBO: sparsity-aware one-bit descent by comparisons (Cai, McKenzie, Yin, Zhang 2022, ACHA 60).

    y_i <- sign(f(x + r z_i) - f(x)),   z_i uniform on the sphere, i = 1 .. m - 1
    g   <- argmax <sum of y_i z_i, v>  over |v|_2 <= 1, |v|_1 <= sqrt(s)
    x   <- x - alpha g,   alpha <- max(0.95 alpha, 1e-4)

The directions z_i are drawn once and used in every iteration, as in the authors' code; x then never leaves
the plane that they span, so that they must be as many as the coordinates that matter: a query of m points
gives m - 1 of them, and ``rounds`` queries as many times more. ``redraw`` draws new ones in each iteration.

The maximiser is b = sum of y_i z_i with its entries shrunk towards 0 by a lambda that makes the l1 norm of
the unit vector sqrt(s); b itself where that is less already. The search along g is that of
:mod:`agents.ranking._descent` and not the authors' (which doubles alpha while most of 40 repeated comparisons
prefer the longer step); it is off by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import normal

from ..core import by_row, require
from ._descent import Estimate, RankingDescent, Scale, unit, whole
from .zo_sign import signs

_STEPS = 50


def sparse_unit(vector: Float[Tensor, "B d"], sparsity: int) -> Float[Tensor, "B d"]:
    """The unit vector with l1 norm at most sqrt(``sparsity``) nearest in direction to ``vector``."""
    size = vector.abs()
    limit = sparsity**0.5

    def shrunk(threshold: Tensor) -> Tensor:
        return unit(vector.sign() * (size - threshold).clamp_min(0))

    high = size.amax(-1, keepdim=True)
    low = torch.zeros_like(high)
    fits = shrunk(low).abs().sum(-1, keepdim=True) <= limit
    for _ in range(_STEPS):
        middle = (low + high) / 2
        wide_ = shrunk(middle).abs().sum(-1, keepdim=True) > limit
        low, high = torch.where(wide_, middle, low), torch.where(wide_, high, middle)
    # the lower end: at the upper one nothing may be left of equal entries
    return shrunk(torch.where(fits, 0.0, low))


@dataclass(frozen=True, eq=False, kw_only=True)
class SCOBO(RankingDescent):
    """SCOBO.

    Args:
        sparsity: s, or ``None`` for the dimension: the plain one-bit estimate.
        redraw: draw new directions in every iteration.
        lr: the first alpha.
        lr_decay, lr_floor: its factor an iteration, and its least value.
        mu: the first r.
        mu_decay: its factor an iteration (0.99 in the authors' code where the rate of wrong comparisons is
            constant).
        shown, ranked, line_search, shrink, rounds: see :class:`agents.ranking._descent.RankingDescent`. One
            of the ``shown`` points is x.
    """

    line_search: int | None = 0
    normalize: bool = True
    sparsity: int | None = None
    redraw: bool = False
    lr_decay: float = 0.95
    lr_floor: float = 1e-4
    mu_decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "normalize", self.normalize, "True: the direction is a unit vector")
        require(self, "lr_floor", self.lr_floor >= 0, "a number >= 0")
        for name in ("lr_decay", "mu_decay"):
            require(self, name, 0 < getattr(self, name) <= 1, "a number in (0, 1]")
        if self.sparsity is not None:
            whole(self, "sparsity", 1)

    def draw(self, query: Estimate) -> Float[Tensor, "B m d"]:
        shape = (query.points - 1, query.to_best.shape[-1])
        counter = query.iteration * self.rounds + query.round if self.redraw else query.round
        z = unit(normal(query.keys, "directions", shape, counter, query.to_best.dtype))
        return torch.cat((torch.zeros_like(query.to_best).unsqueeze(1), z), 1)

    def estimate(self, order: Int64[Tensor, "B k"], offsets: Float[Tensor, "B m d"]) -> Float[Tensor, "B d"]:
        sign = signs(order, offsets.shape[1]).to(offsets.dtype)
        return (sign.unsqueeze(1) @ offsets).squeeze(1)

    def refine(self, direction: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        return unit(direction) if self.sparsity is None else sparse_unit(direction, self.sparsity)

    def step_length(self, count: Int64[Tensor, "B"], like: Tensor) -> Scale:
        return decayed("lr", self.lr, self.lr_decay, count, like).clamp_min(self.lr_floor)

    def distance(self, count: Int64[Tensor, "B"], like: Tensor) -> Scale:
        return decayed("mu", self.mu, self.mu_decay, count, like)


def decayed(
    field: str, value: Any, factor: float, count: Int64[Tensor, "B"], like: Tensor
) -> Float[Tensor, "B 1"]:
    """``value factor^count``."""
    return by_row(field, value, like) * factor ** count.clamp_min(0).unsqueeze(-1).to(like.dtype)
