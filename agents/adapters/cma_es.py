"""CMA-ES by pycma (Hansen and Ostermeier 2001; Hansen 2016, "The CMA Evolution Strategy: A Tutorial").

A population is drawn about a mean, and the order of its points moves the mean and shapes the covariance; no
value is looked at. So it runs where values are answered, to one point or to several a query, and where
nothing but an order is. pycma is told the places of the points, 0 for the best, in either case: values and
their order lead to the same next points.

It is rebuilt by replay where a saved run is resumed or an older state asked again, as
:mod:`agents.adapters.ask_tell` describes; its random numbers are drawn from the instance's key by counters.
There is one object an instance: the batch is a loop on the host. Of pycma's criteria to stop none is used, as
the budget of the environment ends a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import replace, static, struct

from ..core import Agent, Observation, require
from ..ranking._descent import chosen, whole
from ._cma_run import CMARun
from ._queries import ORDERS, SWARMS, asked, form_of, scored

_ROOM = 256
_SHARE = 0.3
"""The first standard deviation as a share of the box (Hansen 2016, appendix A)."""


@struct
class CMAState:
    """The past of ``B`` runs, from which they can be rebuilt.

    Attributes:
        keys: of the random draws, ``(B,)``.
        mean, std: the first distribution.
        lower, upper: where points stay, infinite where they are free.
        asked: the last query.
        size: how many of its points are the method's; 0 before the first query.
        told: the scores of the queries so far: values, or places in an order.
        sizes: how many points of each were the method's.
        count: queries so far, ``(B,)``.
        best, least: the point that the method stands behind, and its score.
        population: points of a generation.
        form: of a query, see :mod:`agents.adapters._queries`.
        named: points that a ranking names.
    """

    keys: Keys
    mean: Float[Tensor, "B d"]
    std: Float[Tensor, "B d"]
    lower: Float[Tensor, "B d"]
    upper: Float[Tensor, "B d"]
    asked: Float[Tensor, "B m d"]
    size: Int64[Tensor, "B 1"]
    told: Float[Tensor, "B past m"]
    sizes: Int64[Tensor, "B past"]
    count: Int64[Tensor, "B"]
    best: Float[Tensor, "B d"]
    least: Float[Tensor, "B"]
    population: int = static()
    form: str = static()
    named: int = static()


@dataclass(frozen=True, eq=False, kw_only=True)
class CMA(Agent):
    """CMA-ES with pycma's defaults.

    It begins about the environment's own point, the mean of a swarm. Values of a population may come by
    several queries; an order is of a whole one. Where a query states a recommendation it is the best point so
    far or, with orders, that of the last population.

    Args:
        std: the first standard deviation of each coordinate; ``None`` for 0.3 of the width of the problem's
            box, or 0.5 where it has none.
        population: points of a generation; ``None`` for as many as a query holds and, with values, at least
            4 + 3 log(d).
        bounded: whether points, and the start, stay within the problem's box.
    """

    std: float | None = None
    population: int | None = None
    bounded: bool = True
    _live: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    needs = ("value|ranking",)
    on_host = True
    together = True

    def __post_init__(self) -> None:
        require(self, "std", self.std is None or 0 < self.std < math.inf, "a number > 0 or None")
        if self.population is not None:
            whole(self, "population", 2)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> CMAState:
        form = form_of(self, problem, observation)
        points, scores = scored(observation, form)
        mean = points.mean(1) if form in SWARMS else points[:, 0]
        endless = torch.full_like(mean, torch.inf)
        lower, upper = getattr(problem, "lower", -endless), getattr(problem, "upper", endless)
        width = upper - lower
        std = torch.where(width.isfinite(), _SHARE * width, 0.5)
        if not self.bounded:
            lower, upper = -endless, endless
        horizon = float(observation["N"].max())
        past = max(int(horizon), 1) if math.isfinite(horizon) else _ROOM
        least, index = scores.min(-1, keepdim=True)
        return CMAState(
            keys=keys,
            mean=torch.clamp(mean, lower, upper),
            std=std if self.std is None else torch.full_like(std, self.std),
            lower=lower,
            upper=upper,
            asked=torch.zeros_like(points),
            size=torch.zeros_like(keys).unsqueeze(-1),
            told=scores.new_zeros(len(keys), past, scores.shape[1]),
            sizes=keys.new_zeros(len(keys), past),
            count=torch.zeros_like(keys),
            best=chosen(points, index),
            least=least.squeeze(-1),
            population=self._population(points.shape[1], points.shape[2], form),
            form=form,
            named=getattr(problem, "ranked", 0),
        )

    def _population(self, room: int, dim: int, form: str) -> int:
        """The points of a generation."""
        if dim < 2:
            raise ValueError(f"CMA: expected at least 2 coordinates, which pycma needs, got {dim}")
        if form not in ORDERS:
            return max(room, 4 + int(3 * math.log(dim))) if self.population is None else self.population
        size = room if self.population is None else self.population
        if size > room or (form == "top" and size < room):
            most = "" if form == "top" else "at most "
            raise ValueError(
                f"CMA: population: expected {most}{room}, as one ranking holds, or None, got {size}"
            )
        return size

    def act(self, state: CMAState, observation: Observation) -> tuple[Action, CMAState]:
        runs, (points, scores) = self._runs(state), scored(observation, state.form)
        told, sizes = state.told, state.sizes
        if int(state.count.max()) > told.shape[1]:  # without a budget the past has no known length
            told, sizes = (torch.cat((past, torch.zeros_like(past)), 1) for past in (told, sizes))
        now = torch.arange(told.shape[1], device=told.device) == state.count.unsqueeze(1) - 1
        told = torch.where(now.unsqueeze(-1), scores.unsqueeze(1), told)
        sizes = torch.where(now, state.size, sizes)
        next_ = []
        answers = zip(scores.double().cpu().numpy(), state.size[:, 0].tolist(), strict=True)
        for run, (answer, count) in zip(runs, answers, strict=True):
            if count:  # the first answer is to the environment's own question
                run.tell(answer[:count])
            next_.append(run.ask(points.shape[1]))
        size = torch.tensor([[len(new)] for new in next_], device=told.device)
        query = self._fitting(state, np.stack([_filled(new, points.shape[1]) for new in next_]))
        if state.form in SWARMS:  # what stays where it is costs nothing
            mine = torch.arange(points.shape[1], device=told.device) < size
            query = torch.where(mine.unsqueeze(-1), query, points)
        least, index = scores.min(-1)
        ordered = state.form in ORDERS
        found = observation["order"][:, 0] >= 0 if ordered else least < state.least
        after = replace(
            state,
            asked=query,
            size=size,
            told=told,
            sizes=sizes,
            count=state.count + 1,
            best=torch.where(found.unsqueeze(-1), chosen(points, index.unsqueeze(-1)), state.best),
            least=torch.where(found, least, state.least),
        )
        self._live.update(told=told, runs=runs)
        return asked(observation, state.form, query, size, after.best, state.named), after

    def _runs(self, state: CMAState) -> list[CMARun]:
        """The live objects of ``state``: those at hand, or rebuilt."""
        if self._live.get("told") is state.told:
            return self._live.pop("runs")
        return [self._replay(state, row) for row in range(len(state.keys))]

    def _replay(self, state: CMAState, row: int) -> CMARun:
        mean, std, lower, upper = (
            leaf[row].double().cpu().numpy() for leaf in (state.mean, state.std, state.lower, state.upper)
        )
        run = CMARun(mean, std, lower, upper, state.population, state.keys[row : row + 1].cpu())
        room, count = state.asked.shape[1], int(state.count[row])
        for past in range(count - 1):
            run.ask(room)
            size = int(state.sizes[row, past])
            run.tell(state.told[row, past, :size].double().cpu().numpy())
        if count:
            again = self._fitting(state, _filled(run.ask(room), room)[None], row)[0]
            size = int(state.size[row])
            if not torch.equal(again[:size], state.asked[row, :size]):
                raise RuntimeError(
                    "CMA: pycma asks something else when it is rebuilt and told the same; was the run saved "
                    "by another version of it?"
                )
        return run

    def _fitting(self, state: CMAState, points: np.ndarray, row: int | None = None) -> Tensor:
        """Points in the precision of the problem, and within its box after rounding."""
        lower, upper = state.lower, state.upper
        if row is not None:
            lower, upper = lower[row : row + 1], upper[row : row + 1]
        return torch.clamp(torch.from_numpy(points).to(state.asked), lower.unsqueeze(1), upper.unsqueeze(1))


def _filled(points: np.ndarray, room: int) -> np.ndarray:
    """The points, then the first one as often as there is room."""
    return np.concatenate((points, np.repeat(points[:1], room - len(points), 0)))
