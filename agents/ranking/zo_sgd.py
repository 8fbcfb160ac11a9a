"""ZO-SGD: descent along differences of values (Ghadimi, Lan 2013), the counterpart of ZO-RankSGD.

    g <- mean of (f(x + mu xi_i) - f(x)) / mu xi_i,   xi_i ~ N(0, I),   i = 1 .. N - 1
    x <- x - eta g,  or the best of x and x - eta gamma^i g, i = 0 .. l-1

It moves a swarm of N points together, whose first is x. In a search the other trials take the places next to
it, and what is left of the estimate stays where it is: what does not move is not billed (unless values are
noisy), so that an iteration costs N + l values. The first particle is where it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, normal
from optenvs.core.struct import static, struct

from ..core import Agent, Observation, by_row, require
from ..particles._consensus import answer, recommends, table
from ._descent import TRIALS, Number, around, chosen, whole


@struct
class ZOSGDState:
    """The memory.

    Attributes:
        keys, count: of the random draws, ``(B,)``.
        searched: whether the last query was a search (or the first), ``(B, 1)``.
        point: x.
        offsets: the xi of the last estimate.
        trials: l.
        team: whether a query states the recommendation.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    searched: Bool[Tensor, "B 1"]
    point: Float[Tensor, "B d"]
    offsets: Float[Tensor, "B m d"]
    trials: int = static()
    team: bool = static()


@dataclass(frozen=True, eq=False, kw_only=True)
class ZOSGD(Agent):
    """ZO-SGD.

    Args:
        lr: eta: a number, or a tensor ``(B,)`` with one for each instance.
        mu: the distance of the differences, likewise.
        line_search: l; 0 for steps without a search, ``None`` for 5 or, with fewer particles, N - 1.
        shrink: gamma, by which each trial is shorter than the one before.
    """

    lr: Number = 1.0
    mu: Number = 0.01
    line_search: int | None = None
    shrink: float = 0.5

    needs = ("value", "swarm")
    together = True

    def __post_init__(self) -> None:
        for name in ("lr", "mu"):
            require(self, name, torch.all(torch.as_tensor(getattr(self, name)) > 0), "a number > 0")
        require(self, "shrink", 0 < self.shrink < 1, "a number in (0, 1)")
        if self.line_search is not None:
            whole(self, "line_search", 0)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> ZOSGDState:
        points = observation["point"]
        room = points.shape[1] - 1
        if room < 1:
            raise ValueError("ZOSGD: expected at least 2 particles, got 1")
        trials = min(TRIALS, room) if self.line_search is None else self.line_search
        if trials > room:
            raise ValueError(f"ZOSGD: line_search: {trials} trials and x are more than {room + 1} particles")
        return ZOSGDState(
            keys=keys,
            count=torch.zeros_like(keys),
            searched=torch.ones_like(keys, dtype=torch.bool).unsqueeze(-1),
            point=points[:, 0],
            offsets=torch.zeros_like(points[:, 1:]),
            trials=trials,
            team=recommends(problem),
        )

    def act(self, state: ZOSGDState, observation: Observation) -> tuple[Action, ZOSGDState]:
        x, (points, values) = state.point, table(observation)
        lr, mu = by_row("lr", self.lr, x), by_row("mu", self.mu, x)
        above = (values[:, 1:] - values[:, :1]) / mu
        above = torch.where(above.isfinite(), above, 0.0)  # what is no number says nothing
        step = lr * (above.unsqueeze(1) @ state.offsets).squeeze(1) / above.shape[1]
        if state.trials:
            # equal values keep x, which comes first; before the first search x is all there is
            index = values[:, : state.trials + 1].argmin(-1, keepdim=True)
            index = torch.where(state.count.unsqueeze(-1) > 0, index, 0)
            x = torch.where(state.searched, chosen(points, index), x)
            search = ~state.searched
        else:
            x = torch.where(state.searched, x, x - step)
            search = torch.zeros_like(state.searched)
        xi = normal(state.keys, "directions", tuple(state.offsets.shape[1:]), state.count, x.dtype)
        centre = x.unsqueeze(1)
        query = torch.cat((centre, around(x, mu, xi)), 1)
        if state.trials:
            shorter = self.shrink ** torch.arange(state.trials, dtype=x.dtype, device=x.device)
            trials = centre - step.unsqueeze(1) * shorter.unsqueeze(-1)
            along = torch.cat((centre, trials, points[:, state.trials + 1 :]), 1)
            query = torch.where(search.unsqueeze(-1), along, query)
        after = ZOSGDState(
            keys=state.keys,
            count=state.count + 1,
            searched=search,
            point=x,
            offsets=xi,
            trials=state.trials,
            team=state.team,
        )
        return answer(query, x, state.team), after
