"""Swarms: N particles ask one oracle together, and the team stands behind one recommendation.

* State: the N points asked last with their values, the recommendation, the best point so far, the instance.
* Query: N points; with ``recommend="agent"`` also the point that the team recommends.
* Answer: points and values; with ``oracle="gradient"`` also the gradients.
* Bill: one value (and gradient) for each point that has moved. A point asked again, bit for bit, of an oracle
  that would say the same is not billed again, so that a partial update costs what it moves. Points that the
  rest of the budget does not pay stay, with their answers, where they were last: ``point`` says so.
* End: also after :data:`PATIENCE` queries in a row that move no point.
* Merit and metrics are measured at the recommendation, exact and unbilled.

A swarm of another oracle is a subclass with :meth:`Swarm.ask`, :meth:`Swarm.judge` and what they need.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action, Answer, State
from optenvs.core.multi import MultiAgentEnv
from optenvs.core.named import named
from optenvs.core.spaces import bounded, box, outside_of
from optenvs.core.struct import replace, struct

RECOMMENDATIONS = ("agent", "best", "mean")
SIGHTS = ("swarm", "self")

PATIENCE = 100
"""Queries in a row without a new point after which an episode ends: a swarm that has come together in one
point would ask the same for ever, and its budget never be spent."""


@struct
class Memory:
    """What a swarm's environment keeps.

    Attributes:
        oracle: the instance's own secrets: the function, the order of the data.
        recommendation: the point that the team stands behind now.
        best_point, best_value: the point with the least value answered so far, and that value.
        lowest: the least exact value at a point asked so far.
        evaluation: the last costly measurements.
        rested: queries in a row in which no point was new, ``(B,)``.
    """

    oracle: Any
    recommendation: Float[Tensor, "B d"]
    best_point: Float[Tensor, "B d"]
    best_value: Float[Tensor, "B"]
    lowest: Float[Tensor, "B"]
    evaluation: dict[str, Tensor]
    rested: Int64[Tensor, "B"]


class Reply(NamedTuple):
    """What the oracle says to N points: values as answered and without noise, gradients where it has them."""

    value: Float[Tensor, "B N"]
    exact: Float[Tensor, "B N"]
    gradient: Float[Tensor, "B N d"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Swarm(MultiAgentEnv):
    """N particles on one oracle.

    Args:
        particles: the number N of points a query.
        recommend: whose recommendation is judged: ``agent`` (a query is a dict of ``query``, the points, and
            ``recommendation``), ``best`` (the point with the least value answered so far) or ``mean`` (the
            mean of the points); with the latter two a query is the points alone.
        sees: what a particle sees in multi-agent views: ``swarm`` (the points and values of all) or ``self``.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    particles: int = 100
    recommend: str = "agent"
    sees: str = "swarm"
    budget: Any = 50_000

    meanings: ClassVar[dict[str, str]] = {
        "action": "the particles",
        "query": "the particles",
        "point": "the particles",
        "value": "the value of each particle",
        "gradient": "the gradient at each particle",
        "best_particle": "the least true value of the present particles",
        "best_ever": "the least true value of any particle so far",
    }

    agent_name: ClassVar[str] = "particle"
    painter: ClassVar[str] = "optenvs.envs.particles.picture:swarm"

    # What an author writes ---------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number d of coordinates of a point."""

    @abc.abstractmethod
    def ask(self, state: State, points: Float[Tensor, "B N d"]) -> Reply:
        """The oracle's answer to one query."""

    @abc.abstractmethod
    def judge(self, state: State, point: Float[Tensor, "B d"]) -> Float[Tensor, "B"]:
        """The exact value at the recommendation."""

    @property
    @abc.abstractmethod
    def price(self) -> dict[str, int]:
        """What a point costs, by oracle kind; the first is the main one. A query costs one ``swarm`` more."""

    def repeated(self, state: State) -> Bool[Tensor, "B"] | bool:
        """Whether a point that was asked in the last query would be answered alike in this one."""
        return True

    def measure(
        self,
        state: State,
        points: Float[Tensor, "B N d"],
        recommendation: Float[Tensor, "B d"],
        merit: Float[Tensor, "B"],
    ) -> dict[str, Tensor]:
        """More metrics, ``(B,)`` each."""
        return {}

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        if isinstance(self.particles, bool) or not isinstance(self.particles, int) or self.particles < 1:
            raise ValueError(f"particles: expected a whole number >= 1, got {self.particles!r}")
        if self.recommend not in RECOMMENDATIONS:
            raise ValueError(f"recommend: expected {' or '.join(RECOMMENDATIONS)}, got {self.recommend!r}")
        if self.sees not in SIGHTS:
            raise ValueError(f"sees: expected {' or '.join(SIGHTS)}, got {self.sees!r}")
        super().__post_init__()

    @property
    def agents(self) -> int:
        return self.particles

    @property
    def public(self) -> tuple[str, ...]:  # type: ignore[override]
        """What each particle sees of all of them."""
        return ("point", "value") if self.sees == "swarm" else ()

    @property
    def bill(self) -> dict[str, int]:
        return {kind: self.particles * cost for kind, cost in self.price.items()} | {"swarm": 1}

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def least_bill(self) -> dict[str, int]:
        return self.bill if self.fixed_cost else self.price | {"swarm": 1}

    def agent_action_fields(self) -> spaces.Box | dict[str, spaces.Box]:
        return box((self.size,), self.dtype)

    @cached_property
    def _point_space(self) -> spaces.Box:
        fields = self.agent_action_fields()
        assert isinstance(fields, spaces.Box)
        return fields

    def team_action_fields(self) -> dict[str, spaces.Box]:
        return {"recommendation": self._point_space} if self.recommend == "agent" else {}

    def agent_observation_fields(self) -> dict[str, spaces.Box]:
        point = box((self.size,), self.dtype)
        fields = {"point": point, "value": box((1,), self.dtype)}
        return fields | ({"gradient": point} if "gradient" in self.oracles else {})

    def first_query(self, points: Float[Tensor, "B N d"]) -> Action:
        """The query of ``points`` before anything is known: it recommends their mean."""
        return {"query": points, "recommendation": points.mean(1)} if self.recommend == "agent" else points

    def empty_memory(
        self, oracle: Any, points: Float[Tensor, "B N d"], evaluation: dict[str, Tensor]
    ) -> Memory:
        """The memory before the first query."""
        nothing = torch.full_like(points[:, 0, 0], torch.inf)
        return Memory(
            oracle=oracle,
            recommendation=points[:, 0],
            best_point=points[:, 0],  # where none ever has a finite value, the first is judged
            best_value=nothing,
            lowest=nothing,
            evaluation=evaluation,
            rested=torch.zeros_like(nothing, dtype=torch.int64),
        )

    def answer(self, state: State, action: Action) -> Answer:
        memory: Memory = state.hidden
        points, calls = self._paid(state, action["query"] if isinstance(action, dict) else action)
        reply = self.ask(state, points)
        outside = self._outside(points)
        credited = _credited(reply.value, outside)
        value, index = credited.min(1)
        better = value < memory.best_value
        found = points.gather(1, index[:, None, None].expand(-1, 1, self.size)).squeeze(1)
        best_point = torch.where(better.unsqueeze(-1), found, memory.best_point)
        if isinstance(action, dict):
            recommendation = action["recommendation"]
        else:
            recommendation = best_point if self.recommend == "best" else points.mean(1)
        exact = value if reply.exact is reply.value else _credited(reply.exact, outside).amin(1)
        lowest = torch.minimum(memory.lowest, exact)
        merit = self.judge(state, recommendation)
        metrics = {"value": merit, "best_particle": exact, "best_ever": lowest}
        metrics |= self.measure(state, points, recommendation, merit) | memory.evaluation
        if state.floor is not None:
            metrics["gap"] = merit - state.floor
        solved = None
        if self.tolerance is not None and state.floor is not None:
            solved = merit - state.floor <= self.tolerance
        observation = {"point": points, "value": reply.value.unsqueeze(-1)}
        if reply.gradient is not None:
            observation["gradient"] = reply.gradient
        # a swarm none of whose points has a finite value has nothing to go on by: it has diverged
        finite = (value if outside is None else _credited(reply.value).amin(1)) < torch.inf
        merit = torch.where(finite, merit, torch.nan)
        kept = Memory(
            oracle=memory.oracle,
            recommendation=recommendation,
            best_point=best_point,
            best_value=torch.minimum(memory.best_value, value),
            lowest=lowest,
            evaluation=memory.evaluation,
            rested=memory.rested,
        )
        ended = None
        if calls is not None:
            at_rest = calls[next(iter(self.price))] == 0
            kept = replace(kept, rested=torch.where(at_rest, memory.rested + 1, 0))
            ended = kept.rested >= PATIENCE
        away = self._outside(recommendation.unsqueeze(1))
        return Answer(
            observation=observation,
            merit=merit,
            metrics=metrics,
            solved=solved,
            hidden=kept,
            calls=calls,
            ended=ended,
            outside=None if away is None else away.squeeze(1),
        )

    def _outside(self, points: Float[Tensor, "B m d"]) -> Bool[Tensor, "B m"] | None:
        """The points outside of their bounds, which are answered and billed but earn no credit."""
        space = self._point_space
        return outside_of(space, points.flatten(0, 1)).view(points.shape[:2]) if bounded(space) else None

    def _paid(self, state: State, points: Tensor) -> tuple[Tensor, dict[str, Tensor] | None]:
        """The points of the answer, and its bill: the price of each that has moved since the last query.

        Points that the rest of the budget does not pay stay where they were last answered.
        """
        alike = self.repeated(state)
        if alike is False or "point" not in state.observation:
            return points, None
        before = state.observation["point"]
        # what has not moved has changes that sum to 0; comparing and asking for any takes twice the time
        change = points.detach() - before.detach()
        asked = change.abs_().sum(-1) != 0
        if isinstance(alike, Tensor):
            asked = asked | ~alike.unsqueeze(-1)
        for kind, cost in self.price.items():
            left = self.left(state, kind)
            if left is not None:
                paid = asked.cumsum(-1) <= (left // cost).unsqueeze(-1)
                points = torch.where((paid | ~asked).unsqueeze(-1), points, before)
                asked = asked & paid
        count = asked.sum(-1)
        bill = {kind: count if cost == 1 else count * cost for kind, cost in self.price.items()}
        return points, bill | {"swarm": torch.ones_like(count)}

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``recommendation``: the point that the team stands behind, ``(B, d)``."""
        return {"recommendation": state.hidden.recommendation}

    def film(self, states: list[State], path: Any, fps: int = 10) -> None:
        """Write the episode (its first instance) as a moving picture.

        Args:
            states: the states in order; ``rollout(..., on_step=lambda _, state: states.append(state))``
                collects them.
            path: a ``.gif``, or a ``.mp4`` where ffmpeg is installed.
            fps: pictures a second.
        """
        named("optenvs.envs.particles.picture:film")(self, states, path, fps)


def _credited(value: Tensor, outside: Tensor | None = None) -> Tensor:
    """Values in which what is no number, or of a point that earns no credit, is worse than any."""
    credited = value == value
    return torch.where(credited if outside is None else credited & ~outside, value, torch.inf)
