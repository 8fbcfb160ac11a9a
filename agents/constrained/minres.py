"""MINRES (Paige and Saunders 1975) on a batch of symmetric systems A z = b, one product with A at a time.

Whoever has the products calls :func:`minres` with each: the next vector to multiply is ``Minres.vector``. The
recurrences are short: a handful of vectors, whatever the number of products. The residual b - A z comes by
its own recurrence (Choi, Paige and Saunders 2011), and with it A z, without a product more.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import select, struct

from ._rows import look
from ._system import dot
from .gmres import length_of


@struct
class Minres:
    """MINRES under way.

    Attributes:
        z, residual: where it is, and b - A z there, ``(B, N)`` each.
        size: the norm of the residual, ``(B,)``.
        vector, before: the next vector to be multiplied, of norm 1, and the one before it.
        way, before_way: the last two directions of z.
        beta: the norm of the vector before it was made 1, ``(B,)``.
        cosine, sine: of the last rotation, ``(B,)``.
        corner, above: what the rotation before it leaves of the tridiagonal matrix's next column, ``(B,)``.
        most: the greatest norm of a product so far, ``(B,)``.
        spent: whether the space of Krylov has no more to give, ``(B,)``.
    """

    z: Float[Tensor, "B N"]
    residual: Float[Tensor, "B N"]
    size: Float[Tensor, "B"]
    vector: Float[Tensor, "B N"]
    before: Float[Tensor, "B N"]
    way: Float[Tensor, "B N"]
    before_way: Float[Tensor, "B N"]
    beta: Float[Tensor, "B"]
    cosine: Float[Tensor, "B"]
    sine: Float[Tensor, "B"]
    corner: Float[Tensor, "B"]
    above: Float[Tensor, "B"]
    most: Float[Tensor, "B"]
    spent: Bool[Tensor, "B"]


def begin(b: Float[Tensor, "B N"]) -> Minres:
    """MINRES at z = 0."""
    size, none = length_of(b), torch.zeros_like(b)
    zero = torch.zeros_like(size)
    vector = b / size.clamp_min(torch.finfo(b.dtype).tiny).unsqueeze(-1)
    return Minres(
        z=none,
        residual=b,
        size=size,
        vector=vector,
        before=none,
        way=none,
        before_way=none,
        beta=zero,
        cosine=zero - 1,
        sine=zero,
        corner=zero,
        above=zero,
        most=zero,
        spent=size == 0,
    )


def minres(at: Minres, product: Float[Tensor, "B N"]) -> Minres:
    """One step; rows that are spent stay.

    Args:
        at: where it is.
        product: A vector.
    """
    seen = look(at.spent)
    return _step(at, product) if not seen.some else select(at.spent, at, _step(at, product))


def _step(at: Minres, product: Float[Tensor, "B N"]) -> Minres:
    few = torch.finfo(product.dtype).eps ** 0.75  # the vectors' angles lose more from step to step
    alpha = dot(at.vector, product)
    rest = product - alpha.unsqueeze(-1) * at.vector - at.beta.unsqueeze(-1) * at.before
    beta = length_of(rest)
    # the last two rotations, on the new column of the tridiagonal matrix
    over = at.cosine * at.corner + at.sine * alpha
    bar = at.sine * at.corner - at.cosine * alpha
    pivot = torch.hypot(bar, beta)
    most = torch.maximum(at.most, length_of(product))
    spent = beta <= few * most
    # a pivot of zero ends it: A is singular along what is left of b
    lost = pivot <= few * most
    safe = torch.where(lost, 1.0, pivot)
    cosine, sine = torch.where(lost, 0.0, bar / safe), torch.where(lost, 1.0, beta / safe)
    way = at.vector - at.above.unsqueeze(-1) * at.before_way - over.unsqueeze(-1) * at.way
    way = torch.where(lost.unsqueeze(-1), 0.0, way / safe.unsqueeze(-1))
    vector = torch.where(spent.unsqueeze(-1), 0.0, rest / torch.where(spent, 1.0, beta).unsqueeze(-1))
    size = sine * at.size
    residual = sine.square().unsqueeze(-1) * at.residual - (size * cosine).unsqueeze(-1) * vector
    return Minres(
        z=at.z + (cosine * at.size).unsqueeze(-1) * way,
        residual=torch.where(lost.unsqueeze(-1), at.residual, residual),
        size=torch.where(lost, at.size, size),
        vector=vector,
        before=at.vector,
        way=way,
        before_way=at.way,
        beta=beta,
        cosine=cosine,
        sine=sine,
        corner=-at.cosine * beta,
        above=at.sine * beta,
        most=most,
        spent=spent | lost,
    )
