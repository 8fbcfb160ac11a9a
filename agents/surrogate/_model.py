"""A model of a surrogate around a point: the network by its Jacobian, objective and constraints as they are.

    d -> -f(y + J d),    c(x + d, y + J d) <= 0,    |d|_inf <= r,   x + d in the box

Both f and c are known functions of the outputs, so that a bend of theirs, such as that of t Q <= 500, is no
error of the model. It is minimised by a few sequential quadratic programs, which ask the network nothing.
A kink of the network is none of its Jacobian's: values and gradients of points near by, the pieces, are
lower bounds of the model's value (a bundle; Kiwiel 1985), each shifted so that it does not cut off x.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.oracles import jvp
from optenvs.core.struct import struct

from ._program import solve

_FLAT = 1e-2
"""How much f bends within the radius, as a share of its slope, where it counts as curved."""
_HEAVY = 100.0
"""The price of leaving a constraint by a length, in units of the value's greatest change by that length."""


@struct
class Place:
    """A point and what the oracle says of it.

    Attributes:
        point: ``(B, n)``.
        value, violation: ``(B,)``; infinite where there is no such point yet.
        outputs, jacobian: ``(B, p)`` and ``(B, p, n)``.
    """

    point: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    violation: Float[Tensor, "B"]
    outputs: Float[Tensor, "B p"]
    jacobian: Float[Tensor, "B p n"]


@struct
class Pieces:
    """Where the value and its gradient have been seen; infinite values where nothing has, ``(B, L, ...)``."""

    point: Float[Tensor, "B L n"]
    value: Float[Tensor, "B L"]
    gradient: Float[Tensor, "B L n"]


@struct
class Bend:
    """What the network's curvature has added lately, over the squared length of the step, in spans.

    Attributes:
        value: to the value, ``(B,)``.
        constraints: to each constraint, ``(B, q)``.
    """

    value: Float[Tensor, "B"]
    constraints: Float[Tensor, "B q"]


@struct
class Promise:
    """What the model says of a step, without bends.

    Attributes:
        step: ``(B, n)``.
        length: its Euclidean length, in spans, ``(B,)``.
        value: ``(B,)``.
        constraints: ``(B, q)``.
        curved: whether f bends within the radius, ``(B,)``.
    """

    step: Float[Tensor, "B n"]
    length: Float[Tensor, "B"]
    value: Float[Tensor, "B"]
    constraints: Float[Tensor, "B q"]
    curved: Bool[Tensor, "B"]


def gradient(problem: Any, place: Place) -> Float[Tensor, "B n"]:
    """Of the value, which is minimised."""
    return -_product(place.jacobian.mT, problem.slope(place.outputs))


def add_piece(
    pieces: Pieces,
    slot: Int64[Tensor, "B"],
    place: Place,
    slope: Float[Tensor, "B n"],
    rows: Bool[Tensor, "B"],
) -> Pieces:
    """The bundle with a new piece in a slot, in ``rows``."""
    index = torch.arange(pieces.value.shape[1], device=slot.device)
    here = (index == slot.unsqueeze(-1)) & rows.unsqueeze(-1)
    return Pieces(
        point=torch.where(here.unsqueeze(-1), place.point.unsqueeze(1), pieces.point),
        value=torch.where(here, place.value.unsqueeze(1), pieces.value),
        gradient=torch.where(here.unsqueeze(-1), slope.unsqueeze(1), pieces.gradient),
    )


def best_step(
    problem: Any,
    at: Place,
    span: Float[Tensor, "B n"],
    radius: Float[Tensor, "B"],
    pieces: Pieces,
    bend: Bend,
    straight: Bool[Tensor, "B"],
    margin: float,
    rounds: int,
) -> tuple[Promise, Float[Tensor, "B"], Float[Tensor, "B"]]:
    """The model's best step, and value and violation that are to be expected of it.

    Args:
        problem: what is known: the box, f and c.
        at: where the model is made.
        span: the unit of length of each coordinate, ``(B, n)``.
        radius: r in these units, ``(B,)``.
        pieces: the bundle.
        bend: the network's curvature.
        straight: where f is replaced by its tangent too.
        margin: how far from the constraints the step stays, a share of its radius.
        rounds: quadratic programs, each at the solution of the last.
    """
    x, r = at.point, radius.unsqueeze(-1) * span
    low, high = torch.maximum(-r, problem.lower - x), torch.minimum(r, problem.upper - x)
    d, y = torch.zeros_like(x), at.outputs
    tangent, hessian = _bends(problem, y, at.jacobian)
    unit = (tangent.abs() * r).sum(-1).clamp_min(1e-30)
    curved = (hessian * r.unsqueeze(-1) * r.unsqueeze(-2)).abs().amax((-1, -2)) > _FLAT * unit
    slope, here = tangent, at.value
    for _ in range(programs(problem, rounds)):
        hessian = torch.where(straight[:, None, None], 0.0, hessian)
        e = _program(
            problem, at, d, (here, slope, hessian), (low - d, high - d), r, span, pieces, bend, margin
        )
        d = torch.clamp(d + e, low, high)
        y = at.outputs + _product(at.jacobian, d)
        slope, hessian = _bends(problem, y, at.jacobian)
        slope = torch.where(straight.unsqueeze(-1), tangent, slope)
        here = torch.where(straight, at.value + (tangent * d).sum(-1), _value(problem, y))
    c = problem.task.constraints((x + d).unsqueeze(1), y.unsqueeze(1), problem.aim).squeeze(1)
    square = (d / span).square().sum(-1)
    promise = Promise(step=d, length=square.sqrt(), value=here, constraints=c, curved=curved)
    for_pieces = _product(pieces.gradient, x + d) + _offsets(at, pieces)
    expected = torch.maximum(here + bend.value * square, for_pieces.amax(-1))
    violated = (c + bend.constraints * square.unsqueeze(-1)).clamp_min(0.0)
    return promise, expected, violated.square().sum(-1)


def programs(problem: Any, rounds: int) -> int:
    """How many quadratic programs a step takes."""
    if problem.task.piecewise_linear and not problem.task.constraint_count:
        return 1  # the first program is the model itself
    return rounds


def measured(
    bend: Bend, promise: Promise, value: Float[Tensor, "B"], constraints: Float[Tensor, "B q"]
) -> Bend:
    """The bends after a step: what came above what the model said; at least half of what they were."""
    square = promise.length.square().clamp_min(1e-30)
    above = (value - promise.value).clamp(0.0, 1e30) / square
    over = (constraints - promise.constraints).clamp(0.0, 1e30) / square.unsqueeze(-1)
    return Bend(
        value=torch.maximum(above, bend.value / 2),
        constraints=torch.maximum(over, bend.constraints / 2),
    )


def _program(
    problem: Any,
    at: Place,
    d: Float[Tensor, "B n"],
    value: tuple[Float[Tensor, "B"], Float[Tensor, "B n"], Float[Tensor, "B n n"]],
    box: tuple[Float[Tensor, "B n"], Float[Tensor, "B n"]],
    r: Float[Tensor, "B n"],
    span: Float[Tensor, "B n"],
    pieces: Pieces,
    bend: Bend,
    margin: float,
) -> Float[Tensor, "B n"]:
    """The step of the quadratic program at ``d``: variables are step / r, a bound of the value, a slack.

    ``value`` is the model's value at ``d`` with gradient and Hessian, ``box`` what a step may be.
    """
    (here, slope, hessian), (low, high) = value, box
    x, y = at.point + d, at.outputs + _product(at.jacobian, d)
    size, count = x.shape[-1], pieces.value.shape[-1]
    c, across = _constraints(problem, x, y, at.jacobian)
    # the bends are the same in all directions: b |d|^2 and its derivatives at d
    scaled = d / span
    square = scaled.square().sum(-1, keepdim=True)
    slope = slope + 2 * bend.value.unsqueeze(-1) * scaled / span
    hessian = hessian + torch.diag_embed(2 * bend.value.unsqueeze(-1) / span.square())
    here = here + bend.value * square.squeeze(-1)
    c = c + bend.constraints * square
    across = across + 2 * bend.constraints.unsqueeze(-1) * (scaled / span).unsqueeze(1)
    # the value's change over the radius is the unit of values, the radius that of lengths
    unit = (slope.abs() * r).sum(-1, keepdim=True).clamp_min(1e-30)
    known = pieces.value.isfinite()
    cut = torch.where(known.unsqueeze(-1), pieces.gradient, slope.unsqueeze(1))
    offset = _product(pieces.gradient, x) + _offsets(at, pieces) - here.unsqueeze(-1)
    offset = torch.where(known, offset, 0.0)
    across = across * r.unsqueeze(1)
    steep = torch.linalg.vector_norm(across, dim=-1)
    live = steep > 1e-12
    across = torch.where(live.unsqueeze(-1), across / steep.clamp_min(1e-12).unsqueeze(-1), 0.0)
    depth = torch.where(live, c / steep.clamp_min(1e-12), -1.0) + margin
    rows = torch.zeros(
        len(x), 1 + count + c.shape[-1] + 1 + 2 * size, size + 2, dtype=x.dtype, device=x.device
    )
    rows[:, 0, :size], rows[:, 0, size] = slope * r / unit, -1.0
    rows[:, 1 : 1 + count, :size], rows[:, 1 : 1 + count, size] = cut * (r / unit).unsqueeze(1), -1.0
    start = 1 + count
    rows[:, start : start + c.shape[-1], :size], rows[:, start : start + c.shape[-1], -1] = across, -1.0
    rows[:, -2 * size - 1, -1] = -1.0
    eye = torch.eye(size, dtype=x.dtype, device=x.device)
    rows[:, -2 * size : -size, :size], rows[:, -size:, :size] = eye, -eye
    zero = torch.zeros_like(unit)
    limits = torch.cat((zero, -offset / unit, -depth.clamp(-4.0 * size, 1e4), zero, high / r, -low / r), -1)
    P = torch.zeros(len(x), size + 2, size + 2, dtype=x.dtype, device=x.device)
    P[:, :size, :size] = hessian * r.unsqueeze(-1) * r.unsqueeze(-2) / unit.unsqueeze(-1)
    b = torch.zeros_like(P[:, 0])
    b[:, size], b[:, -1] = 1.0, _HEAVY
    solution = solve(P.double(), b.double(), rows.double(), limits.double())
    return solution[:, :size].to(x) * r


def _bends(problem: Any, y: Tensor, jacobian: Tensor) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B n n"]]:
    """Gradient and Hessian, by the step, of the model's value; of the Hessian the convex part."""
    slope = -_product(jacobian.mT, problem.slope(y))
    size = jacobian.shape[-1]
    many = y.unsqueeze(1).repeat(1, size, 1)
    _, turned = jvp(lambda z: problem.task.slope(z, problem.aim), many, jacobian.mT)
    hessian = -turned @ jacobian
    hessian = (hessian + hessian.mT) / 2
    values, vectors = torch.linalg.eigh(hessian)
    return slope, (vectors * values.clamp_min(0.0).unsqueeze(-2)) @ vectors.mT


def _constraints(
    problem: Any, x: Tensor, y: Tensor, jacobian: Tensor
) -> tuple[Float[Tensor, "B q"], Float[Tensor, "B q n"]]:
    """The model's constraints and their derivative by the step."""
    size = x.shape[-1]
    eye = torch.eye(size, dtype=x.dtype, device=x.device).repeat(len(x), 1, 1)
    many = tuple(v.unsqueeze(1).repeat(1, size, 1) for v in (x, y))
    c, across = jvp(lambda u, v: problem.task.constraints(u, v, problem.aim), many, (eye, jacobian.mT))
    return c[:, 0], across.mT


def _value(problem: Any, y: Float[Tensor, "B p"]) -> Float[Tensor, "B"]:
    return -problem.task.objective(y, problem.aim)


def _offsets(at: Place, pieces: Pieces) -> Float[Tensor, "B L"]:
    """Of each piece ``gradient' z + offset``: shifted down where it is above the value at the point."""
    offset = pieces.value - (pieces.gradient * pieces.point).sum(-1)
    here = _product(pieces.gradient, at.point) + offset
    offset = offset - (here - at.value.unsqueeze(-1)).clamp_min(0.0)
    return torch.where(pieces.value.isfinite(), offset, -1e30)


def _product(matrix: Float[Tensor, "B m n"], vector: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
