"""Policy gradients with parameter-based exploration (Sehnke et al. 2010).

    x_2j = mu + e_j,   x_2j+1 = mu - e_j,   e_j ~ N(0, diag(s^2))
    g      <- mean over pairs of  (w_2j - w_2j+1) / 2  e_j / s^2                     (the slope by mu)
    s_i    <- s_i - eta s_i mean of ((w_2j + w_2j+1) / 2 - b) (e_ji^2 - s_i^2) / s_i^2
    mu     <- optimizer(mu, g)

Sehnke, Osendorfer, Rueckstiess, Graves, Peters, Schmidhuber, "Parameter-exploring policy gradients", Neural
Networks 23, algorithm 2, with symmetric samples. w are the values, shaped; b is their mean. Where the paper
moves s by (e^2 - s^2) / s times a rate, the rate is here relative to s, as it moves log s, and a step changes
no s by more than ``most`` of itself, as in the authors' later code (pgpelib, Toklu, Liskowski, Srivastava
2020), whose default of the latter it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import Observation, by_row, require
from ._search import Centre, CentreSearch


@dataclass(frozen=True, eq=False)
class PGPE(CentreSearch):
    """PGPE: a standard deviation for each coordinate, which is searched too.

    It begins about the mean of the environment's own points; the recommendation is the centre mu. Pair ranks
    say nothing of the deviations, which then stay.

    Args:
        std_lr: eta; 0 keeps the deviations.
        most: the share by which a step may change a deviation.
        lr, std, shaping, optimizer, momentum, weight_decay, schedule: see
            :class:`agents.meta._search.CentreSearch`.

    Raises:
        ValueError: a query of an odd number of points.
    """

    std: float | Float[Tensor, "B"] = 0.1
    std_lr: float = 0.1
    most: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "std_lr", self.std_lr >= 0, "a number >= 0")
        require(self, "most", 0 < self.most < 1, "a share in (0, 1)")

    def deviation(self, observation: Observation, point: Tensor) -> Float[Tensor, "B d"]:
        std: Any = by_row("std", self.std, point)
        return std * torch.ones_like(point)

    def estimate(
        self, state: Centre, observation: Observation, noise: Tensor, weights: Tensor
    ) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B d"]]:
        square, half = state.std.square(), len(weights[0])
        slope = ((weights[..., 0] - weights[..., 1]).unsqueeze(1) @ noise).squeeze(1) / (2 * half * square)
        excess = weights.mean(-1, keepdim=True) - weights.mean((1, 2), keepdim=True)[..., :1]
        change = (excess * (noise.square() / square.unsqueeze(1) - 1)).mean(1)
        return slope, state.std * (1 - self.std_lr * change).clamp(1 - self.most, 1 + self.most)
