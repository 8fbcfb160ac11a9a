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
_PASSES = 2


class Residual(NamedTuple):
    """The three parts of the residual, ``(B,)`` each."""

    stationarity: Float[Tensor, "B"]
    feasibility: Float[Tensor, "B"]
    complementarity: Float[Tensor, "B"]

    @property
    def total(self) -> Float[Tensor, "B"]:
        """The residual, the norm of its parts."""
        return torch.linalg.vector_norm(torch.stack(self, -1), dim=-1)


def infeasibility(
    problem: Problem, x: Float[Tensor, "B n"], constraints: Float[Tensor, "B m"]
) -> Float[Tensor, "B"]:
    """The part of the residual that no multipliers change."""
    broken, k = constraints, problem.equalities
    if k < constraints.shape[-1]:
        broken = torch.cat((constraints[:, :k], constraints[:, k:].clamp_min(0)), -1)
    if problem.bounded:
        outside = ((problem.lower - x).clamp_min(0), (x - problem.upper).clamp_min(0))
        broken = torch.cat((broken, *outside), -1)
    return torch.linalg.vector_norm(broken, dim=-1)


def residual(
    problem: Problem,
    x: Float[Tensor, "B n"],
    slope: Float[Tensor, "B n"],
    constraints: Float[Tensor, "B m"],
    multipliers: Float[Tensor, "B m"],
    feasibility: Float[Tensor, "B"],
) -> Residual:
    """The residual at ``x``, where ``slope`` is the gradient of the Lagrangian with these multipliers."""
    norm, k = torch.linalg.vector_norm, problem.equalities
    if problem.bounded:
        inside = x.clamp(problem.lower, problem.upper)
        # P(x) - P(P(x) - s), without the cancellation
        slope = torch.maximum(torch.minimum(slope, inside - problem.lower), inside - problem.upper)
    complementarity = torch.zeros_like(feasibility)
    if k < constraints.shape[-1]:
        spare = torch.minimum((-constraints[:, k:]).clamp_min(0), multipliers[:, k:])
        complementarity = norm(spare, dim=-1)
    return Residual(norm(slope, dim=-1), feasibility, complementarity)


def least_squares(
    problem: Problem,
    x: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    constraints: Float[Tensor, "B m"],
    jacobian: Float[Tensor, "B m n"],
) -> tuple[Float[Tensor, "B m"], Bool[Tensor, "B"]]:
    """The multipliers that minimise |grad f + J' lambda|^2, and whether LICQ fails.

    A slack inequality pays |slack lambda|^2 for its multiplier (as in Byrd, Gilbert and Nocedal 2000), and a
    coordinate counts the less, the nearer it is to a bound; multipliers of inequalities are then clamped to
    >= 0. At a solution with independent gradients they are its multipliers. Where the rows of J depend on
    each other, those of least norm, in the rows' own scale.

    LICQ fails where the gradient of an active constraint lies within an angle of 1e-6 (in float64) of the
    span of those before it.
    """
    k, weighed, slack = problem.equalities, jacobian, None
    if problem.bounded:
        near = _distance(x - problem.lower) * _distance(problem.upper - x)
        weighed = jacobian * near.unsqueeze(-2)
    normal = weighed @ jacobian.mT
    if k < constraints.shape[-1]:
        slack = torch.cat((torch.zeros_like(constraints[:, :k]), (-constraints[:, k:]).clamp_min(0)), -1)
        normal = normal + torch.diag_embed(slack.square())
    scale = normal.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(x.dtype).tiny).rsqrt()
    factor = _factor(normal * scale.unsqueeze(-1) * scale.unsqueeze(-2))
    found, rest = None, gradient
    for _ in range(_PASSES):  # the second takes back what the factor's small diagonal and rounding have added
        short = (weighed @ rest.unsqueeze(-1)).squeeze(-1)
        if found is not None and slack is not None:
            short = short + slack.square() * found
        step = scale * torch.cholesky_solve((scale * short).unsqueeze(-1), factor).squeeze(-1)
        found = -step if found is None else found - step
        rest = gradient + (found.unsqueeze(-2) @ jacobian).squeeze(-2)
    assert found is not None  # there is a pass
    if slack is None and not problem.bounded:
        return found, _collapsed(factor)
    found = torch.cat((found[:, :k], found[:, k:].clamp_min(0)), -1)
    return found, _collapsed(_factor(_active(problem, x, constraints, jacobian)))


def _active(problem: Problem, x: Tensor, constraints: Tensor, jacobian: Tensor) -> Float[Tensor, "B m m"]:
    """The products of the active constraints' normalised gradients along the free coordinates."""
    equation = torch.arange(constraints.shape[-1], device=x.device) < problem.equalities
    active = equation | (constraints >= -_ACTIVE)
    free = (x - problem.lower > _ACTIVE) & (problem.upper - x > _ACTIVE)
    rows = jacobian.detach() * free.unsqueeze(-2)
    rows = rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    own = torch.eye(rows.shape[1], dtype=x.dtype, device=x.device)
    return torch.where(active.unsqueeze(-1) & active.unsqueeze(-2), rows @ rows.mT, own)


def _distance(room: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """From 0 at a bound to 1 far from it, and 1 without one."""
    endless = room.isinf()
    room = torch.where(endless, 0.0, room.clamp_min(0))
    return torch.where(endless, 1.0, room.square() / (1 + room.square()))


def _ridge(matrix: Tensor) -> float:
    return 4 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps


def _factor(matrix: Float[Tensor, "B m m"]) -> Float[Tensor, "B m m"]:
    """The Cholesky factor of a matrix with a diagonal of 1, a few units in the last place added to it."""
    own = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.cholesky_ex(matrix + _ridge(matrix) * own).L


def _collapsed(factor: Float[Tensor, "B m m"]) -> Bool[Tensor, "B"]:
    """Whether a pivot is as good as zero, or none was found."""
    least = factor.detach().diagonal(dim1=-2, dim2=-1).amin(-1)
    return ~(least.square() > max(_PIVOT, 8 * _ridge(factor)))
