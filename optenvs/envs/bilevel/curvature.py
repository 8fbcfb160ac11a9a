"""The largest curvature of a function at a point, where no formula tells it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.oracles import hvp

STEPS = 12


def largest(function: Callable[[Tensor], Float[Tensor, "B"]], at: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """The largest eigenvalue of the Hessian in size, from below, by steps of the power method.

    Args:
        function: ``(B, n) -> (B,)``, of rows that do not see each other.
        at: the point of each row.
    """
    tilt = torch.arange(at.shape[1], dtype=at.dtype, device=at.device) / at.shape[1]
    vector = torch.ones_like(at) + 0.1 * tilt
    for _ in range(STEPS):
        size = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        vector = hvp(function, at, vector / size.clamp_min(torch.finfo(at.dtype).tiny))[2]
    return torch.linalg.vector_norm(vector, dim=-1)
