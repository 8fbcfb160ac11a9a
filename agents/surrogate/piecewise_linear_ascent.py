"""Ascent on the linear pieces of a ReLU network over a box, from many starts at once.

On the piece of x the output has the gradient g. Without its components that point out of the box, the ascent
follows it as far as the next piece begins, at t* = min_j -a_j / <grad a_j, g> over the pre-activations a_j
that run towards zero and over the faces of the box, and a little further, (1 + eps) t*. Where the value no
longer increases it starts anew, at a uniform point of the box.

Each point of a query is an ascent of its own; the first begins where the episode does. The network is
handed to the agent, so that no product is asked or billed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, fold_in, uniform
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation, require
from ._queries import LOWEST, Incumbent, first, project, query
from ._relu import activations, first_crossing, gradient, rates, relu_network


@struct
class PiecewiseState:
    """The memory of m ascents.

    Attributes:
        problem: what the agent knows, with the network.
        keys: of the random draws, ``(B,)``.
        value: of the last point of each ascent that was better than the one before, ``(B, m)``.
        starts: random starts of each so far, ``(B, m)``.
    """

    problem: Any
    keys: Keys
    value: Float[Tensor, "B m"]
    starts: Int64[Tensor, "B m"]


@dataclass(frozen=True, eq=False)
class PiecewiseLinearAscent(Agent):
    """Ascent from one linear piece to the next.

    Args:
        overshoot: eps, how far beyond the end of a piece a step goes, relative to its length there.
    """

    overshoot: float = 1e-3

    needs = ("value", "poll")

    def __post_init__(self) -> None:
        require(self, "overshoot", self.overshoot > 0, "a number > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> PiecewiseState:
        relu_network(self, problem)
        value = observation["value"]
        return PiecewiseState(
            problem=problem,
            keys=keys,
            value=torch.full_like(value, torch.inf),
            starts=torch.zeros_like(observation["evaluated"]),
        )

    def act(self, state: PiecewiseState, observation: Observation) -> tuple[Action, PiecewiseState]:
        problem, x, value = state.problem, observation["point"], observation["value"]
        answered = (observation["evaluated"] > 0) & (observation["failed"] == 0)
        rises = answered & (value < state.value)
        target = self._step(problem, x)
        # the end of an ascent is known where it has nowhere to go
        goes = rises & (target != x).any(-1)
        each = fold_in(state.keys.unsqueeze(-1), torch.arange(x.shape[1], device=x.device))
        share = uniform(each, "start", x.shape[-1], state.starts, x.dtype)
        lower, upper = problem.lower.unsqueeze(1), problem.upper.unsqueeze(1)
        target = torch.where(goes.unsqueeze(-1), target, lower + share * (upper - lower))
        held = first(observation)
        everything = Incumbent(held.point, torch.full_like(held.value, LOWEST), held.outputs)
        none = torch.zeros_like(state.keys)
        action = query(problem, observation, everything, target, none, none + x.shape[1])
        return action, replace(
            state,
            value=torch.where(goes, value, torch.inf),
            starts=state.starts + (~goes).long(),
        )

    def _step(self, problem: Any, x: Float[Tensor, "B m n"]) -> Float[Tensor, "B m n"]:
        layers, lower, upper = problem.weights, problem.lower.unsqueeze(1), problem.upper.unsqueeze(1)
        a = activations(layers, x)
        d = gradient(layers, a)
        outwards = ((x >= upper) & (d > 0)) | ((x <= lower) & (d < 0))
        d = torch.where(outwards, 0.0, d)
        reach = first_crossing(a, rates(layers, a, d), x, d, lower, upper)
        reach = torch.where(reach < torch.inf, reach, 0.0) * (1 + self.overshoot)
        return project(problem, x + reach.unsqueeze(-1) * d)
