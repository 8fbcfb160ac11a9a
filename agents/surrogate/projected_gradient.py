"""Projected gradient ascent with restarts: the first-order method on a surrogate.

    x <- P(x + lr / sqrt(t) g),   g = J(x)' grad f(Phi(x)),   P the projection on the box

for t = 1, 2, ... After ``period`` steps, or where the network fails, it starts anew at a uniform point of the
box with t = 1. A step is two queries: the product at x, then the new point, since the direction of a product
depends on the outputs at its point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation, by_row, require
from ._queries import LOWEST, Incumbent, first, known, project, query


@struct
class AscentState:
    """The memory of the ascent.

    Attributes:
        problem: what the agent knows.
        keys: of the random draws, ``(B,)``.
        now: the point where it is.
        t: the number of this step since the last start, ``(B,)``.
        starts: random starts so far, ``(B,)``.
        begun: whether it has asked anything, ``(B,)``.
        aims: whether the last query asked for a product, ``(B,)``.
    """

    problem: Any
    keys: Keys
    now: Incumbent
    t: Int64[Tensor, "B"]
    starts: Int64[Tensor, "B"]
    begun: Bool[Tensor, "B"]
    aims: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class ProjectedGradient(Agent):
    """Projected gradient ascent on the surrogate.

    Args:
        lr: the first step length, a number or a tensor ``(B,)`` with one for each instance.
        period: steps between two starts; ``None`` for no restart.
    """

    lr: float | Float[Tensor, "B"] = 1.0
    period: int | None = 100

    needs = ("value", "poll", "vjp")

    def __post_init__(self) -> None:
        require(self, "lr", torch.all(torch.as_tensor(self.lr) > 0), "a number > 0")
        require(self, "period", self.period is None or self.period >= 1, "a whole number >= 1 or None")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AscentState:
        zero = torch.zeros_like(keys)
        return AscentState(
            problem=known(self, problem),
            keys=keys,
            now=first(observation),
            t=zero + 1,
            starts=zero,
            begun=zero > 0,
            aims=zero > 0,
        )

    def act(self, state: AscentState, observation: Observation) -> tuple[Action, AscentState]:
        problem, now, aimed = state.problem, first(observation), state.aims.unsqueeze(-1)
        # a new point has come: its product is asked; or a product: the point that follows from it
        came = (state.begun & ~state.aims).unsqueeze(-1)
        x = torch.where(came, now.point, state.now.point)
        outputs = torch.where(came, now.outputs, state.now.outputs)
        failed = came.squeeze(-1) & (observation["failed"][:, 0] > 0)

        step = by_row("lr", self.lr, x) / state.t.to(x.dtype).sqrt().unsqueeze(-1)
        moved = project(problem, x + step * observation["vjp"])
        again = failed if self.period is None else failed | (state.aims & (state.t > self.period))
        share = uniform(state.keys, "start", x.shape[-1], state.starts, x.dtype)
        anew = problem.lower + share * (problem.upper - problem.lower)
        target = torch.where(again.unsqueeze(-1), anew, torch.where(aimed, moved, x))
        asks = state.aims | again
        along = torch.where(asks.unsqueeze(-1), 0.0, problem.slope(outputs))
        asked = Incumbent(point=x, value=torch.full_like(now.value, LOWEST), outputs=outputs)
        action = query(
            problem, observation, asked, target.unsqueeze(1), torch.zeros_like(state.t), asks.long(), x, along
        )
        return action, replace(
            state,
            now=replace(asked, point=x),
            t=torch.where(again, 1, state.t + state.aims.long()),
            starts=state.starts + again.long(),
            begun=torch.ones_like(state.begun),
            aims=~asks,
        )
