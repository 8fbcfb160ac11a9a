"""Random directions, polls and coverings of direct searches. Radii are those of the maximum norm."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, bits, fold_in, normal, uniform

Turn = Int64[Tensor, "B"]


def largest(d: Float[Tensor, "*B n"]) -> Float[Tensor, "*B 1"]:
    """The maximum norm."""
    return d.abs().amax(-1, keepdim=True)


def unit_inf(
    keys: Keys, stream: str, turn: Turn, like: Float[Tensor, "B n"], count: int = 1
) -> Float[Tensor, "B count n"]:
    """Directions uniform on the sphere, stretched to maximum norm 1."""
    d = normal(keys, stream, (count, like.shape[-1]), turn, like.dtype)
    return d / largest(d)


def covering(
    keys: Keys, turn: Turn, radius: float, like: Float[Tensor, "B n"], official: bool = False
) -> Float[Tensor, "B 1 n"]:
    """A step within ``radius``: U^(1/n) of it in a direction of :func:`unit_inf`.

    The authors' code has (U radius)^(1/n) in place of radius U^(1/n): the same for radius 1 only.
    """
    power = 1 / like.shape[-1]
    share = uniform(keys, "covering length", 1, turn, like.dtype)
    length = (share * radius) ** power if official else radius * share**power
    return length.unsqueeze(-1) * unit_inf(keys, "covering", turn, like)


def householder(keys: Keys, turn: Turn, like: Float[Tensor, "B n"]) -> Float[Tensor, "B n n"]:
    """The reflection I - 2 v v' at a random hyperplane: its rows are orthonormal."""
    size = like.shape[-1]
    v = normal(keys, "poll", size, turn, like.dtype)
    v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    eye = torch.eye(size, dtype=like.dtype, device=like.device)
    return eye - 2 * v.unsqueeze(-1) * v.unsqueeze(-2)


def poll_both(h: Float[Tensor, "B n n"]) -> Float[Tensor, "B m n"]:
    """The 2n directions h_i and then -h_i, of maximum norm 1."""
    d = torch.cat((h, -h), 1)
    return d / largest(d)


def poll_simplex(h: Float[Tensor, "B n n"]) -> Float[Tensor, "B m n"]:
    """The n + 1 directions h_i and then minus their sum, which span positively; not yet of norm 1."""
    return torch.cat((h, -h.sum(1, keepdim=True)), 1)


def rotated(d: Float[Tensor, "B m n"], keys: Keys, turn: Turn, common: bool) -> Float[Tensor, "B m n"]:
    """``d`` after random rotations by at most arccos(1/n) in planes of two coordinates each.

    The coordinates are paired at random, and each pair has an angle of its own. With ``common`` all
    directions of an instance rotate alike, which keeps the angles between them; else each by itself, after
    which a set that spans positively often does so no more.
    """
    count, size = d.shape[-2:]
    if size == 1:  # no plane
        return d
    index = torch.arange(1 if common else count, device=d.device)
    each = fold_in(keys.unsqueeze(-1), index)  # (B, m)
    time = turn.unsqueeze(-1).expand_as(each)
    order = bits(each, "rotation pairs", size, time).argsort(-1).expand(-1, count, -1)
    angle = _angles(each, time, size, d.dtype)
    first, second = order[..., : size - size % 2 : 2], order[..., 1::2]
    one, two = d.gather(-1, first), d.gather(-1, second)
    cos, sin = angle.cos(), angle.sin()
    turned = d.scatter(-1, first, cos * one + sin * two)
    return turned.scatter(-1, second, cos * two - sin * one)


def rotated_as_published(d: Float[Tensor, "B m n"], keys: Keys, turn: Turn) -> Float[Tensor, "B m n"]:
    """``d`` after the map that the authors' code has in place of a rotation.

    It pairs neighbours, i with i + 1 for the first half of the coordinates, so that a later pair overwrites
    what an earlier one wrote; and all later coordinates become zero. For n = 2 it is a rotation.
    """
    count, size = d.shape[-2:]
    if size == 1:  # the map is zero
        return d
    each = fold_in(keys.unsqueeze(-1), torch.arange(count, device=d.device))
    angle = _angles(each, turn.unsqueeze(-1).expand_as(each), size, d.dtype)
    half = size // 2
    cos, sin = angle.cos(), angle.sin()
    zero = torch.zeros_like(d)
    kept = zero.clone()
    kept[..., :half] = cos * d[..., :half]
    kept[..., half] = cos[..., -1] * d[..., half]
    above, below = zero.clone(), zero
    above[..., :half] = sin * d[..., 1 : half + 1]
    below[..., 1 : half + 1] = sin * d[..., :half]
    return kept + above - below


def _angles(keys: Int64[Tensor, "B m"], turn: Int64[Tensor, "B m"], size: int, dtype: torch.dtype) -> Tensor:
    limit = math.acos(1 / size)
    return uniform(keys, "rotation angle", size // 2, turn, dtype, low=-limit, high=limit)
