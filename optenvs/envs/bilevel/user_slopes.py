"""Whether the derivatives that torch finds of a user's functions are derivatives, by central differences.

Every gradient, product and hypergradient rests on them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.differences import contradiction
from optenvs.core.oracles import hvp, value_and_gradient, vjp

from .user_calls import generic, named

Scalar = Callable[[Tensor], Float[Tensor, "B"]]


def check_slopes(name: str, function: Callable[..., Tensor], x: Tensor, y: Tensor, *, twice: bool) -> None:
    """Raise ``ValueError`` where torch's derivatives of a function are not those of its values.

    Args:
        name: of the function, for the error.
        function: ``(x, y) -> (B,)``, or several numbers a row, ``(B, p)``.
        x: the points, ``(B, n)``; one where differences tell nothing is not judged.
        y: ``(B, m)``.
        twice: compare the derivatives of the gradient by y, too.
    """
    n, both = x.shape[1], torch.cat((x, y), -1)

    def total(u: Tensor) -> Tensor:
        return _weighed(function(u[:, :n], u[:, n:]))

    def bent(u: Tensor) -> Tensor:
        return (value_and_gradient(total, u)[1] * along.repeat(len(u) // len(along), 1)).sum(-1)

    along = torch.cat((torch.zeros_like(x), _direction(y)), -1)
    with named(name, x, y, "differentiated twice" if twice else "differentiated"):
        slope = value_and_gradient(total, both)[1]
        product = hvp(total, both, along)[2] if twice else slope
    for place, start, end in (("x", 0, n), ("y", n, both.shape[1])):
        way = torch.zeros_like(both)
        way[:, start:end] = _direction(both[:, start:end])
        _compare(name, f"derivative by {place}", total, slope, both, way)
        if twice:
            _compare(name, f"second derivative, by y and then by {place},", bent, product, both, way)


def check_solution_slope(solution: Callable[[Tensor], Tensor], x: Float[Tensor, "B n"]) -> None:
    """The same of ``solution``, ``x -> (B, _)``: the hypergradient is torch's derivative through it."""
    with named("solution", x, None, "differentiated"):
        slope = vjp(lambda u: _weighed(solution(u)), x, torch.ones_like(x[:, 0]))[1]
    _compare("solution", "derivative by x", lambda u: _weighed(solution(u)), slope, x, _direction(x))


def _compare(name: str, what: str, read: Scalar, slope: Tensor, at: Tensor, way: Tensor) -> None:
    """Raise ``ValueError`` where central differences along ``way`` contradict ``slope``."""
    way = way * at.abs().amax(-1, keepdim=True).clamp_min(1)
    told = (slope * way).sum(-1, keepdim=True)
    found = contradiction(lambda points: read(points).unsqueeze(-1), told, at, way)
    if found is not None:
        raise ValueError(
            f"{name}: torch gives a {what} of {found.told:.6g} along a line, central differences of its "
            f"values {found.seen:.6g}: is a part of it detached, or computed outside torch?"
        )


def _weighed(value: Tensor) -> Float[Tensor, "B"]:
    """One number a row of several: their sum with weights of which no two are alike."""
    if value.ndim == 1:
        return value
    return (value * generic(value.shape[1], 1).to(value)).sum(-1)


def _direction(like: Float[Tensor, "B k"]) -> Float[Tensor, "B k"]:
    """A direction a row, with a share of every coordinate, of either sign."""
    rows, size = like.shape
    found = generic(size, rows)
    found[:, 1::2] *= -1
    return (found / torch.linalg.vector_norm(found, dim=-1, keepdim=True)).to(like)
