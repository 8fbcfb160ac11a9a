"""Steps of a quadratic or cubic model, for all rows at once: pure functions, failures as masks.

The model of a row is g'h + h'Hh/2; all norms are those of its metric B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.linear import times
from optenvs.core.struct import rows

from ._conjugate import Inner
from ._forms import may_look
from ._metric import Metric, solved

Step = Float[Tensor, "B n"]
_STEPS = 16  # of the search for the length of a cubic step; 8 reach its rounding


def of_rows(
    mask: Bool[Tensor, "B"], function: Callable[..., tuple[Tensor, ...]], *parts: Any
) -> tuple[Tensor, ...]:
    """``function`` of the rows of ``parts`` in ``mask``; zeros in the others.

    Where the host may look at the mask, the other rows cost nothing; elsewhere they are computed and masked.

    Args:
        mask: the rows.
        function: of tensors, and structs of them, whose rows do not see each other.
        *parts: its arguments.
    """
    which = mask.nonzero().squeeze(-1) if may_look(mask) else None
    if which is None or 0 < len(which) == len(mask):
        found = function(*parts)
        return tuple(torch.where(_beside(mask, part), part, torch.zeros_like(part)) for part in found)
    # an empty mask asks one row, for the shapes of the answer
    some = which if len(which) else which.new_zeros(1)
    found = function(*(rows(part, some) for part in parts))
    whole = tuple(part.new_zeros(len(mask), *part.shape[1:]) for part in found)
    if not len(which):
        return whole
    return tuple(zeros.index_put((which,), part) for zeros, part in zip(whole, found, strict=True))


def regularised(
    hessian: Float[Tensor, "B n n"], metric: Metric, scale: Float[Tensor, "B"], g: Step
) -> tuple[Step, Bool[Tensor, "B"]]:
    """The step -(H + scale B)^-1 g by Cholesky, and in which rows the matrix is positive definite."""
    factor, wrong = torch.linalg.cholesky_ex(metric.added(hessian, scale))
    good = (wrong == 0) & factor.diagonal(dim1=-2, dim2=-1).isfinite().all(-1)
    if not (may_look(good) and bool(good.all())):
        factor = torch.where(_beside(good, factor), factor, _identity(factor))
    step = -solved(factor, g)
    good = good & step.isfinite().all(-1)
    return torch.where(good.unsqueeze(-1), step, torch.zeros_like(step)), good


def by_factor(
    factor: Float[Tensor, "B m n"], metric: Metric, scale: Float[Tensor, "B"], g: Step
) -> tuple[Step, Bool[Tensor, "B"]]:
    """The step -(F'F + scale B)^-1 g by Sherman, Morrison and Woodbury: a system of m equations only."""
    raised, along = metric.raised(g), metric.raised_rows(factor)  # B^-1 g and, row by row, B^-1 f
    small = factor @ along.mT + torch.diag_embed(scale.unsqueeze(-1).expand(-1, factor.shape[1]))
    root, wrong = torch.linalg.cholesky_ex(small)
    share = solved(root, times(factor, raised))
    step = -(raised - times(along.mT, share)) / scale.unsqueeze(-1)
    return step, (wrong == 0) & step.isfinite().all(-1)


def cubic(
    hessian: Float[Tensor, "B n n"], metric: Metric, M: Float[Tensor, "B"], g: Step
) -> tuple[Step, Float[Tensor, "B"], Bool[Tensor, "B"]]:
    """The minimiser h of the cubic model g'h + h'Hh/2 + (M/6) ||h||^3, its value, and whether it was found.

    r = ||h|| solves r = ||(H + (M r / 2) B)^-1 g|| (Nesterov, Polyak 2006). One eigendecomposition in the
    metric serves all iterations; they are Newton's in the logarithm of r, beyond the least r for which the
    shifted matrix is positive, where both sides are near to powers, and the middle of the known interval
    where Newton's leave it. In the hard case, where g has no part along the least eigenvector and that part
    is what is missing to the length r, it is added.
    """
    eps, tiny = torch.finfo(g.dtype).eps, torch.finfo(g.dtype).tiny
    whole = metric.whitened_matrix(hessian)
    fine = whole.isfinite().flatten(1).all(-1) & g.isfinite().all(-1)
    values, vectors = torch.linalg.eigh(whole.nan_to_num(0.0, 0.0, 0.0))
    along = times(vectors.mT, metric.whitened(g).nan_to_num(0.0, 0.0, 0.0))
    size = torch.linalg.vector_norm(along, dim=-1)
    least = (-2 * values[:, 0] / M).clamp_min(0)
    shifted = values + (M * least / 2).unsqueeze(-1)  # not negative

    def length(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the step with r = least + u: its coordinates, their norm, and how fast that falls by u's log."""
        more = (M * u / 2).unsqueeze(-1)
        y = -along / (shifted.clamp_min(0) + more).clamp_min(tiny)
        square = (y * y).sum(-1).clamp_min(tiny)
        return (
            y,
            square.sqrt(),
            (y * y * more / (shifted.clamp_min(0) + more).clamp_min(tiny)).sum(-1) / square,
        )

    def bound(value: Tensor) -> Tensor:  # the r with (value + M r / 2) r = size
        root = (value * value + 2 * M * size).sqrt()
        return torch.where(value > 0, 2 * size / (value + root).clamp_min(tiny), (root - value) / M)

    low = (
        torch.maximum(bound(values[:, -1]) - least, eps * (least + bound(values[:, 0]))).clamp_min(tiny).log()
    )
    high = torch.maximum((bound(values[:, 0]) - least).clamp_min(tiny).log(), low)
    t = high
    for _ in range(_STEPS):
        _, norm, falls = length(t.exp())
        r = least + t.exp()
        above = r.log() - norm.log()
        high, low = torch.where(above >= 0, t, high), torch.where(above < 0, t, low)
        newton = t - above / (t.exp() / r + falls).clamp_min(tiny)
        t = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        if may_look(t) and bool((above.abs() <= 1e-12).all()):
            break
    u = t.exp()
    y, norm, _ = length(u)
    missing = ((least + u) ** 2 - norm**2).clamp_min(0) * (u <= 1e-6 * least)
    first = y[:, :1].square() + missing.unsqueeze(-1)
    y = torch.cat((torch.where(y[:, :1] < 0, -first.sqrt(), first.sqrt()), y[:, 1:]), -1)
    model = (along * y + values * y * y / 2).sum(-1) + M / 6 * torch.linalg.vector_norm(y, dim=-1) ** 3
    step = metric.unwhitened(times(vectors, y))
    return step, model, fine & step.isfinite().all(-1)


def steihaug(
    hessian: Float[Tensor, "B n n"], metric: Metric, radius: Float[Tensor, "B"], g: Step
) -> tuple[Step, Float[Tensor, "B"], Bool[Tensor, "B"]]:
    """Conjugate gradients within a ball: h, its model's value, and whether h is on the border."""
    every, most = torch.ones_like(radius, dtype=torch.bool), 2 * g.shape[-1]
    enough = steihaug_residual(metric.dual_norm(g))
    inner = Inner.empty(g).restarted(every, g, metric).looked(every, enough, most)
    for _ in range(most):
        if may_look(inner.waiting) and not bool(inner.waiting.any()):
            break
        turned = times(hessian, inner.direction)
        inner = inner.received(inner.waiting, turned, metric, radius=radius).looked(every, enough, most)
    return inner.step, inner.model(g), inner.ended


def steihaug_residual(norm: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """||r||_* with which they end: min(0.5, ||g||_*^1/2) ||g||_* (Nocedal, Wright 2006, algorithm 7.2)."""
    return norm.sqrt().clamp_max(0.5) * norm


def _beside(mask: Bool[Tensor, "B"], part: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (part.ndim - 1))


def _identity(factor: Float[Tensor, "B n n"]) -> Float[Tensor, "B n n"]:
    return torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device).expand_as(factor)
