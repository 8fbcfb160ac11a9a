"""The progressive barrier (Audet and Dennis 2009): a direct search may leave the feasible set, and returns.

The violation of a point is h = sum_j max(c_j, 0)^2. Two incumbents are kept: the best feasible point, and the
best in value among infeasible points with h at most a limit, which falls. What a new limit may choose from is
the set of points that no other one beats in both value and violation.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.struct import replace, struct

from ..core import Observation

FAR = 1e30
"""In a query: a threshold that no value passes, with a minus; one that every value passes."""
_ROOM = 16


@struct
class Seen:
    """The points of one answer; infinite value and violation for those not answered, or without value.

    Attributes:
        point: ``(B, m, n)``.
        value, violation: ``(B, m)``.
    """

    point: Float[Tensor, "B m n"]
    value: Float[Tensor, "B m"]
    violation: Float[Tensor, "B m"]


@struct
class Barrier:
    """What is remembered of the points seen. A value is infinite where there is no such point yet.

    Attributes:
        feasible, feasible_value: the best feasible point, ``(B, n)`` and ``(B,)``.
        infeasible, infeasible_value, violation: the infeasible incumbent.
        limit: the most violation that an infeasible incumbent may have, ``(B,)``.
        points, values, violations: infeasible points that none beats, by violation, ``(B, room, ...)``.
        better: whether this iteration has seen less violation than the infeasible incumbent's, ``(B,)``.
    """

    feasible: Float[Tensor, "B n"]
    feasible_value: Float[Tensor, "B"]
    infeasible: Float[Tensor, "B n"]
    infeasible_value: Float[Tensor, "B"]
    violation: Float[Tensor, "B"]
    limit: Float[Tensor, "B"]
    points: Float[Tensor, "B room n"]
    values: Float[Tensor, "B room"]
    violations: Float[Tensor, "B room"]
    better: Bool[Tensor, "B"]


def empty(start: Float[Tensor, "B n"]) -> Barrier:
    """Nothing seen."""
    none = torch.full_like(start[:, 0], torch.inf)
    rows = none.unsqueeze(-1).repeat(1, _ROOM)
    return Barrier(
        feasible=start,
        feasible_value=none,
        infeasible=start,
        infeasible_value=none,
        violation=none,
        limit=none,
        points=start.unsqueeze(1).repeat(1, _ROOM, 1),
        values=rows,
        violations=rows,
        better=torch.zeros_like(none, dtype=torch.bool),
    )


def read(observation: Observation) -> Seen:
    """The answered points of an observation."""
    value = observation["value"]
    violation = torch.zeros_like(value)
    if "constraints" in observation:
        violation = observation["constraints"].clamp_min(0.0).square().sum(-1)
    usable = (observation["evaluated"] > 0) & (observation["failed"] == 0)
    return Seen(
        point=observation["point"],
        value=torch.where(usable, value, torch.inf),
        violation=torch.where(usable, violation, torch.inf),
    )


def absorb(barrier: Barrier, seen: Seen, extreme: bool = False) -> tuple[Barrier, Bool[Tensor, "B"]]:
    """Note an answer; and whether it holds a point that dominates an incumbent, which becomes the new one.

    Args:
        barrier: what was known.
        seen: the answer.
        extreme: whether infeasible points count for nothing (the extreme barrier).
    """
    inside = seen.violation <= 0
    value, place = torch.where(inside, seen.value, torch.inf).min(-1)
    gained = value < barrier.feasible_value
    after = replace(
        barrier,
        feasible=torch.where(gained.unsqueeze(-1), _pick(seen.point, place), barrier.feasible),
        feasible_value=torch.minimum(value, barrier.feasible_value),
    )
    if extreme:
        return after, gained
    outside = ~inside & (seen.violation < torch.inf)
    after = _keep(after, seen, outside)
    known = (barrier.infeasible_value < torch.inf).unsqueeze(-1)
    least, most = barrier.infeasible_value.unsqueeze(-1), barrier.violation.unsqueeze(-1)
    beats = (seen.value <= least) & (seen.violation <= most)
    beats = beats & ((seen.value < least) | (seen.violation < most)) & outside & known
    dominated = beats.any(-1)
    within = outside & (seen.violation <= barrier.limit.unsqueeze(-1))
    better = (within & (seen.violation < most)).any(-1)
    after = replace(after, better=barrier.better | better)
    # a point that dominates the incumbent is within the limit, and the next incumbent
    chosen = _choose(after, barrier.violation)
    after = replace(
        after,
        infeasible=torch.where(dominated.unsqueeze(-1), chosen.infeasible, after.infeasible),
        infeasible_value=torch.where(dominated, chosen.infeasible_value, after.infeasible_value),
        violation=torch.where(dominated, chosen.violation, after.violation),
    )
    return after, gained | dominated


def tighten(barrier: Barrier, dominated: Bool[Tensor, "B"]) -> Barrier:
    """The limit and the infeasible incumbent at the end of an iteration.

    With less violation seen, but at a worse value, the limit becomes the most violation that is less than
    the incumbent's; else it becomes the incumbent's own.
    """
    less = torch.where(
        barrier.violations < barrier.violation.unsqueeze(-1), barrier.violations, -torch.inf
    ).amax(-1)
    improved = barrier.better & ~dominated & (less > 0)
    unknown = barrier.infeasible_value == torch.inf
    open_ = torch.where(barrier.limit == torch.inf, barrier.limit, barrier.violation)
    limit = torch.where(dominated & ~unknown, barrier.violation, open_)
    limit = torch.where(improved & ~unknown, less, limit)
    chosen = _choose(barrier, limit)
    limit = torch.where(chosen.infeasible_value < torch.inf, chosen.violation, limit)
    return replace(chosen, limit=limit, better=torch.zeros_like(barrier.better))


def reopen(barrier: Barrier, rows: Bool[Tensor, "B"]) -> Barrier:
    """Lift the limit in ``rows``; incumbents stay, other infeasible points are forgotten."""
    forget = rows.unsqueeze(-1) & (barrier.violations != barrier.violation.unsqueeze(-1))
    return replace(
        barrier,
        limit=torch.where(rows, torch.inf, barrier.limit),
        values=torch.where(forget, torch.inf, barrier.values),
        violations=torch.where(forget, torch.inf, barrier.violations),
    )


def query(
    observation: Observation,
    points: Float[Tensor, "B m n"],
    count: Tensor,
    threshold: Float[Tensor, "B"],
    allowance: Float[Tensor, "B"],
    base: Float[Tensor, "B n"],
) -> Action:
    """A poll; derivatives, where the environment gives them, are not asked for if they need not be."""
    action = {
        "points": points,
        "count": count.unsqueeze(-1),
        "threshold": threshold.clamp(-FAR, FAR).unsqueeze(-1),
    }
    if "constraints" in observation:
        action["allowance"] = allowance.clamp(0.0, FAR).unsqueeze(-1)
    if "vjp" in observation:
        action |= {"base": base, "cotangent": torch.zeros_like(observation["outputs"][:, 0])}
    if "jacobian" in observation:
        action["base"] = base
    return action


def _keep(barrier: Barrier, seen: Seen, outside: Bool[Tensor, "B m"]) -> Barrier:
    """Add the infeasible points of an answer; drop what is beaten, and the most violated beyond the room."""
    points = torch.cat((barrier.points, seen.point), 1)
    values = torch.cat((barrier.values, torch.where(outside, seen.value, torch.inf)), 1)
    violations = torch.cat((barrier.violations, torch.where(outside, seen.violation, torch.inf)), 1)
    no_worse = (values.unsqueeze(1) <= values.unsqueeze(2)) & (
        violations.unsqueeze(1) <= violations.unsqueeze(2)
    )
    order = torch.arange(values.shape[1], device=values.device)
    # of two equal points the earlier stays
    beaten = (no_worse & (~no_worse.mT | (order < order.unsqueeze(1)))).any(-1)
    violations = torch.where(beaten, torch.inf, violations)
    values = torch.where(beaten, torch.inf, values)
    violations, place = violations.sort(stable=True, dim=-1)
    place = place[:, :_ROOM]
    return replace(
        barrier,
        points=points.gather(1, place.unsqueeze(-1).expand(-1, -1, points.shape[-1])),
        values=values.gather(1, place),
        violations=violations[:, :_ROOM],
    )


def _choose(barrier: Barrier, limit: Float[Tensor, "B"]) -> Barrier:
    """The best point in value whose violation is within the limit as the infeasible incumbent, if any."""
    allowed = torch.where(barrier.violations <= limit.unsqueeze(-1), barrier.values, torch.inf)
    value, place = allowed.min(-1)
    found = value < torch.inf
    violation = barrier.violations.gather(1, place.unsqueeze(-1)).squeeze(-1)
    return replace(
        barrier,
        infeasible=torch.where(found.unsqueeze(-1), _pick(barrier.points, place), barrier.infeasible),
        infeasible_value=torch.where(found, value, barrier.infeasible_value),
        violation=torch.where(found, violation, barrier.violation),
    )


def _pick(points: Float[Tensor, "B m n"], place: Tensor) -> Float[Tensor, "B n"]:
    return points.gather(1, place[:, None, None].expand(-1, 1, points.shape[-1])).squeeze(1)
