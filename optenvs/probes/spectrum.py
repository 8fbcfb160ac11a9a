"""Spectra of symmetric operators by Lanczos: extreme eigenpairs, quadrature of the density, condition."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.random import Keys, normal, rademacher
from optenvs.core.struct import struct

from .operator import Operator


@struct
class Tridiagonal:
    """What m steps of Lanczos leave: ``T = Q H Q'``.

    Attributes:
        diagonal: ``(B, m)``.
        beside: ``(B, m)``: ``beside[:, j]`` couples the vectors j and j + 1; the last is the remainder's
            norm. A zero stands where the Krylov space was exhausted and a new direction began.
        vectors: Q, orthonormal rows ``(B, m, D)``.
    """

    diagonal: Tensor
    beside: Tensor
    vectors: Tensor

    def matrix(self) -> Float[Tensor, "B m m"]:
        """T."""
        couplings = self.beside[:, :-1]
        upper = torch.diag_embed(couplings, 1)
        return torch.diag_embed(self.diagonal) + upper + upper.mT


@struct
class Quadrature:
    """Nodes and weights of the spectral density: ``sum w f(theta)`` is near ``tr f(H) / D``.

    Attributes:
        nodes: ``(B, R, m)``, ascending, of R start vectors.
        weights: ``(B, R, m)``; each start vector's sum to 1.
    """

    nodes: Tensor
    weights: Tensor

    def moment(self, power: int) -> Float[Tensor, "B R"]:
        """``v' H**power v`` of every unit start vector; exact up to ``2 m - 1``."""
        return (self.weights * self.nodes**power).sum(-1)

    def density(self, at: Float[Tensor, "g"], width: float) -> Float[Tensor, "B g"]:
        """The density at ``at``, each node a normal density of standard deviation ``width``.

        Raises:
            ValueError: no positive width.
        """
        if not (math.isfinite(width) and width > 0):
            raise ValueError(f"width: expected a positive number, got {width!r}")
        nodes, weights = self.nodes.flatten(1), self.weights.flatten(1) / self.nodes.shape[1]
        bumps = torch.exp(-0.5 * ((at[:, None] - nodes[:, None]) / width) ** 2)
        return (bumps * weights[:, None]).sum(-1) / (width * math.sqrt(2 * math.pi))


def lanczos(operator: Operator, start: Float[Tensor, "B D"], steps: int, keys: Keys) -> Tridiagonal:
    """Lanczos with full re-orthogonalisation, twice a step; B instances at once.

    Where a remainder vanishes (below ``1e-10`` of the largest diagonal number), the row goes on in a random
    direction orthogonal to all before, and the coupling is zero.

    Args:
        operator: the matrices.
        start: first vectors, of any positive length.
        steps: m, at most D.
        keys: of the directions after an exhausted space, ``(B,)``.

    Raises:
        ValueError: start vectors of another shape, of no length or no numbers; more steps than D.
    """
    check_whole("steps", steps, 1)
    if steps > operator.size:
        raise ValueError(f"steps: expected at most D = {operator.size}, got {steps}")
    if start.shape != (operator.batch, operator.size):
        expected = (operator.batch, operator.size)
        raise ValueError(f"start: expected the shape {expected}, got {tuple(start.shape)}")
    length = start.norm(dim=1, keepdim=True)
    if not bool((length.isfinite() & (length > 0)).all()):
        raise ValueError("start: expected vectors of positive, finite length")
    basis = start.new_zeros(operator.batch, steps, operator.size)
    diagonal, beside = start.new_zeros(2, operator.batch, steps)
    vector, largest = start / length, start.new_zeros(operator.batch)
    for j in range(steps):
        basis[:, j] = vector
        image = operator(vector[:, None])[:, 0]
        diagonal[:, j] = (vector * image).sum(1)
        largest = torch.maximum(largest, diagonal[:, j].abs())
        rest = _without(image, basis[:, : j + 1])
        size = rest.norm(dim=1)
        ended = size <= 1e-10 * largest
        beside[:, j] = torch.where(ended, 0, size)
        if j + 1 < steps:
            other = normal(keys, "restart", operator.size, j, start.dtype)
            other = _without(other, basis[:, : j + 1])
            rest = torch.where(ended[:, None], other, rest)
            vector = rest / rest.norm(dim=1, keepdim=True)
    return Tridiagonal(diagonal, beside, basis)


def _eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenpairs of symmetric matrices; a row that has no numbers gets none, and harms no other."""
    known = matrices.isfinite().all(-1).all(-1)[:, None]
    values, vectors = torch.linalg.eigh(torch.where(known[..., None], matrices, 0))
    return torch.where(known, values, torch.nan), torch.where(known[..., None], vectors, torch.nan)


def _without(vector: Tensor, basis: Tensor) -> Tensor:
    """``vector`` ``(B, D)`` less its part in the span of orthonormal rows; twice, as once leaves a trace."""
    for _ in range(2):
        vector = vector - ((basis @ vector[..., None]).mT @ basis)[:, 0]
    return vector


def quadrature(operator: Operator, keys: Keys, *, steps: int = 80, vectors: int = 10) -> Quadrature:
    """Stochastic Lanczos quadrature from Rademacher vectors; raw nodes and weights.

    Args:
        operator: the matrices.
        keys: ``(B,)``.
        steps: m Lanczos steps of every vector, cut to D.
        vectors: R.
    """
    check_whole("vectors", vectors, 1)
    steps, nodes, weights = min(steps, operator.size), [], []
    for r in range(vectors):
        start = rademacher(keys, "start", operator.size, r, operator.dtype)
        theta, mixed = _eigh(lanczos(operator, start, steps, keys).matrix())
        nodes.append(theta)
        weights.append(mixed[:, 0] ** 2)
    return Quadrature(torch.stack(nodes, 1), torch.stack(weights, 1))


@struct
class Eigenpairs:
    """Extreme eigenvalues.

    Attributes:
        values: ``(B, k)``, the largest first (or the smallest first, where those were asked for).
        vectors: unit rows ``(B, k, D)``.
        residuals: ``|H v - lambda v|``, ``(B, k)``.
        products: how many products with one vector each instance took, ``(B,)``.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: Tensor


def top_eigenpairs(
    operator: Operator,
    keys: Keys,
    count: int,
    *,
    largest: bool = True,
    tolerance: float = 1e-6,
    iterations: int = 200,
) -> Eigenpairs:
    """The ``count`` largest (or smallest) eigenvalues, by value and not by magnitude, with their vectors.

    Locally optimal block conjugate gradients (Knyazev 2001) without a preconditioner: Rayleigh-Ritz on the
    span of the block, its residuals and the last change. Stops when every residual of every instance is
    at most ``tolerance`` times the largest Ritz value's magnitude; see ``residuals`` for what was reached.

    Raises:
        ValueError: ``count`` beyond D, or a tolerance that is no positive number.
    """
    check_whole("count", count, 1)
    check_whole("iterations", iterations, 1)
    if count > operator.size:
        raise ValueError(f"count: expected at most D = {operator.size}, got {count}")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance: expected a positive number, got {tolerance!r}")
    sign = 1.0 if largest else -1.0
    if 3 * count >= operator.size:
        return _by_all(operator, count, sign)
    begin = normal(keys, "block", (operator.size, count), None, operator.dtype)
    block = torch.linalg.qr(begin)[0].mT
    change, image, asked = block[:, :0], operator(block), count
    remaining = iterations
    while True:
        remaining -= 1
        values = (block * image).sum(-1)
        rest = image - values[..., None] * block
        residuals = rest.norm(dim=-1)
        if not remaining or not bool((residuals > tolerance * values.abs().amax(-1, keepdim=True)).any()):
            break
        # each of length one and orthogonal to the block, so that a tiny residual is not lost beside it
        added = torch.cat([rest, change], 1)
        added = added / added.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(block.dtype).tiny)
        added = added - (added @ block.mT) @ block
        frame, upper = torch.linalg.qr(torch.cat([block, added], 1).mT)
        # the first rows are the block but for signs, which the triangle tells: its images are known
        signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(block.dtype)
        span = frame.mT * signs[..., None]
        images = torch.cat([image, operator(span[:, count:])], 1)
        asked += span.shape[1] - count
        small = span @ images.mT
        mixed = _eigh(sign * (small + small.mT) / 2)[1].flip(-1)[..., :count].mT
        fresh = mixed @ span
        change, block, image = fresh - (fresh @ block.mT) @ block, fresh, mixed @ images
    return _ordered(values, block, residuals, asked, sign)


def _by_all(operator: Operator, count: int, sign: float) -> Eigenpairs:
    """Of the whole matrix, where a block of three would fill the space."""
    whole = operator.dense()
    values, vectors = _eigh(whole)
    if sign > 0:
        values, vectors = values.flip(-1), vectors.flip(-1)
    values, rows = values[:, :count], vectors[..., :count].mT
    residuals = (rows @ whole - values[..., None] * rows).norm(dim=-1)
    return _ordered(values, rows, residuals, operator.size, sign)


def _ordered(values: Tensor, rows: Tensor, residuals: Tensor, asked: int, sign: float) -> Eigenpairs:
    order = (sign * values).argsort(-1, descending=True)
    products = torch.full((len(values),), asked, device=values.device)
    sorted_rows = rows.gather(1, order[..., None].expand_as(rows))
    return Eigenpairs(values.gather(1, order), sorted_rows, residuals.gather(1, order), products)


def condition(
    operator: Operator, keys: Keys, *, tolerance: float = 1e-6, iterations: int = 200
) -> Float[Tensor, "B"]:
    """Largest over smallest eigenvalue; infinite where the smallest is not positive.

    Both ends by :func:`top_eigenpairs`, each to ``tolerance`` of its own magnitude; where ``iterations`` end
    first the smallest is an upper bound, and so the condition a lower one.
    """
    high, low = (
        top_eigenpairs(operator, keys, 1, largest=largest, tolerance=tolerance, iterations=iterations).values[
            :, 0
        ]
        for largest in (True, False)
    )
    return torch.where(low > 0, high / low, torch.inf)
