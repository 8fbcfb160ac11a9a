"""The squared hinge by a batched semismooth Newton method: an SVM is solved and projected by it.

For rows ã_i = s_i (a_i, 1) of samples a_i (d) with signs s_i, and t = (w, b), this module finds

    argmin_t  |w - w0|^2 / 2 + r (b - b0)^2 / 2 + sum_i e_i max(0, k_i - ã_i't)^2 / 2.

With r = 0, t0 = 0, k = 1 and e = exp(c) it is the lower solution of the SVM at the log penalties c; with r =
1, t0 the point, k = 1 - xi0 and e = 1 the projection onto {(t, xi) : ã_i't + xi_i >= 1}. The function is
piecewise quadratic: Newton's method with the Hessian of the active samples (k_i > ã_i't) ends, up to
rounding, after finitely many steps, and the best of the lengths 1, 1/2, ... of each keeps it from cycling. A
step solves one system of d + 1 unknowns, or of N where N < d (Woodbury), by Cholesky. All are masks: a row
that is done stays as it is, and what fails in one (a factor that does not exist, numbers that are none) is a
flag of that row. D is d + 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.linear import times

STEPS = 15
"""Newton steps that a solve may take: it took 3 to 12 on the sets tried, anywhere in the box of c."""
_HALVINGS = 5
_EXACT, _LOOSE = 1e-13, 1e-8
"""Of the gradient, relative to its parts: at the first a row is done, above the second it has failed."""
_TINY = 1e-12
"""The curvature of b where nothing else bends it: no sample is active, and r = 0."""


class Minimum(NamedTuple):
    """Where it was found.

    Attributes:
        t: (w, b), ``(B, D)``.
        slack: max(0, k_i - ã_i't), ``(B, N)``.
        solved: whether the gradient is 0 there, up to rounding, ``(B,)``.
        steps: Newton steps that the row needed, ``(B,)``.
    """

    t: Float[Tensor, "B D"]
    slack: Float[Tensor, "B N"]
    solved: Bool[Tensor, "B"]
    steps: Int64[Tensor, "B"]


class Rows(NamedTuple):
    """The samples.

    Attributes:
        signed: ã, ``(B, N, D)``; the last column is the sign.
        gram: of the signed samples without that column, ``(B, N, N)``; ``None`` where N >= d, which needs
            none.
    """

    signed: Float[Tensor, "B N D"]
    gram: Float[Tensor, "B N N"] | None

    def margins(self, t: Float[Tensor, "B D"]) -> Float[Tensor, "B N"]:
        """ã_i't."""
        return times(self.signed, t)

    def pulled(self, by: Float[Tensor, "B N"]) -> Float[Tensor, "B D"]:
        """The sum of by_i ã_i."""
        return (by.unsqueeze(-2) @ self.signed).squeeze(-2)


class Target(NamedTuple):
    """What is minimised beside the samples; the names are those of the module.

    Attributes:
        weights: e >= 0, ``(B, N)``.
        margins: k, ``(B, N)``.
        centre: t0, ``(B, D)``.
        ridge: r >= 0.
    """

    weights: Float[Tensor, "B N"]
    margins: Float[Tensor, "B N"]
    centre: Float[Tensor, "B D"]
    ridge: float


def gram(signed: Float[Tensor, "B N D"]) -> Float[Tensor, "B N N"] | None:
    """What :class:`Rows` keep of ``signed``: the inner products, where samples are fewer than inputs."""
    if signed.shape[-2] >= signed.shape[-1] - 1:
        return None
    return signed[..., :-1] @ signed[..., :-1].mT


def solve(
    rows: Rows, active: Float[Tensor, "B N"], right: Float[Tensor, "B D"], ridge: float
) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B"]]:
    """(diag(1, ..., 1, ridge) + sum_i active_i ã_i ã_i')^-1 right, and whether the factor exists.

    Args:
        rows: the samples.
        active: weights >= 0.
        right: the right-hand side.
        ridge: r; 1e-12 stands for 0, which matters where no sample is active.
    """
    ridge = max(ridge, _TINY)
    if rows.gram is not None:
        return _solve_by_samples(rows, rows.gram, active, right, ridge)
    hessian = rows.signed.mT @ (active.unsqueeze(-1) * rows.signed)
    factor, info = torch.linalg.cholesky_ex(hessian + torch.diag_embed(_bent(torch.ones_like(right), ridge)))
    return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1), info == 0


def _solve_by_samples(
    rows: Rows, products: Tensor, active: Tensor, right: Tensor, ridge: float
) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B"]]:
    """The same through I + S X X' S, of size N, with S = active^(1/2) and ã = (X, s); b is eliminated."""
    inputs, idle = rows.signed[..., :-1], active <= 0
    root = torch.where(idle, 0.0, torch.where(idle, 1.0, active).sqrt())  # whose slope at 0 is infinite
    turned = root * rows.signed[..., -1]
    inner = root.unsqueeze(-1) * products * root.unsqueeze(-2)
    identity = torch.eye(root.shape[-1], dtype=inner.dtype, device=inner.device)
    factor, info = torch.linalg.cholesky_ex(inner + identity)
    by_w, by_b = right[:, :-1], right[:, -1]
    along = root * times(inputs, by_w)
    of_w, of_b = torch.cholesky_solve(torch.stack((along, turned), -1), factor).unbind(-1)
    # u = S (of_w + b of_b) is the samples' pull: w = by_w - X'u, and r b = by_b - s'u gives b
    b = (by_b - (turned * of_w).sum(-1)) / (ridge + (turned * of_b).sum(-1))
    u = root * (of_w + b.unsqueeze(-1) * of_b)
    w = by_w - (u.unsqueeze(-2) @ inputs).squeeze(-2)
    return torch.cat((w, b.unsqueeze(-1)), -1), info == 0


def minimise(rows: Rows, target: Target, steps: int = STEPS) -> Minimum:
    """The minimiser, by Newton's method from ``target.centre``, in at most ``steps`` steps.

    One step more is taken by every row: derivatives through it alone are those of the solution, so that the
    steps before are one operation that nothing differentiates, records or looks into.
    """
    parts = (rows.signed, rows.gram, target.weights, target.margins, target.centre)
    known = (None if part is None else part.detach() for part in parts)
    t, count = _newton(*known, target.ridge, steps)
    slack = (target.margins - rows.margins(t)).clamp_min(0)
    gradient, _ = _gradient(rows, target, slack, t)
    step, factored = solve(rows, target.weights * (slack > 0), -gradient, target.ridge)
    t = t + step
    slack = (target.margins - rows.margins(t)).clamp_min(0)
    gradient, size = _gradient(rows, target, slack, t)
    solved = factored & (gradient.abs().amax(-1) <= _LOOSE * size)  # of what is no number, false
    return Minimum(t, slack, solved, count)


@torch.library.custom_op(
    "optenvs::squared_hinge",
    mutates_args=(),
    schema="(Tensor signed, Tensor? gram, Tensor weights, Tensor margins, Tensor centre, float ridge, "
    "int steps) -> (Tensor, Tensor)",
)
def _newton(
    signed: Tensor,
    gram: Tensor | None,
    weights: Tensor,
    margins: Tensor,
    centre: Tensor,
    ridge: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Newton's steps: (w, b) and the steps that each row took. On the host it stops when all are done."""
    rows, target = Rows(signed, gram), Target(weights, margins, centre, ridge)
    t = centre.clone()
    count = torch.zeros(len(t), dtype=torch.int64, device=t.device)
    done = torch.zeros(len(t), dtype=torch.bool, device=t.device)
    for _ in range(steps):
        slack = (margins - rows.margins(t)).clamp_min(0)
        gradient, size = _gradient(rows, target, slack, t)
        done = done | (gradient.abs().amax(-1) <= _EXACT * size) | ~size.isfinite()
        if t.device.type == "cpu" and bool(done.all()):
            break
        step, _ = solve(rows, weights * (slack > 0), -gradient, ridge)
        length = _length(rows, target, t, step)
        t = torch.where(done.unsqueeze(-1), t, t + length.unsqueeze(-1) * step)
        count = count + ~done
    return t, count


@_newton.register_fake
def _(signed: Any, gram: Any, weights: Any, margins: Any, centre: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(centre), centre.new_empty(centre.shape[:1], dtype=torch.int64)


@_newton.register_vmap
def _(
    info: Any, places: tuple[int | None, ...], *parts: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Rows do not see each other: those of all copies are the rows of one call."""

    def joined(part: Any, place: int | None) -> Any:
        if not isinstance(part, Tensor):
            return part
        part = part.expand(info.batch_size, *part.shape) if place is None else part.movedim(place, 0)
        return part.flatten(0, 1)

    t, count = _newton(*map(joined, parts, places))
    size = (info.batch_size, -1)
    return (t.unflatten(0, size), count.unflatten(0, size)), (0, 0)


def _bent(t: Float[Tensor, "B D"], ridge: float) -> Float[Tensor, "B D"]:
    return torch.cat((t[:, :-1], ridge * t[:, -1:]), -1)


def _gradient(
    rows: Rows, target: Target, slack: Tensor, t: Tensor
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
    """The gradient, and the size of what it is the difference of."""
    own, pulled = _bent(t - target.centre, target.ridge), rows.pulled(target.weights * slack)
    return own - pulled, 1 + own.abs().amax(-1) + pulled.abs().amax(-1)


def _length(rows: Rows, target: Target, t: Tensor, step: Tensor) -> Float[Tensor, "B"]:
    """Of the lengths 1, 1/2, ... that with the least slope in absolute value along the step."""
    room, along = target.margins - rows.margins(t), rows.margins(step)
    bent = _bent(step, target.ridge)
    first, second = (bent * (t - target.centre)).sum(-1), (bent * step).sum(-1)
    sizes = 0.5 ** torch.arange(_HALVINGS + 1, dtype=t.dtype, device=t.device).unsqueeze(-1)
    slack = (room - sizes.unsqueeze(-1) * along).clamp_min(0)  # (lengths, B, N)
    slopes = first + sizes * second - (target.weights * along * slack).sum(-1)
    return sizes.squeeze(-1)[slopes.abs().argmin(0)]
