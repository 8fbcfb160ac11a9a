"""The lower problem solved by Newton's method on its first-order conditions, where there is no closed form.

The conditions at x are r(y, lambda) = (grad_y f + J_y' lambda, g) = 0, where an inequality's row is Fischer
and Burmeister's sqrt(lambda^2 + g^2) - lambda + g, which is 0 where lambda >= 0 >= g and one of them is 0.
The steps are those of Levenberg and Marquardt with a small damping that falls with |r| (Yamashita and
Fukushima 2001): Newton's where the solution is unique, and defined where it is not. The implicit function
theorem then gives the gradient of Phi.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.oracles import inside_transform, jacobian, value_and_gradient, vjp

Residual = Callable[[Tensor, Tensor], Float[Tensor, "B mp"]]
"""Of x ``(B, n)`` and (y, lambda) ``(B, m + p)``."""

STEPS = 60
DAMPING = 1e-6
"""Of the squared Jacobian's largest entry, at a residual of 1 and above: at first, and at least."""
MOST = 1e6
HALVINGS = 6


def conditions(
    slope: Callable[[Tensor, Tensor], Float[Tensor, "B m"]],
    constrain: Callable[[Tensor, Tensor], Float[Tensor, "B p"]],
    equal: Bool[Tensor, "B p"],
    m: int,
) -> Residual:
    """The residual r.

    Args:
        slope: ``(x, y) -> grad_y f``, of the batch.
        constrain: ``(x, y) -> g``.
        equal: which constraints are equalities.
        m: the number of lower variables.
    """

    def residual(x: Tensor, both: Tensor) -> Tensor:
        y, multipliers = both[:, :m], both[:, m:]
        if not multipliers.shape[1]:
            return slope(x, y)
        g, pulled = vjp(lambda v: constrain(x, v), y, multipliers)
        # clamped below: at 0 the root has no slope, and the row none either
        least = torch.finfo(g.dtype).tiny
        root = (multipliers.square() + g.square()).clamp_min(least).sqrt()
        rows = torch.where(equal, g, root - multipliers + g)
        return torch.cat((slope(x, y) + pulled, rows), -1)

    return residual


def solve(
    residual: Residual, x: Float[Tensor, "B n"], start: Float[Tensor, "B mp"]
) -> tuple[Float[Tensor, "B mp"], Int64[Tensor, "B"]]:
    """A zero of ``residual(x, .)``, and how many steps each row took; rows without one keep their best.

    A fixed number of masked steps; eagerly on the CPU it ends when no row moves.
    """
    both, steps = start, torch.zeros(len(x), dtype=torch.int64, device=x.device)
    level = 64 * torch.finfo(x.dtype).eps
    active = torch.ones_like(steps, dtype=torch.bool)
    shift = torch.full_like(x[:, 0], DAMPING)
    looks = x.device.type == "cpu" and not inside_transform(x)
    for _ in range(STEPS):
        r, matrix = _linear(lambda v: residual(x, v), both)
        norm = torch.linalg.vector_norm(r, dim=-1)
        size = 1 + torch.linalg.vector_norm(both, dim=-1)
        active = active & norm.isfinite() & (norm > level * size)
        if looks and not bool(active.any()):
            break
        step = _damped(matrix, r, shift * norm.clamp_max(1.0))
        found, improved = _halved(residual, x, both, step, norm, active, looks)
        moved = active & improved
        both = torch.where(moved.unsqueeze(-1), found, both)
        steps = steps + active.long()
        # a kink may let no Newton step descend; more damping turns it towards the gradient
        shift = torch.where(moved, (shift / 10).clamp_min(DAMPING), shift * 100)
        active = active & (shift < MOST)
    return both, steps


def hypergradient(
    residual: Residual,
    upper: Callable[[Tensor, Tensor], Float[Tensor, "B"]],
    x: Float[Tensor, "B n"],
    both: Float[Tensor, "B mp"],
    m: int,
) -> Float[Tensor, "B n"]:
    """The gradient of F(x, y*(x)) by the implicit function of ``residual`` at its zero.

    Where the solution is not unique it is that of the solution that moves least.
    """
    by_x, by_y = value_and_gradient(upper, (x, both[:, :m]))[1]
    _, matrix = _linear(lambda v: residual(x, v), both)
    aim = torch.cat((by_y, torch.zeros_like(both[:, m:])), -1)
    along = (torch.linalg.pinv(matrix.nan_to_num()).mT @ aim.unsqueeze(-1)).squeeze(-1)
    return by_x - vjp(lambda v: residual(v, both), x, along)[1]


def falls(
    residual: Residual,
    x: Float[Tensor, "B n"],
    both: Float[Tensor, "B mp"],
    g: Float[Tensor, "B p"],
    equal: Bool[Tensor, "B p"],
    level: Float[Tensor, "B"],
) -> Bool[Tensor, "B"]:
    """Where the Lagrangian curves down along the constraints from a zero of ``residual``: no minimum.

    The direction of least curvature among those that the equalities and the inequalities with multipliers
    leave is looked at, if it, or its opposite, leaves no other active inequality. Where there is no curvature
    at all nothing is said: a flat minimum is one.

    Args:
        residual: the conditions, as of :func:`conditions`.
        x: the upper variable.
        both: the zero.
        g: the constraints there.
        equal: which of them are equalities.
        level: what a multiplier, or a constraint, counts as 0 below.
    """
    p, level = g.shape[1], level.unsqueeze(-1)
    m = both.shape[1] - p
    matrix = _linear(lambda v: residual(x, v), both)[1].nan_to_num()
    bent, slopes = matrix[:, :m, :m], matrix[:, :m, m:].mT
    held = equal | (both[:, m:] > level)
    bent = (bent + bent.mT) / 2
    size = bent.abs().amax((-2, -1))
    if p:
        rows = torch.where(held.unsqueeze(-1), slopes, 0.0)
        eye = torch.eye(m, dtype=rows.dtype, device=rows.device)
        along = eye - torch.linalg.pinv(rows) @ rows
        bent = along @ bent @ along
    values, vectors = torch.linalg.eigh(bent)
    down = values[:, 0] < -(torch.finfo(size.dtype).eps ** 0.5) * size
    moved = torch.where(held | (g < -level), 0.0, (slopes @ vectors[:, :, :1]).squeeze(-1))
    return down & ((moved <= level).all(-1) | (moved >= -level).all(-1))


def _linear(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Float[Tensor, "B k k"]]:
    """The value and the Jacobian, column by column: the function is a gradient itself."""
    return jacobian(function, at, forward=True)


def _damped(
    matrix: Float[Tensor, "B k k"], r: Float[Tensor, "B k"], damping: Float[Tensor, "B"]
) -> Float[Tensor, "B k"]:
    matrix, r = matrix.nan_to_num(), r.nan_to_num()
    normal = matrix.mT @ matrix
    scale = normal.abs().amax((-2, -1)).clamp_min(torch.finfo(r.dtype).tiny)
    shift = scale * (damping.nan_to_num() + 4 * torch.finfo(r.dtype).eps)
    normal = normal + torch.diag_embed(shift.unsqueeze(-1).expand_as(r))
    factor, _ = torch.linalg.cholesky_ex(normal)
    return -torch.cholesky_solve(matrix.mT @ r.unsqueeze(-1), factor).squeeze(-1)


def _halved(
    residual: Residual, x: Tensor, both: Tensor, step: Tensor, norm: Tensor, active: Tensor, looks: bool
) -> tuple[Tensor, Bool[Tensor, "B"]]:
    """The longest of the step, its half, its quarter, ... that lowers the residual."""
    found, improved, factor = both, torch.zeros_like(norm, dtype=torch.bool), 1.0
    for _ in range(HALVINGS):
        if looks and bool((improved | ~active).all()):
            break
        trial = both + factor * step
        lower = torch.linalg.vector_norm(residual(x, trial), dim=-1) < norm
        found = torch.where((lower & ~improved).unsqueeze(-1), trial, found)
        improved, factor = improved | lower, factor / 4
    return found, improved
