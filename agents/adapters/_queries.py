"""Populations in the form that an environment is asked: one point, a poll, a swarm, or some to be ranked.

What is answered is one score a point, of which less is better: a value, or a place in an order.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.errors import OracleMismatch

from ..core import Agent, Observation
from ..particles._consensus import recommends
from ..ranking._descent import places
from ..surrogate._queries import LOWEST

ORDERS = ("ranking", "top")
"""Forms that are answered by an order: a dict with counts and a recommendation, or points alone."""
SWARMS = ("team", "swarm")
"""Forms of points that all have values: with a recommendation, or points alone."""


def form_of(agent: Agent, problem: Any, observation: Observation) -> str:
    """The form of a query: ``point``, ``poll``, or one of :data:`ORDERS` and :data:`SWARMS`.

    Raises:
        OracleMismatch: the answer is neither values nor an order.
        ValueError: the values do not hold the constraints.
    """
    if "order" in observation:
        return "ranking" if problem.recommend == "agent" else "top"
    name = type(agent).__name__
    if "value" not in observation:
        raise OracleMismatch(f"agent {name} needs values or an order, but is shown {', '.join(observation)}")
    if "constraints" in observation:
        raise ValueError(
            f"{name}: formulation: expected 'penalty', whose values hold the constraints, got 'constraints'"
        )
    if observation["point"].ndim == 2:
        return "point"
    if "evaluated" in observation:
        return "poll"
    return "team" if recommends(problem) else "swarm"


def scored(observation: Observation, form: str) -> tuple[Float[Tensor, "B m d"], Float[Tensor, "B m"]]:
    """The points of the last query with their scores, infinite where there is no number."""
    points = observation["point"]
    if form in ORDERS:
        return points, places(observation["order"], points.shape[1]).to(points.dtype)
    value = observation["value"]
    if form == "point":
        points = points.unsqueeze(1)
    elif form == "poll":
        value = torch.where(observation["evaluated"] > 0, value, torch.inf)
    else:
        value = value.squeeze(-1)
    return points, torch.where(value == value, value, torch.inf)


def asked(
    observation: Observation,
    form: str,
    points: Float[Tensor, "B m d"],
    size: Int64[Tensor, "B 1"],
    best: Float[Tensor, "B d"],
    named: int = 0,
) -> Action:
    """The query of the first ``size`` points.

    Args:
        observation: the last answer, which says what a poll asks besides.
        form: of the query.
        points: as many as a query holds; those of a swarm after the first ``size`` are the last ones again.
        size: how many are the method's.
        best: the recommendation, where a query states one.
        named: how many a ranking names at most.
    """
    if form == "point":
        return points[:, 0]
    if form == "poll":
        query = {"points": points, "count": size, "threshold": torch.full_like(points[:, 0, :1], LOWEST)}
        if "vjp" in observation or "jacobian" in observation:
            query["base"] = points[:, 0]
        if "vjp" in observation:
            query["cotangent"] = torch.zeros_like(observation["outputs"][:, 0])  # asks none
        return query
    if form == "ranking":
        return {"query": points, "count": size, "keep": size.clamp_max(named), "recommendation": best}
    return {"query": points, "recommendation": best} if form == "team" else points
