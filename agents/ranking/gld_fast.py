"""GLD-Fast: gradientless descent by a top-1 oracle (Golovin, Karro, Kochanski, Lee, Song, Zhang 2020, ICLR).

    v_k <- x + 2^-k R u_k,   u_k uniform on the sphere, k = 0 .. K
    x   <- the best of x and all v_k

A query shows x and K + 1 = m - 1 others. With a bound of the condition number R is halved every H iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, normal
from optenvs.core.struct import replace, static, struct

from ..core import Agent, Observation, require
from ._descent import chosen, filled, unit, whole


@struct
class GLDState:
    """The memory: keys and number of the draws, x, the first radius ``(B, 1)``, the sizes of a query."""

    keys: Keys
    count: Int64[Tensor, "B"]
    point: Float[Tensor, "B d"]
    radius: Float[Tensor, "B 1"]
    room: int = static()
    points: int = static()
    agent: bool = static()


@dataclass(frozen=True, eq=False, kw_only=True)
class GLDFast(Agent):
    """GLD-Fast.

    Args:
        radius: R, the first and longest radius; ``None`` for half the diagonal of the problem's box.
        shown: m; ``None`` for as many as a query holds.
        ratio: of a radius to the next longer one.
        period: H, the iterations after which R is halved; ``None`` for never.
    """

    radius: float | None = None
    shown: int | None = None
    ratio: float = 0.5
    period: int | None = None

    needs = ("ranking",)

    def __post_init__(self) -> None:
        require(self, "radius", self.radius is None or self.radius > 0, "a number > 0 or None")
        require(self, "ratio", 0 < self.ratio < 1, "a number in (0, 1)")
        for name, least in (("shown", 2), ("period", 1)):
            if getattr(self, name) is not None:
                whole(self, name, least)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> GLDState:
        room, agent = problem.shown, problem.recommend == "agent"
        points = room if self.shown is None else self.shown
        if points > room or (points < room and not agent):
            raise ValueError(
                f"GLDFast: shown: expected {'at most ' if agent else ''}{room}, as a query has, got {points}"
            )
        half = torch.linalg.vector_norm(problem.upper - problem.lower, dim=-1, keepdim=True) / 2
        return GLDState(
            keys=keys,
            count=torch.zeros_like(keys),
            point=chosen(observation["point"], observation["order"][:, :1]),
            radius=half if self.radius is None else torch.full_like(half, self.radius),
            room=room,
            points=points,
            agent=agent,
        )

    def act(self, state: GLDState, observation: Observation) -> tuple[Action, GLDState]:
        top = observation["order"][:, :1]
        x = torch.where(top >= 0, chosen(observation["point"], top), state.point)
        u = unit(normal(state.keys, "directions", (state.points - 1, x.shape[1]), state.count, x.dtype))
        power = torch.arange(state.points - 1, device=x.device).expand(len(x), -1)
        longest = state.radius
        if self.period is not None:
            longest = longest * 0.5 ** (state.count // self.period).unsqueeze(-1)
        radius = longest * self.ratio ** power.to(x.dtype)
        centre = x.unsqueeze(1)
        query = filled(torch.cat((centre, centre + radius.unsqueeze(-1) * u), 1), centre, state.room)
        after = replace(state, count=state.count + 1, point=x)
        if not state.agent:
            return query, after
        count = torch.full_like(top, state.points)
        return {"query": query, "count": count, "keep": torch.ones_like(top), "recommendation": x}, after
