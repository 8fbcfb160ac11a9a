"""Evolution strategies about one centre (Salimans, Ho, Chen, Sidor, Sutskever 2017, algorithm 1).

    x_2j = theta + e_j,   x_2j+1 = theta - e_j,   e_j ~ N(0, s^2 I)
    g <- sum of (w_2j - w_2j+1) e_j / (m s^2),    w: the values, shaped
    theta <- optimizer(theta, g)

"Evolution Strategies as a Scalable Alternative to Reinforcement Learning", arXiv 1703.03864, with antithetic
pairs and, in the place of values, centred ranks between -1/2 and 1/2. The recommendation is the centre theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import Observation, Schedule, by_row, clock
from ._search import Centre, CentreSearch


@dataclass(frozen=True, eq=False)
class OpenES(CentreSearch):
    """OpenAI's evolution strategies: one standard deviation, an optimizer of the centre.

    It begins about the mean of the environment's own points. The defaults are those with which OPEN (Goldie
    et al. 2024, arXiv 2407.07082) searches learned optimizers, without their decay: a ``schedule`` and a
    ``std_schedule`` of ``agents.schedules.Growth(0.999)`` are that.

    Args:
        std_schedule: a factor of ``(k, N)`` on ``std``, see ``agents.schedules``.
        lr, std, shaping, optimizer, momentum, weight_decay, schedule: see
            :class:`agents.meta._search.CentreSearch`.

    Raises:
        ValueError: a query of an odd number of points.
    """

    std_schedule: Schedule | None = None

    def deviation(self, observation: Observation, point: Tensor) -> Float[Tensor, "B 1"]:
        std: Any = by_row("std", self.std, point)
        if self.std_schedule is not None:
            std = std * self.std_schedule(*clock(observation))
        return std * torch.ones_like(point[:, :1])

    def estimate(
        self, state: Centre, observation: Observation, noise: Tensor, weights: Tensor
    ) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B 1"]]:
        difference = (weights[..., 0] - weights[..., 1]).unsqueeze(1)
        slope = (difference @ noise).squeeze(1) / (2 * noise.shape[1] * state.std.square())
        return slope, self.deviation(observation, state.point)
