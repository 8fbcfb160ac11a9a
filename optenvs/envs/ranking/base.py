"""Ranking oracles: a query is m points, the answer the k best of them in order; values stay hidden.

* State: the instance's hidden function, and the points shown last.
* Query: m points; with ``recommend="agent"`` also how many of them are shown and how many are to be named,
  and the point that the algorithm stands behind.
* Answer: the indices of the best, in order, and the points as asked. Nothing else: a monotone transformation
  of the hidden function changes no observation.
* Bill: the points shown, and one ranking (a person's round).

Merit and metrics are the hidden function at the recommendation, unbilled; with the reward ``none`` nothing of
it reaches a learner. The setting is that of Tang, Rybin, Chang (2024, "Zeroth-Order Optimization Meets Human
Feedback", ICLR).

A person may rank in place of the hidden function. What they said is configuration, ``rankings``, so that an
episode with a person is as pure as any other.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action, Answer, OptimizationEnv, State
from optenvs.core.spaces import bounded, box, outside_of, stacked
from optenvs.core.struct import static, struct

from .judges import Judge
from .people import Rankings, check_ranking, table

RECOMMENDATIONS = ("agent", "top")


@struct
class Problem:
    """What an agent may know: the box in which to search, and the sizes of a query.

    Attributes:
        lower, upper: the ends of the box, ``(B, d)``.
        shown: the most points m a query.
        ranked: the most points k that are named.
        recommend: ``agent`` where a query is a dict.
    """

    lower: Float[Tensor, "B d"]
    upper: Float[Tensor, "B d"]
    shown: int = static()
    ranked: int = static()
    recommend: str = static()


@struct
class Memory:
    """What the environment keeps: the instance's secrets, and the least value shown so far."""

    oracle: Any
    lowest: Float[Tensor, "B"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RankingOracle(OptimizationEnv):
    """An (m, k)-ranking oracle of a hidden function.

    Args:
        shown: the number m of points a query; at most so many in a query that says how many.
        ranked: the number k of points that are named; ``None`` for all of them.
        recommend: whose recommendation is judged. ``agent``: a query is a dict of ``query`` (m, d), ``count``
            (the first so many points are shown), ``keep`` (the so many best are named, at most ``count``) and
            ``recommendation`` (d). ``top``: a query is the m points alone; the one ranked first is judged.
        noise, noise_scale, noise_most, noise_power: how mistakes are made, see
            :class:`optenvs.envs.ranking.judges.Judge`.
        rankings: what a person said in place of the hidden function, the same for all instances: for each
            query after the first the indices of the named points, the best first; none where none was better.
            A query after the last of them names no point and ends the episode. ``None``: nobody was asked.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`; the main oracle
            is a point shown.
    """

    shown: int = 10
    ranked: int | None = None
    recommend: str = "agent"
    noise: str = "none"
    noise_scale: float = 1.0
    noise_most: float = 0.3
    noise_power: float = 1.0
    rankings: Rankings | None = None

    meanings: ClassVar[dict[str, str]] = {
        "point": "the points shown",
        "action": "the points to be ranked; the one ranked first is judged",
        "query": "the points to be ranked",
        "count": "how many of them are shown",
        "keep": "how many of the best are named",
        "order": "the places of the named points, the best first; -1 where none is",
        "best_shown": "the lowest hidden value of any point shown so far",
    }

    # What an author writes ---------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number d of coordinates of a point."""

    @abc.abstractmethod
    def values(self, state: State, points: Float[Tensor, "B m d"]) -> Float[Tensor, "B m"]:
        """The hidden values of one query. Whatever is random in them is the same for all its points."""

    def truth(self, state: State, recommendation: Float[Tensor, "B d"]) -> Float[Tensor, "B"]:
        """The merit of a recommendation; another one than the value shown where that is random."""
        return self.values(state, recommendation.unsqueeze(1)).squeeze(1)

    def measure(self, state: State, recommendation: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        """More metrics, ``(B,)`` each."""
        return {}

    def point_space(self) -> spaces.Box:
        """The space of one point."""
        return box((self.size,), self.dtype)

    # What it gets ------------------------------------------------------------------------------

    @cached_property
    def _space(self) -> spaces.Box:
        return self.point_space()

    def __post_init__(self) -> None:
        for name in ("shown", "ranked"):
            value, least = getattr(self, name), 2 if name == "shown" else 1
            if name == "ranked" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected a whole number >= {least}, got {value!r}")
        if self.best_count > self.shown:
            raise ValueError(f"ranked: expected at most the {self.shown} points shown, got {self.ranked}")
        if self.recommend not in RECOMMENDATIONS:
            raise ValueError(f"recommend: expected {' or '.join(RECOMMENDATIONS)}, got {self.recommend!r}")
        _ = self.judge
        if self.rankings is not None:
            if self.noise != "none":
                raise ValueError(f"noise: expected 'none' beside rankings of a person, got {self.noise!r}")
            if not isinstance(self.rankings, tuple | list):
                raise TypeError(f"rankings: expected one ranking a query, in a tuple, got {self.rankings!r}")
            for query, ranking in enumerate(self.rankings, 1):
                check_ranking(f"rankings: query {query}", ranking, self.shown, self.best_count)
        super().__post_init__()

    @property
    def best_count(self) -> int:
        """The number k of points that are named."""
        return self.shown if self.ranked is None else self.ranked

    @cached_property
    def judge(self) -> Judge:
        """Who ranks."""
        return Judge(self.noise, self.noise_scale, self.noise_most, self.noise_power)

    @cached_property
    def said(self) -> Int64[Tensor, "T2 k"] | None:
        """What a person said, by number of the query; ``None`` where nobody was asked."""
        if self.rankings is None:
            return None
        return table(self.rankings, self.best_count, self.torch_device)

    @property
    def differentiable(self) -> bool:
        return False  # an order has no slope

    @property
    def ends(self) -> bool:
        return self.rankings is not None

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("ranking",)

    @property
    def bill(self) -> dict[str, int]:
        return {"points": self.shown, "ranking": 1}

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def first_bill(self) -> dict[str, int]:
        return {"points": 1, "ranking": 1}

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        point = self.point_space()
        query = stacked(point, self.shown)
        if self.recommend == "top":
            return query
        return {
            "query": query,
            "count": box((1,), "int64", 1, self.shown),
            "keep": box((1,), "int64", 1, self.best_count),
            "recommendation": point,
        }

    def observation_fields(self) -> dict[str, spaces.Space]:
        return {
            "point": box((self.shown, self.size), self.dtype),
            "order": box((self.best_count,), "int64", -1, self.shown - 1),
        }

    def first_query(self, point: Float[Tensor, "B d"]) -> Action:
        """The query of ``reset``: the starting point alone."""
        query = point.unsqueeze(1).repeat(1, self.shown, 1)
        if self.recommend == "top":
            return query
        one = torch.ones_like(point[:, :1], dtype=torch.int64)
        return {"query": query, "count": one, "keep": one, "recommendation": point}

    def memory(self, oracle: Any, point: Float[Tensor, "B d"]) -> Memory:
        """The memory before the first query."""
        return Memory(oracle=oracle, lowest=torch.full_like(point[:, 0], torch.inf))

    def problem(self, lower: Tensor, upper: Tensor) -> Problem:
        """What an agent may know, given the ends of the box."""
        return Problem(
            lower=lower, upper=upper, shown=self.shown, ranked=self.best_count, recommend=self.recommend
        )

    def answer(self, state: State, action: Action) -> Answer:
        points = action["query"] if isinstance(action, dict) else action
        # the first query shows the start alone, whatever its form
        first = (state.k == 0).unsqueeze(-1)
        count = torch.where(first, 1, action["count"] if isinstance(action, dict) else self.shown)
        left = self.left(state, "points")
        if left is not None:  # points that the rest does not pay are not shown
            count = torch.minimum(count.expand(len(points), 1), left.unsqueeze(-1))
        keep = torch.minimum(count, action["keep"]) if isinstance(action, dict) else count
        place = torch.arange(self.shown, device=points.device)
        shown = place < count
        values = self.values(state, points)
        ended = None
        if self.said is None:
            best = self.judge.order(state.key, state.k, values, shown)[:, : self.best_count]
        else:
            last = len(self.said) - 1
            best = self.said[state.k.clamp(max=last)]
            best = torch.where(best < count, best, -1)  # nobody names what was not shown
            ended = state.k >= last
        order = torch.where(place[: self.best_count] < keep, best, -1)
        if isinstance(action, dict):
            recommendation = action["recommendation"]
        else:
            top = best[:, :1].clamp_min(0)  # the first point where none is named
            recommendation = points.gather(1, top.unsqueeze(-1).expand(-1, 1, self.size)).squeeze(1)
        merit = self.truth(state, recommendation)
        credited, outside, space = shown & (values == values), None, self._space
        if bounded(space):  # what lies outside is ranked and billed, and earns no credit
            credited = credited & ~outside_of(space, points.flatten(0, 1)).view(shown.shape)
            outside = outside_of(space, recommendation)
        seen = torch.where(credited, values, torch.inf).amin(-1)
        lowest = torch.minimum(state.hidden.lowest, seen)
        metrics = {"value": merit, "best_shown": lowest} | self.measure(state, recommendation)
        solved = None
        if state.floor is not None:
            metrics["gap"] = merit - state.floor
            if self.tolerance is not None:
                solved = metrics["gap"] <= self.tolerance
        return Answer(
            observation={"point": points, "order": order},
            merit=merit,
            metrics=metrics,
            solved=solved,
            hidden=Memory(oracle=state.hidden.oracle, lowest=lowest),
            calls={"points": count.squeeze(-1).expand(len(points)), "ranking": 1},
            ended=ended,
            outside=outside,
        )
