"""What the direct searches share: the incumbent, and lists of trial points that are asked opportunistically.

An iteration tries a list of points in order and stops at the first that is better than the incumbent. A query
holds the next ``m`` of the list, of which the environment answers, and bills, those up to the first success;
so a list longer than ``m`` takes several queries at the same cost.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import replace, select, struct

from ..core import Agent, Observation, require

LOWEST = -1e30
"""A threshold that no value is below: all points of a query are answered."""


@struct
class Incumbent:
    """The best point so far.

    Attributes:
        point: ``(B, n)``.
        value: ``(B,)``.
        outputs: the network's at the point, ``(B, p)``.
    """

    point: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    outputs: Float[Tensor, "B p"]


def known(agent: Agent, problem: Any) -> Any:
    """The problem as these agents keep it, without a network.

    Raises:
        ValueError: its values do not hold the constraints.
    """
    if not problem.penalised and problem.task.constraint_count:
        raise ValueError(
            f"{type(agent).__name__}: formulation: expected 'penalty', whose values hold the constraints, "
            "got 'constraints'"
        )
    return replace(problem, weights=None)


def first(observation: Observation) -> Incumbent:
    """The point with which an episode starts."""
    return Incumbent(
        point=observation["point"][:, 0],
        value=observation["value"][:, 0],
        outputs=observation["outputs"][:, 0],
    )


def improved(
    observation: Observation, held: Incumbent
) -> tuple[Bool[Tensor, "B"], Int64[Tensor, "B"], Incumbent]:
    """Whether a point answered is better than ``held``, the first that is, and the incumbent then."""
    better = (observation["evaluated"] > 0) & (observation["failed"] == 0)
    better = better & (observation["value"] < held.value.unsqueeze(-1))
    found, index = better.any(-1), better.long().argmax(-1)

    def row(field: str) -> Tensor:
        rows = observation[field]
        place = index[:, None, None].expand(-1, 1, rows.shape[-1])
        return rows.gather(1, place).squeeze(1)

    value = observation["value"].gather(1, index.unsqueeze(-1)).squeeze(-1)
    return found, index, select(found, Incumbent(row("point"), value, row("outputs")), held)


def inside(problem: Any, points: Float[Tensor, "B *m n"]) -> Float[Tensor, "B *m n"]:
    """``points``, cut to the box where no query may leave it."""
    if not problem.boxed:
        return points
    return project(problem, points)


def project(problem: Any, points: Float[Tensor, "B *m n"]) -> Float[Tensor, "B *m n"]:
    """``points``, cut to the box."""
    lower, upper = problem.lower, problem.upper
    if points.ndim == 3:
        lower, upper = lower.unsqueeze(1), upper.unsqueeze(1)
    return torch.clamp(points, lower, upper)


def query(
    problem: Any,
    observation: Observation,
    held: Incumbent,
    trials: Float[Tensor, "B K n"],
    place: Int64[Tensor, "B"],
    end: Int64[Tensor, "B"],
    base: Float[Tensor, "B n"] | None = None,
    along: Float[Tensor, "B p"] | None = None,
) -> dict[str, Tensor]:
    """Ask the trial points ``place .. end - 1``, as many as fit, until one is better than ``held``.

    Args:
        problem: what the agent knows.
        observation: the last answer, whose form says that of the query.
        held: the incumbent.
        trials: the list; points outside a box that no query may leave are cut to it.
        place: the first of them.
        end: the one after the last; none is asked where it is not more than ``place``.
        base: the base point of a product; the incumbent where it is ``None``.
        along: its cotangent; zero asks none.
    """
    room, most = observation["point"].shape[1], trials.shape[1]
    index = (place.unsqueeze(-1) + torch.arange(room, device=place.device)).clamp_max(most - 1)
    points = inside(problem, trials.gather(1, index.unsqueeze(-1).expand(-1, -1, trials.shape[-1])))
    asked = {
        "points": points,
        "count": (end - place).clamp(0, room).unsqueeze(-1),
        "threshold": held.value.unsqueeze(-1),
    }
    if not problem.penalised:
        asked["allowance"] = torch.zeros_like(asked["threshold"])
    if "vjp" in observation or "jacobian" in observation:
        asked["base"] = held.point if base is None else inside(problem, base)
    if "vjp" in observation:
        asked["cotangent"] = torch.zeros_like(held.outputs) if along is None else along
    return asked


def check_radii(agent: Agent, *limits: str) -> None:
    """Require the field ``radius`` to be positive, and each named pair of limits positive and in order."""
    require(agent, "radius", agent.radius > 0, "a number > 0")  # type: ignore[attr-defined]
    for field in limits:
        low, high = getattr(agent, field)
        require(agent, field, 0 < low <= high, "two numbers, 0 < low <= high")


def check_factors(agent: Agent, *fields: str) -> None:
    """Require each factor of a radius to be more than 1."""
    for field in fields:
        require(agent, field, getattr(agent, field) > 1, "a number > 1")
