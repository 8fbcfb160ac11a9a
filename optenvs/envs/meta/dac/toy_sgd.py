"""Learning rate and momentum of gradient descent on functions of one number, at every step.

The task of DACBench's ``ToySGDEnv`` (Eimer et al. 2021, arXiv 2105.08541): from 16 starting points, uniform
in [-5, 5], at once

    v <- momentum v + lr f'(x),     x <- x - v

* State: the function, the points and their velocities.
* Query: log10 of learning rate and momentum, each in [-10, 0].
* Answer: how many actions are left, the slopes at the points, and the last action.
* Merit: the mean of log10 |f(x) - inf f| over the points, each not below -16; the reward is minus that.
* Bill: a step, with a value and a gradient of each point. The query of ``reset`` moves nothing.

It is that task and not that code, whose functions (version 0.5.4) are not what they are called: a polynomial
of two coefficients whatever its order, a sigmoid whose slope lacks the factor s, a quadratic summed over all
points; and whose first step moves nothing, because the slope that it takes is not computed yet. Here slopes
are exact (see :mod:`.functions`), the infimum is known, and the first action moves the points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import only_part
from optenvs.core.random import Keys, uniform
from optenvs.core.spaces import box
from optenvs.core.struct import struct

from .functions import KINDS, Scalar, draw

LEAST, MOST = -10.0, 0.0
"""Ends of log10 of learning rate and momentum."""
_FLOOR = -16.0
"""Where log10 of a gap stops."""


@struct
class Nothing:
    """What an agent may know: nothing of the instance. ``none`` is ``(B, 0)``."""

    none: Float[Tensor, "B 0"]


@struct
class Walk:
    """Where an episode stands: the ``function``, ``point`` and ``velocity`` ``(B, m)``."""

    function: Scalar
    point: Float[Tensor, "B m"]
    velocity: Float[Tensor, "B m"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DacToySgd(OptimizationEnv):
    """Gradient descent with momentum on functions of one number: both rates are the action.

    Args:
        function: ``quadratic``, ``polynomial`` or ``sigmoid``; an instance draws its own coefficients.
        points: how many starting points are moved at once.
        budget: as everywhere; a number counts steps, the query of ``reset`` as one.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`. The tolerance is of the
            merit less -16.
    """

    function: str = "quadratic"
    points: int = 16
    budget: int | dict[str, int] | None = 11
    reward: str = "negative_value"
    dtype: str = "float64"

    painter = "optenvs.envs.meta.dac.picture:toy"
    meanings: ClassVar = {
        "action": "log10 of the learning rate and of the momentum",
        "remaining": "actions that are left",
        "gradient": "the slope at each point",
        "lr": "log10 of the last learning rate",
        "momentum": "log10 of the last momentum",
        "value": "the mean objective over the points",
        "gap": "the mean distance of the objective from its infimum",
        "log_gap": "the mean of log10 of that distance",
    }

    def __post_init__(self) -> None:
        if self.function not in KINDS:
            raise ValueError(f"function: expected one of {', '.join(KINDS)}, got {self.function!r}")
        if isinstance(self.points, bool) or not isinstance(self.points, int) or self.points < 1:
            raise ValueError(f"points: expected a whole number >= 1, got {self.points!r}")
        super().__post_init__()

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("step",)

    @property
    def bill(self) -> dict[str, int]:
        return {"step": 1, "gradient": self.points, "value": self.points}

    def action_fields(self) -> spaces.Box:
        return box((2,), self.dtype, LEAST, MOST)

    def observation_fields(self) -> dict[str, spaces.Space]:
        one = box((1,), self.dtype, LEAST, MOST)
        return {
            "remaining": box((1,), self.dtype, low=0.0),
            "gradient": box((self.points,), self.dtype),
            "lr": one,
            "momentum": one,
        }

    def sample(self, keys: Keys) -> Instance:
        point = uniform(keys, "start", self.points, dtype=self.torch_dtype, low=-5.0, high=5.0)
        function = draw(self.function, keys, self.torch_dtype)
        return Instance(
            problem=Nothing(none=point[:, :0]),
            hidden=Walk(function=function, point=point, velocity=torch.zeros_like(point)),
            start=torch.full_like(point[:, :1], LEAST).expand(-1, 2),
            floor=torch.full_like(point[:, 0], _FLOOR),
        )

    def answer(self, state: State, action: Action) -> Answer:
        action = only_part(self.name, action)
        before: Walk = state.hidden
        lr, momentum = (10**action).split(1, 1)
        _, slope = before.function.value_and_slope(before.point)
        moves = (state.k > 0).unsqueeze(-1)  # the query of reset moves nothing
        velocity = torch.where(moves, momentum * before.velocity + lr * slope, before.velocity)
        point = before.point - velocity
        value, slope = before.function.value_and_slope(point)
        gap = (value - before.function.least).abs()
        log_gap = torch.log10(gap.clamp_min(10**_FLOOR)).mean(1)
        log_gap = torch.where(gap.isfinite().all(1), log_gap, torch.inf)
        k = state.k.to(gap.dtype).unsqueeze(-1)
        return Answer(
            observation={
                "remaining": state.observation["N"] - k,
                "gradient": slope,
                "lr": action[:, :1],
                "momentum": action[:, 1:],
            },
            merit=log_gap,
            metrics={"value": value.mean(1), "gap": gap.mean(1), "log_gap": log_gap},
            solved=None if self.tolerance is None else log_gap - _FLOOR <= self.tolerance,
            hidden=Walk(function=before.function, point=point, velocity=velocity),
        )

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``points``: where the points are, ``(B, m)``."""
        return {"points": state.hidden.point}
