"""Descent by the signs of comparisons with x.

    s_i <- sign(f(x + mu xi_i) - f(x)),   xi_i ~ N(0, I),   i = 1 .. m - 1
    g   <- mean of s_i xi_i,   x <- x - eta g / |g|, or the best along it

All signs are read off one order of x and the other points; of those worse than the k named ones only those
comparisons are known that x takes part in. It is the comparison-based relative of ZO-signSGD in the precursor
notebooks of ZO-RankSGD (Tang, Rybin, Chang 2024), and ignores how the other points compare with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import normal

from ._descent import Estimate, RankingDescent, places


def signs(order: Int64[Tensor, "B k"], points: int) -> Int64[Tensor, "B m"]:
    """For each point 1 where it is known to be worse than the first one, -1 where better, else 0."""
    place = places(order, points)
    return torch.sign(place - place[:, :1])


@dataclass(frozen=True, eq=False, kw_only=True)
class ZOSign(RankingDescent):
    """Descent by signs of comparisons.

    Args:
        lr, mu, shown, ranked, line_search, shrink, normalize, rounds: see
            :class:`agents.ranking._descent.RankingDescent`. One of the ``shown`` points is x.
    """

    normalize: bool = True

    def draw(self, query: Estimate) -> Float[Tensor, "B m d"]:
        shape = (query.points - 1, query.to_best.shape[-1])
        counter = query.iteration * self.rounds + query.round
        xi = normal(query.keys, "directions", shape, counter, query.to_best.dtype)
        return torch.cat((torch.zeros_like(query.to_best).unsqueeze(1), xi), 1)

    def estimate(self, order: Int64[Tensor, "B k"], offsets: Float[Tensor, "B m d"]) -> Float[Tensor, "B d"]:
        points = offsets.shape[1]
        sign = signs(order, points).to(offsets.dtype)
        return (sign.unsqueeze(1) @ offsets).squeeze(1) / (points - 1)
