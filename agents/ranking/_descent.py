"""Descent by orders: what its methods share. An iteration is some queries for a direction, then one along it.

    estimate   m points x + mu xi_i are shown and ordered; a method makes a direction G of the order
    search     x, the trials x - eta gamma^i D, i = 0 .. l-1, are shown; the best of them is the next x

where D is G, or what a method makes of it. Without trials x <- x - eta D. With x among those that are shown a
search without mistakes never goes up. An iteration shows m + l + 1 points: x is shown, and so it is billed.
An estimate in which no point is named, as a person may answer, has no direction: another one follows it.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import replace, static, struct

from ..core import Agent, Observation, by_row, require

Number = float | Float[Tensor, "B"]
Scale = float | Float[Tensor, "B 1"]
TRIALS = 5


@struct
class Sizes:
    """The sizes of queries.

    Attributes:
        room: points that a query holds.
        points, named: m and k of an estimate.
        trials: l of a search, 0 for none.
        rounds: queries of an estimate.
        agent: whether a query is a dict with counts and a recommendation.
    """

    room: int = static()
    points: int = static()
    named: int = static()
    trials: int = static()
    rounds: int = static()
    agent: bool = static()


@struct
class DescentState:
    """The memory of a descent.

    Attributes:
        keys: of the random draws, ``(B,)``.
        count: iterations so far, ``(B,)``; -1 before the first.
        stage: which query has been asked, ``(B, 1)``: a round of the estimate, or their number for a search.
        point: x.
        direction: G so far.
        averaged: the number of estimates in G, ``(B, 1)``.
        best: the best point of the last estimate.
        offsets: the xi of the last estimate.
        moments: what a method keeps of the directions so far, or ``None``.
        sizes: see :class:`Sizes`.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    stage: Int64[Tensor, "B 1"]
    point: Float[Tensor, "B d"]
    direction: Float[Tensor, "B d"]
    averaged: Float[Tensor, "B 1"]
    best: Float[Tensor, "B d"]
    offsets: Float[Tensor, "B m d"]
    moments: Any
    sizes: Sizes


class Estimate(NamedTuple):
    """What the points of one query of an estimate are made of.

    Attributes:
        keys, iteration, round: what their draw is a function of, ``(B,)``.
        to_best: where the best point of the last estimate is, in units of mu from x.
        points: m.
    """

    keys: Keys
    iteration: Int64[Tensor, "B"]
    round: Int64[Tensor, "B"]
    to_best: Float[Tensor, "B d"]
    points: int


@dataclass(frozen=True, eq=False, kw_only=True)
class RankingDescent(Agent):
    """Descent by orders.

    Where ``problem.recommend`` is ``top`` all points of a query are always shown: an estimate is of all of
    them then, and a search has as many trials as there is room for.

    Args:
        lr: eta, the step length: a number, or a tensor ``(B,)`` with one for each instance.
        mu: the distance at which points are compared, likewise.
        shown: m; ``None`` for as many as a query holds.
        ranked: k; ``None`` for as many as are named.
        line_search: l; 0 for steps without a search, ``None`` for 5 or, in a smaller query, what it holds.
        shrink: gamma, by which each trial is shorter than the one before.
        normalize: move by the unit vector along G in place of G.
        rounds: queries that are averaged for one direction.
    """

    lr: Number = 1.0
    mu: Number = 0.1
    shown: int | None = None
    ranked: int | None = None
    line_search: int | None = None
    shrink: float = 0.5
    normalize: bool = False
    rounds: int = 1

    needs = ("ranking",)

    # What a method writes ----------------------------------------------------------------------

    @abc.abstractmethod
    def draw(self, query: Estimate) -> Float[Tensor, "B m d"]:
        """The offsets xi of one query."""

    @abc.abstractmethod
    def estimate(self, order: Int64[Tensor, "B k"], offsets: Float[Tensor, "B m d"]) -> Float[Tensor, "B d"]:
        """A direction of ascent from the order of one query; entries of -1 name no point."""

    accumulate = False
    """Whether G is averaged on over searches that find nothing better."""
    prev_best = False
    """Whether a search shows the best point of the estimate, too."""

    def refine(self, direction: Float[Tensor, "B d"]) -> Float[Tensor, "B d"]:
        """D, of the mean of the estimates."""
        return unit(direction) if self.normalize else direction

    def moments(self, like: Float[Tensor, "B d"]) -> Any:
        """What is kept of the directions so far, before the first."""
        return None

    def remember(
        self, moments: Any, direction: Float[Tensor, "B d"], new: Bool[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B d"], Any]:
        """What D is made of, and what is kept of the directions with G, where it is ``new`` and whole."""
        return direction, moments

    def step_length(self, count: Int64[Tensor, "B"], like: Tensor) -> Scale:
        """The step length eta now."""
        return by_row("lr", self.lr, like)

    def distance(self, count: Int64[Tensor, "B"], like: Tensor) -> Scale:
        """The distance mu now."""
        return by_row("mu", self.mu, like)

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        for name in ("lr", "mu"):
            require(self, name, torch.all(torch.as_tensor(getattr(self, name)) > 0), "a number > 0")
        require(self, "shrink", 0 < self.shrink < 1, "a number in (0, 1)")
        whole(self, "rounds", 1)
        for name, least in (("shown", 2), ("ranked", 1), ("line_search", 0)):
            if getattr(self, name) is not None:
                whole(self, name, least)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> DescentState:
        sizes = self._sizes(problem)
        points, order = observation["point"], observation["order"]
        start = chosen(points, order[:, :1])
        return DescentState(
            keys=keys,
            count=torch.full_like(keys, -1),
            stage=torch.full_like(keys, sizes.rounds).unsqueeze(-1),  # as if x had been searched for
            point=start,
            direction=torch.zeros_like(start),
            averaged=torch.zeros_like(start[:, :1]),
            best=start,
            offsets=torch.zeros_like(points[:, : sizes.points]),
            moments=self.moments(start),
            sizes=sizes,
        )

    def _sizes(self, problem: Any) -> Sizes:
        room, agent = problem.shown, problem.recommend == "agent"
        limit = room - 1 - self.prev_best
        points = room if self.shown is None else self.shown
        named = min(problem.ranked, points) if self.ranked is None else self.ranked
        asked = self.line_search
        trials = (min(TRIALS, limit) if agent else limit) if asked is None else asked
        name = type(self).__name__
        for field, value, most in (
            ("shown", points, room),
            ("ranked", named, min(points, problem.ranked)),
            ("line_search", trials, limit),
        ):
            if value > most:
                raise ValueError(f"{name}: {field}: {value} is more than the {most} that a query allows")
        if not agent and (points < room or 0 < trials < limit or named < problem.ranked):
            raise ValueError(
                f"{name}: shown, ranked, line_search: expected {room}, {problem.ranked} and 0 or {limit} "
                f"(or None), got {points}, {named} and {trials}: with recommend='top' every query is shown "
                "whole; recommend='agent' has queries of any size"
            )
        if asked is None and trials < 1:
            raise ValueError(
                f"{name}: line_search: a query of {room} points has no room for a search; 0 is none"
            )
        if not trials and (self.accumulate or self.prev_best):
            raise ValueError(f"{name}: line_search: accumulate and prev_best need one, got 0")
        return Sizes(room, points, named, trials, self.rounds, agent)

    def act(self, state: DescentState, observation: Observation) -> tuple[Action, DescentState]:
        sizes, x = state.sizes, state.point
        points, order = observation["point"], observation["order"]
        top = order[:, :1]
        winner = chosen(points, top)
        searched = state.stage == sizes.rounds
        estimate = self.estimate(order[:, : sizes.named], state.offsets)
        averaged = state.averaged
        direction = (averaged * state.direction + estimate) / (averaged + 1)
        direction = torch.where(searched, state.direction, direction)
        along, moments = self.remember(state.moments, direction, state.stage == sizes.rounds - 1)
        step = self.step_length(state.count, x) * self.refine(along)
        if sizes.trials:
            x = torch.where(searched & (top >= 0), winner, x)
            # along nothing there is nothing to search: all trials would be x
            nowhere = (state.stage == sizes.rounds - 1) & (step == 0).all(-1, keepdim=True)
            ended = searched | nowhere
            kept = torch.where(top > 0, 0.0, averaged) if self.accumulate else torch.zeros_like(averaged)
        else:
            over = state.stage == sizes.rounds - 1
            x = torch.where(searched, winner, torch.where(over, x - step, x))
            ended = searched | over
            kept = torch.zeros_like(averaged)
        stage = torch.where(ended, 0, state.stage + 1)
        shown_best = (top >= 0) if self.prev_best else (top >= 0) & ~searched
        after = replace(
            state,
            count=state.count + ended.squeeze(-1),
            stage=stage,
            point=x,
            direction=direction,
            averaged=torch.where(ended, kept, averaged + 1),
            best=torch.where(shown_best, winner, state.best),
            moments=moments,
        )
        mu = self.distance(after.count, x)
        to_best = (after.best - x) / mu
        query = Estimate(state.keys, after.count, stage.squeeze(-1), to_best, sizes.points)
        offsets = self.draw(query)
        return self._query(after, around(x, mu, offsets), step), replace(after, offsets=offsets)

    def _query(self, state: DescentState, near: Tensor, step: Tensor) -> Action:
        """The points of the estimate, or x, the trials and perhaps the best; then x where there is room."""
        sizes, x = state.sizes, state.point.unsqueeze(1)
        search, along = state.stage == sizes.rounds, 1 + sizes.trials + self.prev_best
        query = filled(near, x, sizes.room)
        if sizes.trials:
            shorter = self.shrink ** torch.arange(sizes.trials, dtype=x.dtype, device=x.device)
            trials = [x, x - step.unsqueeze(1) * shorter.unsqueeze(-1)]
            if self.prev_best:
                trials.append(state.best.unsqueeze(1))
            query = torch.where(search.unsqueeze(-1), filled(torch.cat(trials, 1), x, sizes.room), query)
        if not sizes.agent:
            return query
        return {
            "query": query,
            "count": torch.where(search, along, sizes.points),
            "keep": torch.where(search, 1, sizes.named),
            "recommendation": state.point,
        }


def chosen(points: Float[Tensor, "B m d"], index: Int64[Tensor, "B 1"]) -> Float[Tensor, "B d"]:
    """The point of an index; the first where none is named."""
    batch, count, _ = points.shape
    row = torch.arange(0, batch * count, count, device=points.device) + index[:, 0].clamp_min(0)
    return points.flatten(0, 1)[row]  # copies whole rows, which gather does not


def around(x: Float[Tensor, "B d"], mu: Scale, offsets: Float[Tensor, "B m d"]) -> Float[Tensor, "B m d"]:
    """The points x + mu xi_i."""
    if isinstance(mu, Tensor):
        return torch.addcmul(x.unsqueeze(1), mu.unsqueeze(-1), offsets)
    return torch.add(x.unsqueeze(1), offsets, alpha=mu)  # one pass over memory


def filled(points: Float[Tensor, "B m d"], x: Float[Tensor, "B 1 d"], room: int) -> Float[Tensor, "B r d"]:
    """The points, then x as often as there is room."""
    missing = room - points.shape[1]
    return torch.cat((points, x.expand(-1, missing, -1)), 1) if missing else points


def unit(vector: Float[Tensor, "*B d"]) -> Float[Tensor, "*B d"]:
    """The vector at length 1; 0 stays 0."""
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / torch.where(length > 0, length, 1.0)


def places(order: Int64[Tensor, "B k"], points: int) -> Int64[Tensor, "B m"]:
    """The place of each point, 0 for the best; those that are not named share the place after the last."""
    named = (order >= 0).sum(-1, keepdim=True)
    slots = torch.where(order >= 0, order, points)  # what names nobody goes into a column that is cut off
    place = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return named.expand(-1, points + 1).scatter(1, slots, place)[:, :points]


def whole(agent: Agent, field: str, least: int) -> None:
    """Require a whole number of at least so much."""
    value = getattr(agent, field)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(agent, field, number, f"a whole number >= {least}")
