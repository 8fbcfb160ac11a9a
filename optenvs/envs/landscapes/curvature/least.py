"""The minimum of a convex function, by Newton's method with a line search, for many rows at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Value = Callable[[Tensor], Tensor]
Slopes = Callable[[Tensor], tuple[Tensor, Tensor]]

HALVINGS = 10
RIDGE = 1e-13
"""What is added to the Hessian, as a share of its trace: it may be singular along directions of no slope."""


def least(value: Value, slopes: Slopes, x: Float[Tensor, "B n"], steps: int) -> Float[Tensor, "B n"]:
    """Where it is, after as many steps whatever the numbers are.

    A step is the longest of 1, 1/2, 1/4, ... of Newton's that takes a tenth of what its slope promises.

    Args:
        value: the function, ``(..., B)`` of ``(..., B, n)``.
        slopes: its gradient and its Hessian.
        x: where to begin.
        steps: how many.
    """
    sizes = 0.5 ** torch.arange(HALVINGS, dtype=x.dtype, device=x.device)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    for _ in range(steps):  # solve_ex: an error would have to be looked for
        gradient, bent = slopes(x)
        shift = RIDGE * bent.diagonal(dim1=-2, dim2=-1).sum(-1)
        step = -torch.linalg.solve_ex(bent + shift[:, None, None] * eye, gradient).result
        here, slope = value(x), (gradient * step).sum(-1)
        tried = value(x + sizes[:, None, None] * step)
        enough = tried <= here + 0.1 * sizes.unsqueeze(-1) * slope
        # the first of the sizes that takes enough; none does at the minimum itself
        size = sizes[enough.to(torch.int64).argmax(0)]
        moved = (enough.any(0) & step.isfinite().all(-1)).unsqueeze(-1)
        x = torch.where(moved, x + size.unsqueeze(-1) * step, x)
    return x
