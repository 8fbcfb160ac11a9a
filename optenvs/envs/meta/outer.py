"""What meta-training and discovery share: a rule's weights are the point, and are judged by what is held out.

A query is a point of weights, or for ``oracle="fitness"`` a population and the weights that are recommended.
What is played for it, a subclass says; the loss of that is only the answer's ``value``. The merit is a
measurement on held-out tasks, made every ``evaluation_period`` queries, carried between, and never billed.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import only_part, parts
from optenvs.core.evaluations import Evaluations
from optenvs.core.random import Keys
from optenvs.core.rewards import REWARDS, Progress
from optenvs.core.spaces import box
from optenvs.core.struct import replace, static, struct

ORACLES = ("gradient", "fitness")


@struct
class Known:
    """What an agent may know: members of a query, and who recommends."""

    particles: int = static()
    recommend: str = static()


@struct
class Judged:
    """What is kept from query to query, at least.

    Attributes:
        weights: those that are judged, ``(B, D)``.
        measured: whether they, or earlier ones, have been measured, ``(B,)``.
        evaluation: the last measurement.
    """

    weights: Float[Tensor, "B D"]
    measured: Bool[Tensor, "B"]
    evaluation: dict[str, Tensor]


class Played(NamedTuple):
    """What a query was answered.

    Attributes:
        observation: the answer.
        metrics: of what was played.
        calls: what it cost, by kind, where that is not what the bill states.
        unmeasured: the merit as long as nothing has been measured, ``(B,)``.
        kept: what else changes in the memory.
    """

    observation: dict[str, Tensor]
    metrics: dict[str, Tensor]
    calls: dict[str, Tensor]
    unmeasured: Float[Tensor, "B"]
    kept: dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class RuleSearch(OptimizationEnv):
    """A search of a rule's weights.

    Args:
        oracle: ``gradient``, of a loss of the point, or ``fitness``, of the members of a population.
        particles: members of a population, or episodes at once.
        evaluation_period: queries between two measurements on held-out tasks.
    """

    oracle: str
    particles: int
    evaluation_period: Evaluations = 10
    dtype: str = "float64"

    keeps: ClassVar[type[Judged]] = Judged
    """What is kept from query to query."""
    measurements: ClassVar[tuple[str, ...]]
    """What is measured on held-out tasks, by name."""
    meanings: ClassVar = {
        "action": "the weights of the rule",
        "query": "the weights of each member of the population",
        "recommendation": "the weights that are judged",
        "point": "the weights that were asked",
    }

    # What a subclass writes --------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """D, the number of the rule's weights."""

    @abc.abstractmethod
    def begun(self, keys: Keys) -> Float[Tensor, "B D"]:
        """The weights to begin with."""

    @abc.abstractmethod
    def population(self, state: State, query: Float[Tensor, "B P D"]) -> Played:
        """What the members of a population are worth."""

    @abc.abstractmethod
    def slope(self, state: State, weights: Float[Tensor, "B D"]) -> Played:
        """The loss of a point and its gradient."""

    @abc.abstractmethod
    def held(self, weights: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        """The merit of weights on held-out tasks, and all :attr:`measurements` there."""

    def inner(self, keys: Keys) -> dict[str, Any]:
        """What else is kept at first."""
        return {}

    # What it gets ------------------------------------------------------------------------------

    @property
    def differentiable(self) -> bool:
        return False

    @property
    def measures_merit(self) -> bool:
        return True

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "gradient") if self.oracle == "gradient" else ("value", "swarm")

    @property
    def least_bill(self) -> dict[str, int]:
        return self.bill

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        point = box((self.size,), self.dtype)
        if self.oracle == "gradient":
            return point
        return {"query": box((self.particles, self.size), self.dtype), "recommendation": point}

    def observation_fields(self) -> dict[str, spaces.Space]:
        size, count = self.size, self.particles
        shapes: dict[str, tuple[int, ...]] = {"point": (count, size), "value": (count, 1)}
        if self.oracle == "gradient":
            shapes = {"point": (size,), "value": (1,), "gradient": (size,)}
        return {name: box(shape, self.dtype) for name, shape in shapes.items()}

    def sample(self, keys: Keys) -> Instance:
        weights = self.begun(keys)
        start: Action = weights
        if self.oracle == "fitness":
            query = weights.unsqueeze(1).repeat(1, self.particles, 1)
            start = {"query": query, "recommendation": weights}
        memory = self.keeps(
            weights=weights,
            measured=torch.zeros_like(keys, dtype=torch.bool),
            evaluation=dict.fromkeys(self.measurements, torch.full_like(weights[:, 0], torch.nan)),
            **self.inner(keys),
        )
        floor = torch.zeros_like(weights[:, 0]) if self.bounded_below else None
        problem = Known(particles=self.particles, recommend="agent")
        return Instance(problem=problem, hidden=memory, start=start, floor=floor)

    def answer(self, state: State, action: Action) -> Answer:
        memory: Judged = state.hidden
        if self.oracle == "fitness":
            asked = parts(self.name, action, ("query", "recommendation"))
            weights, found = asked["recommendation"], self.population(state, asked["query"])
        else:
            weights = only_part(self.name, action)
            found = self.slope(state, weights)
        merit = torch.where(memory.measured, state.merit, found.unmeasured)
        return Answer(
            observation=found.observation,
            merit=merit,
            metrics=memory.evaluation | found.metrics,
            solved=None if self.tolerance is None else memory.measured & (merit <= self.tolerance),
            hidden=replace(memory, weights=weights, **found.kept),
            calls={kind: torch.full_like(state.k, cost) for kind, cost in self.bill.items()} | found.calls,
        )

    def evaluate(self, state: State) -> State:
        memory: Judged = state.hidden
        with torch.no_grad():
            merit, evaluation = self.held(memory.weights.detach())
        best = torch.where(memory.measured, torch.minimum(state.best, merit), merit)
        before = torch.where(memory.measured, state.best, merit)
        return replace(
            state,
            merit=merit,
            best=best,
            reward=REWARDS[self.reward](Progress(merit, best, before, state.floor)),
            metrics=state.metrics | evaluation,
            hidden=replace(memory, measured=torch.ones_like(memory.measured), evaluation=evaluation),
        )

    def recordable(self, state: State) -> dict[str, Tensor]:
        """``recommendation``: the weights that are judged, ``(B, D)``."""
        return {"recommendation": state.hidden.weights}
