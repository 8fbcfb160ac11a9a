"""Polar factors: of G = U S V' the matrix U V', exactly or by Newton and Schulz's iteration of degree five.

    X <- G / (|G|_F + 1e-7);   X <- a X + (b A + c A^2) X,  A = X X'

which takes singular values into [0.68, 1.13] with the fixed coefficients of the reference (Jordan 2024), and
into [0.895, 1.157] with the schedule of Tian's code.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "paper": (
        (4.01, -9.22, 5.80),
        (3.49, -6.38, 3.23),
        (3.34, -6.21, 3.20),
        (3.64, -7.48, 4.43),
        (3.46, -5.35, 2.85),
    ),
    "reference": ((3.4445, -4.7750, 2.0315),) * 5,
}
METHODS = (*COEFFICIENTS, "exact")
_SMALL = 1e-7


def polar(matrix: Float[Tensor, "*B r c"], method: str) -> Float[Tensor, "*B r c"]:
    """The polar factor of each matrix.

    Args:
        matrix: G; of a matrix of zeros it is 0.
        method: ``paper`` or ``reference`` for the iteration, ``exact`` for singular values (whose derivative
            has none where two of them are equal).
    """
    if method == "exact":
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        least = s[..., :1] * torch.finfo(s.dtype).eps * max(matrix.shape[-2:])
        return (u * (s > least).to(s.dtype).unsqueeze(-2)) @ v
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.square().sum((-2, -1), keepdim=True).sqrt() + _SMALL)
    for a, b, c in COEFFICIENTS[method]:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
