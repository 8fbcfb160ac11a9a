"""How hidden values become an order: exactly, or with the mistakes that people make.

The best is the point with the least value. Equal values are put in a random order: a tie broken by position
would favour whatever an algorithm lists first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, normal, uniform


@dataclass(frozen=True)
class Judge:
    """A model of ranking.

    Args:
        noise: ``none``; ``thurstone``: the values are seen with Gaussian errors of standard deviation
            ``scale`` (Thurstone 1927); ``plackett_luce``: the best is drawn with probability proportional to
            exp(-value / scale), then the best of the rest, and so on (Luce 1959, Plackett 1975); ``flips``:
            each pair is compared rightly with probability
            1/2 + min(``most``, ``scale`` |difference|^(``power`` - 1)) (Cai, McKenzie, Yin, Zhang 2022,
            "A one-bit, comparison-based gradient estimator"), and points are ordered by comparisons won.
        scale: the size of the mistakes; for ``flips`` the factor in the probability to be right.
        most: for ``flips``, the greatest excess over 1/2, in (0, 1/2].
        power: for ``flips``, the exponent kappa >= 1; 1 makes all pairs equally hard.
    """

    noise: str = "none"
    scale: float = 1.0
    most: float = 0.3
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.noise not in MODELS:
            raise ValueError(f"noise: expected one of {', '.join(MODELS)}, got {self.noise!r}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"noise_scale: expected a number > 0, got {self.scale!r}")
        if not 0 < self.most <= 0.5:
            raise ValueError(f"noise_most: expected a number in (0, 1/2], got {self.most!r}")
        if not 1 <= self.power < float("inf"):
            raise ValueError(f"noise_power: expected a number >= 1, got {self.power!r}")
        for name, default in (("scale", 1.0), ("most", 0.3), ("power", 1.0)):
            used = self.noise == "flips" or (name == "scale" and self.noise != "none")
            if not used and getattr(self, name) != default:
                value = getattr(self, name)
                raise ValueError(f"noise_{name}: {value!r} would have no effect with noise={self.noise!r}")

    def order(
        self, keys: Keys, k: Int64[Tensor, "B"], values: Float[Tensor, "B m"], shown: Bool[Tensor, "B m"]
    ) -> Int64[Tensor, "B m"]:
        """The points from best to worst; those that are not shown come last, and so does what is no number.

        Args:
            keys: one an instance.
            k: the number of the query, the counter of all draws.
            values: hidden values.
            shown: whether a point takes part.
        """
        # what is not shown is compared with nobody
        seen = MODELS[self.noise](self, keys, k, torch.where(shown, values, torch.nan))
        chance = uniform(keys, "ties", values.shape[-1], k)
        places = torch.where(shown, chance, chance + 1).argsort(-1)
        # sorting has what is no number behind infinity; what is not shown is none, and last as it is
        return places.gather(-1, seen.gather(-1, places).argsort(dim=-1, stable=True))


def _exact(judge: Judge, keys: Keys, k: Tensor, values: Tensor) -> Tensor:
    return values


def _thurstone(judge: Judge, keys: Keys, k: Tensor, values: Tensor) -> Tensor:
    return values + judge.scale * normal(keys, "errors", values.shape[-1], k, values.dtype)


def _plackett_luce(judge: Judge, keys: Keys, k: Tensor, values: Tensor) -> Tensor:
    # the order of utilities with Gumbel errors has the law of Plackett and Luce (Yellott 1977)
    chance = uniform(keys, "errors", values.shape[-1], k, torch.float64)
    gumbel = -torch.log(-torch.log(chance.clamp_min(2.0**-54)))
    return values - judge.scale * gumbel.to(values.dtype)


def _flips(judge: Judge, keys: Keys, k: Tensor, values: Tensor) -> Tensor:
    count = values.shape[-1]
    row, column = values.unsqueeze(-1), values.unsqueeze(-2)
    difference = torch.where(row == column, 0.0, row - column)  # (B, m, m); equal infinities differ by 0
    excess = (judge.scale * difference.abs() ** (judge.power - 1)).clamp(max=judge.most)
    draw = uniform(keys, "errors", (count, count), k, values.dtype).triu(1)
    draw = draw + draw.mT  # one comparison a pair
    right = draw < 0.5 + excess
    loses = (difference > 0) == right
    # of equal points either wins as often, and a pair has one loser
    even = (draw < 0.5) == torch.ones_like(right).triu(1)
    loses = torch.where(difference == 0, even, loses)
    alone = torch.eye(count, dtype=torch.bool, device=values.device)
    # against what is no number everyone loses alike, which changes no order
    loses = loses | (difference != difference)
    losses = (loses & ~alone).sum(-1).to(values.dtype)
    return torch.where(values == values, losses, torch.nan)


MODELS: dict[str, Callable[[Judge, Keys, Tensor, Tensor], Tensor]] = {
    "none": _exact,
    "thurstone": _thurstone,
    "plackett_luce": _plackett_luce,
    "flips": _flips,
}
"""The models of :attr:`Judge.noise`: from values to what is sorted."""
