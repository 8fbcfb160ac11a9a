"""How far a point is from the conditions of Karush, Kuhn and Tucker, with the multipliers given or the best.

The program is min f subject to c_E = 0, c_I <= 0, lower <= x <= upper. With s = grad f + J' lambda and the
point P(x) of the box next to x, the residual is the norm of three parts (the natural map of Facchinei and
Pang 2003, section 1.5):

* stationarity: |P(x) - P(P(x) - s)|, which is |s| where there are no bounds, and settles the multipliers of
  bounds by itself: no one is asked for them;
* feasibility: |c_E, max(c_I, 0), max(lower - x, 0), max(x - upper, 0)|;
* complementarity: |min(max(-c_I, 0), lambda_I)|: a multiplier that is negative, or that is positive where its
  constraint is slack, the smaller of the two.

All of them vanish exactly at the points that satisfy the conditions. With equations alone it is
|(grad_x L, c)|, the measure of Hong, Na, Mahoney and Kolar (2023).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .parts import Problem

_ACTIVE = 1e-8
"""An inequality or a bound this near to its limit is active."""
_PIVOT = 1e-12
"""The squared sine of an angle below which two directions are one, in float64."""
_PASSES = 3


class Residual(NamedTuple):
    """The three parts of the residual, ``(B,)`` each."""

    stationarity: Float[Tensor, "B"]
    feasibility: Float[Tensor, "B"]
    complementarity: Float[Tensor, "B"]

    @property
    def total(self) -> Float[Tensor, "B"]:
        """The residual, the norm of its parts."""
        return torch.linalg.vector_norm(torch.stack(self, -1), dim=-1)


def residual(
    problem: Problem,
    x: Float[Tensor, "B n"],
    slope: Float[Tensor, "B n"],
    constraints: Float[Tensor, "B m"],
    multipliers: Float[Tensor, "B m"],
) -> Residual:
    """The residual at ``x``, where ``slope`` is the gradient of the Lagrangian with these multipliers."""
    lower, upper, norm = problem.lower, problem.upper, torch.linalg.vector_norm
    inside = x.clamp(lower, upper)
    # x - P(x - s), without the cancellation
    moved = torch.maximum(torch.minimum(slope, inside - lower), inside - upper)
    equal, slack = constraints[:, : problem.equalities], -constraints[:, problem.equalities :]
    broken = (equal, (-slack).clamp_min(0), (lower - x).clamp_min(0), (x - upper).clamp_min(0))
    spare = torch.minimum(slack.clamp_min(0), multipliers[:, problem.equalities :])
    return Residual(norm(moved, dim=-1), norm(torch.cat(broken, -1), dim=-1), norm(spare, dim=-1))


def least_squares(
    problem: Problem,
    x: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    constraints: Float[Tensor, "B m"],
    jacobian: Float[Tensor, "B m n"],
) -> Float[Tensor, "B m"]:
    """The multipliers that minimise |grad f + J' lambda|^2, those of inequalities clamped to >= 0.

    A slack inequality pays |slack lambda|^2 for its multiplier (as in Byrd, Gilbert and Nocedal 2000), and a
    coordinate counts the less, the nearer it is to a bound. At a solution with independent gradients they are
    its multipliers. Where the rows of J depend on each other, those of least norm (in the rows' own scale).
    """
    equal = problem.equalities
    weight = _distance(x - problem.lower) * _distance(problem.upper - x)
    slack = torch.cat((torch.zeros_like(constraints[:, :equal]), -constraints[:, equal:]), -1).clamp_min(0)
    weighed = jacobian * weight.unsqueeze(-2)
    normal = weighed @ jacobian.mT + torch.diag_embed(slack.square())
    scale = normal.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(x.dtype).tiny).rsqrt()
    factor = _factor(normal * scale.unsqueeze(-1) * scale.unsqueeze(-2))
    found = torch.zeros_like(constraints)
    for _ in range(_PASSES):  # each takes back what the factor's small diagonal and rounding have added
        rest = gradient + (found.unsqueeze(-2) @ jacobian).squeeze(-2)
        short = (weighed @ rest.unsqueeze(-1)).squeeze(-1) + slack.square() * found
        found = found - scale * torch.cholesky_solve((scale * short).unsqueeze(-1), factor).squeeze(-1)
    return torch.cat((found[:, :equal], found[:, equal:].clamp_min(0)), -1)


def dependent(
    problem: Problem,
    x: Float[Tensor, "B n"],
    constraints: Float[Tensor, "B m"],
    jacobian: Float[Tensor, "B m n"],
) -> Bool[Tensor, "B"]:
    """Whether the gradients of the active constraints depend on each other: LICQ fails.

    One of them lies within an angle of 1e-6 (float64) of the span of those before it.
    """
    x, constraints, jacobian = x.detach(), constraints.detach(), jacobian.detach()
    free = (x - problem.lower > _ACTIVE) & (problem.upper - x > _ACTIVE)
    active = torch.cat(
        (
            torch.ones_like(constraints[:, : problem.equalities], dtype=torch.bool),
            constraints[:, problem.equalities :] >= -_ACTIVE,
        ),
        -1,
    )
    rows = jacobian * free.unsqueeze(-2)
    rows = rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    own = torch.eye(rows.shape[1], dtype=x.dtype, device=x.device)
    gram = torch.where(active.unsqueeze(-1) & active.unsqueeze(-2), rows @ rows.mT, own)
    pivots = _factor(gram).diagonal(dim1=-2, dim2=-1).square()
    return ~(pivots > max(_PIVOT, 8 * _ridge(gram))).all(-1)


def _distance(room: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """From 0 at a bound to 1 far from it, and 1 without one."""
    endless = room.isinf()
    room = torch.where(endless, 0.0, room.clamp_min(0))
    return torch.where(endless, 1.0, room.square() / (1 + room.square()))


def _ridge(matrix: Tensor) -> float:
    return 4 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps


def _factor(matrix: Float[Tensor, "B m m"]) -> Float[Tensor, "B m m"]:
    """The Cholesky factor of a matrix with a diagonal of 1, a few units in the last place added to it."""
    ridge = _ridge(matrix) * torch.ones_like(matrix[..., 0])
    return torch.linalg.cholesky_ex(matrix + torch.diag_embed(ridge)).L
