"""CMA-ES for whole batches, by Cholesky factors (Krause, Arbones, Igel 2016).

    x_i = m + s A z_i,   z_i ~ N(0, I),   C = A A'
    zw <- sum of w_i z_i over the better half;  m <- m + s A zw
    p_s <- (1 - c_s) p_s + sqrt(c_s (2 - c_s) mu) zw;   s <- s exp(c_s / d_s (|p_s| / E|N(0, I)| - 1))
    p_c <- (1 - c_c) p_c + h sqrt(c_c (2 - c_c) mu) A zw
    C   <- (1 - c_1 - c_mu) C + c_1 (p_c p_c' + (1 - h) c_c (2 - c_c) C) + c_mu sum of w_i (A z_i)(A z_i)'

The default constants are those of Hansen ("The CMA Evolution Strategy: A Tutorial", 2016). Krause, Arbones,
Igel ("CMA-ES with Optimal Covariance Update and Storage Complexity", NIPS 2016) take the factor's inverse
where the tutorial has C^(-1/2); nothing is decomposed but by Cholesky. The negative weights of later versions
are left out. The agent ``cma``, which runs pycma, loops over instances on the host; this one runs them
together, wherever they live, and keeps ``(B, d, d)`` numbers: it is for small d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, normal
from optenvs.core.struct import replace, select, static, struct

from ..core import Agent, Observation, by_row, require
from ..particles._consensus import answer, recommends
from ._search import unshaped


@struct
class CovarianceState:
    """The memory.

    Attributes:
        keys, count: of the random draws, and queries so far, ``(B,)``.
        mean: m, which is recommended.
        step: s, ``(B, 1)``.
        factor: A, lower triangular.
        covariance: C.
        step_path, path: p_s and p_c.
        team: whether a query states the recommendation.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    mean: Float[Tensor, "B d"]
    step: Float[Tensor, "B 1"]
    factor: Float[Tensor, "B d d"]
    covariance: Float[Tensor, "B d d"]
    step_path: Float[Tensor, "B d"]
    path: Float[Tensor, "B d"]
    team: bool = static()


class Constants(NamedTuple):
    """The tutorial's defaults (table 1), of a dimension and a population."""

    weights: tuple[float, ...]
    effective: float
    c_step: float
    d_step: float
    c_path: float
    c_one: float
    c_mu: float
    norm: float


@lru_cache(maxsize=64)
def constants(dim: int, population: int) -> Constants:
    """Those of ``dim`` coordinates and ``population`` points."""
    half = population // 2
    raw = [math.log((population + 1) / 2) - math.log(i + 1) for i in range(half)]
    weights = tuple(w / sum(raw) for w in raw)
    mu = 1 / sum(w * w for w in weights)
    c_step = (mu + 2) / (dim + mu + 5)
    c_one = 2 / ((dim + 1.3) ** 2 + mu)
    return Constants(
        weights=weights,
        effective=mu,
        c_step=c_step,
        d_step=1 + 2 * max(0.0, math.sqrt((mu - 1) / (dim + 1)) - 1) + c_step,
        c_path=(4 + mu / dim) / (dim + 4 + 2 * mu / dim),
        c_one=c_one,
        c_mu=min(1 - c_one, 2 * (mu - 2 + 1 / mu) / ((dim + 2) ** 2 + mu)),
        norm=math.sqrt(dim) * (1 - 1 / (4 * dim) + 1 / (21 * dim * dim)),
    )


@dataclass(frozen=True, eq=False)
class BatchedCMA(Agent):
    """CMA-ES whose population is the points of a query; it begins about their mean and recommends m.

    Args:
        std: the first standard deviation s: a number, or a tensor ``(B,)`` with one for each instance.

    Raises:
        ValueError: a query of fewer than 4 points.
    """

    std: float | Float[Tensor, "B"] = 0.5

    needs = ("value", "swarm")
    together = True

    def __post_init__(self) -> None:
        require(self, "std", torch.all(torch.as_tensor(self.std) > 0), "a number > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> CovarianceState:
        points = observation["point"]
        if points.shape[1] < 4:
            raise ValueError(f"BatchedCMA: expected at least 4 points a query, got {points.shape[1]}")
        mean = points.mean(1)
        std: Any = by_row("std", self.std, mean)
        one = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device).expand(len(mean), -1, -1)
        zero = torch.zeros_like(mean)
        return CovarianceState(
            keys=keys,
            count=torch.zeros_like(keys),
            mean=mean,
            step=std * torch.ones_like(mean[:, :1]),
            factor=one,
            covariance=one,
            step_path=zero,
            path=zero,
            team=recommends(problem),
        )

    def act(self, state: CovarianceState, observation: Observation) -> tuple[Action, CovarianceState]:
        points = observation["point"]
        values = unshaped(observation["value"].squeeze(-1))
        after = select(state.count > 0, self._updated(state, points, values), state)
        drawn = normal(state.keys, "population", tuple(points.shape[1:]), state.count, points.dtype)
        query = after.mean.unsqueeze(1) + after.step.unsqueeze(-1) * (drawn @ after.factor.mT)
        return answer(query, after.mean, state.team), replace(after, count=state.count + 1)

    def _updated(self, state: CovarianceState, points: Tensor, values: Tensor) -> CovarianceState:
        """The memory after the values of its own population."""
        dim, population = points.shape[2], points.shape[1]
        known = constants(dim, population)
        half = len(known.weights)
        order = values.argsort(dim=-1, stable=True)[:, :half].unsqueeze(-1).expand(-1, -1, dim)
        offsets = (points.gather(1, order) - state.mean.unsqueeze(1)) / state.step.unsqueeze(-1)
        weights = torch.tensor(known.weights, dtype=points.dtype).to(points.device).reshape(1, -1, 1)
        moved = (weights * offsets).sum(1)
        white = torch.linalg.solve_triangular(state.factor, moved.unsqueeze(-1), upper=False).squeeze(-1)
        c_s, c_c, mu = known.c_step, known.c_path, known.effective
        step_path = (1 - c_s) * state.step_path + math.sqrt(c_s * (2 - c_s) * mu) * white
        length = torch.linalg.vector_norm(step_path, dim=-1, keepdim=True)
        time = (state.count.to(points.dtype) * 2).unsqueeze(-1)
        begun = length / torch.sqrt(1 - (1 - c_s) ** time) < (1.4 + 2 / (dim + 1)) * known.norm
        h = begun.to(points.dtype)
        path = (1 - c_c) * state.path + h * math.sqrt(c_c * (2 - c_c) * mu) * moved
        one = path.unsqueeze(-1) * path.unsqueeze(-2)
        late = ((1 - h) * known.c_one * c_c * (2 - c_c)).unsqueeze(-1)
        many = (weights * offsets).mT @ offsets
        covariance = (1 - known.c_one - known.c_mu + late) * state.covariance
        covariance = covariance + known.c_one * one + known.c_mu * many
        factor, wrong = torch.linalg.cholesky_ex(covariance)
        step = state.step * torch.exp((c_s / known.d_step * (length / known.norm - 1)).clamp_max(1.0))
        sound = (wrong == 0) & (factor.flatten(1).abs() < torch.inf).all(-1)
        factor, covariance = select(sound, (factor, covariance), (state.factor, state.covariance))
        return CovarianceState(
            keys=state.keys,
            count=state.count,
            mean=state.mean + state.step * moved,
            step=step,
            factor=factor,
            covariance=covariance,
            step_path=step_path,
            path=path,
            team=state.team,
        )
