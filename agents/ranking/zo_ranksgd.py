"""ZO-RankSGD: descent by an (m, k)-ranking oracle (Tang, Rybin, Chang 2024).

    x_i <- x + mu xi_i,   xi_i ~ N(0, I),   i = 1 .. m                                        (algorithm 1)
    g   <- 1/|E| sum over (i, j) in E of (xi_j - xi_i)
    x   <- x - eta g,  or the best of x and x - eta gamma^i g, i = 0 .. l-1                   (algorithm 2)

E holds the pairs (i, j) of which the order says that i is better than j: those among the k named ones, and
each named one with each of the rest. Summed by points, without a look at the pairs,

    g = 1/|E| sum_i w_i xi_i,   w = -(m - 2r + 1) for rank r <= k, k for the rest,   |E| = k m - k (k + 1) / 2

The weights sum to 0. Those of the authors' diffusion code are -(m - 2r + 2): they sum to -k and add a pull
to the mean of the named points (``official_weights``). g has about the same length everywhere, so that eta is
a length, and without a search x ends in a ball whose radius is proportional to eta; the length grows as k
falls.

With ``accumulate`` (algorithm 3, for latents of a diffusion model) G is the mean of all g since x last moved;
their searches show the best point of the estimate, too (``prev_best``). Their step multiplies mu g: their
step size s is lr = s mu here. With ``momentum`` and ``scaling`` the step is along averages of g over the
iterations (:mod:`agents.ranking._moments`); both together are Adam.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import normal

from ..core import require
from ._descent import Estimate, RankingDescent, places, unit
from ._moments import Moments, averaged, no_moments


def weights(
    order: Int64[Tensor, "B k"], points: int, official: bool = False
) -> tuple[Int64[Tensor, "B m"], Int64[Tensor, "B 1"]]:
    """The weight w of each point, and the number |E| of pairs.

    Args:
        order: the named points from best to worst; -1 names no point.
        points: m.
        official: the weights of the authors' code.
    """
    place = places(order, points)  # r - 1
    named = (order >= 0).sum(-1, keepdim=True)
    ranked = -(points - 2 * place - 1) - int(official)
    return torch.where(place < named, ranked, named), named * points - named * (named + 1) // 2


@dataclass(frozen=True, eq=False, kw_only=True)
class ZORankSGD(RankingDescent):
    """ZO-RankSGD.

    Args:
        accumulate: average the estimates until a search finds a better point.
        prev_best: show the best point of the estimate in the search.
        official_weights: the weights of the authors' code.
        include_center: x is one of the m points.
        include_best: the best point of the last estimate is one of them.
        sphere: directions of length 1, uniform on the sphere.
        antithetic: directions in pairs xi, -xi.
        momentum: beta_1, the share of the earlier iterations in the direction.
        scaling: beta_2, of the mean squares by whose root each coordinate is divided: steps are about as long
            in all of them. ``None`` for none.
        eps: added to that root.
        lr, mu, shown, ranked, line_search, shrink, normalize, rounds: see
            :class:`agents.ranking._descent.RankingDescent`.
    """

    accumulate: bool = False
    prev_best: bool = False
    official_weights: bool = False
    include_center: bool = False
    include_best: bool = False
    sphere: bool = False
    antithetic: bool = False
    momentum: float = 0.0
    scaling: float | None = None
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        enough = self.shown is None or self.shown > self.include_center + self.include_best
        require(self, "shown", enough, "more points than include_center and include_best take")
        require(self, "momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        require(self, "scaling", self.scaling is None or 0 <= self.scaling < 1, "a number in [0, 1) or None")
        require(self, "eps", self.eps >= 0, "a number >= 0")
        if self._averages:
            require(self, "accumulate", not self.accumulate, "False beside momentum or scaling")

    @property
    def _averages(self) -> bool:
        return self.momentum > 0 or self.scaling is not None

    def moments(self, like: Float[Tensor, "B d"]) -> Moments | None:
        return no_moments(like) if self._averages else None

    def remember(
        self, moments: Moments | None, direction: Float[Tensor, "B d"], new: Bool[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B d"], Moments | None]:
        if moments is None:
            return direction, None
        # where no point was named there is no direction, and nothing to remember
        some = (direction != 0).any(-1, keepdim=True)
        found, after = averaged(moments, direction, new & some, self.momentum, self.scaling, self.eps)
        return torch.where(some, found, 0.0), after

    def draw(self, query: Estimate) -> Float[Tensor, "B m d"]:
        to_best = query.to_best
        fixed = [torch.zeros_like(to_best)] if self.include_center else []
        fixed += [to_best] if self.include_best else []
        drawn = query.points - len(fixed)
        shape = (-(-drawn // 2) if self.antithetic else drawn, to_best.shape[-1])
        counter = query.iteration * self.rounds + query.round
        xi = normal(query.keys, "directions", shape, counter, to_best.dtype)
        xi = unit(xi) if self.sphere else xi
        if self.antithetic:
            xi = torch.cat((xi, -xi), 1)[:, :drawn]
        return torch.cat((*(offset.unsqueeze(1) for offset in fixed), xi), 1) if fixed else xi

    def estimate(self, order: Int64[Tensor, "B k"], offsets: Float[Tensor, "B m d"]) -> Float[Tensor, "B d"]:
        w, edges = weights(order, offsets.shape[1], self.official_weights)
        # whole numbers up to the sum: what is said of nobody has no pairs, and no direction
        return (w.to(offsets.dtype).unsqueeze(1) @ offsets).squeeze(1) / edges.clamp_min(1)
