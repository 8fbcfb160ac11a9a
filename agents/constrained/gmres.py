"""GMRES (Saad and Schultz 1986) on a batch of systems A z = b; each row makes as many products as it may.

The basis is Arnoldi's, made orthogonal twice. Where a row has made its products, or breaks down, there are
columns of zeros, which the small least-squares problem leaves out.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def gmres(
    A: Float[Tensor, "B N N"],
    residual: Float[Tensor, "B N"],
    length: Int64[Tensor, "B"],
    longest: int,
    shortest: int = 0,
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """The step in the Krylov space of the residual after which the residual is least, and that residual.

    Args:
        A: the systems.
        residual: A z - b where each row begins.
        length: the dimension of the space, by row; 0 leaves a row as it is.
        longest: the greatest of them, at least 1.
        shortest: a number that none of them is below.
    """
    few = 8 * torch.finfo(residual.dtype).eps
    size = length_of(residual, True)
    basis = [residual / size.clamp_min(torch.finfo(size.dtype).tiny)]
    images = []
    for j in range(longest):
        image = times(A, basis[j])
        images.append(image)
        if j + 1 == longest:
            break
        span = basis[0].unsqueeze(1) if j == 0 else torch.stack(basis, 1)
        w = image
        for _ in range(2):
            w = w - (times(span, w).unsqueeze(1) @ span).squeeze(1)
        left = length_of(w, True)
        there = left > few * length_of(image, True)
        if j + 1 >= shortest:
            there = there & (length > j + 1).unsqueeze(-1)
        basis.append(torch.where(there, w / left, 0.0))
    if shortest == 0:
        images[0] = torch.where((length > 0).unsqueeze(-1), images[0], 0.0)
    Q, R = torch.linalg.qr(torch.stack(images, -1))
    pivots = R.diagonal(dim1=-2, dim2=-1)
    gone = pivots.abs() <= few * pivots.abs().amax(-1, keepdim=True)
    pivots.masked_fill_(gone, 1.0)  # of R, which is ours
    along = times(Q.mT, residual).masked_fill(gone, 0.0)
    shares = torch.linalg.solve_triangular(R, -along.unsqueeze(-1), upper=True)
    step = (torch.stack(basis, -1) @ shares).squeeze(-1)
    return step, residual - times(Q, along)


def times(matrix: Float[Tensor, "B m n"], vector: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
    """The products."""
    return torch.bmm(matrix, vector.unsqueeze(-1)).squeeze(-1)  # `@` makes three views more


def length_of(vector: Float[Tensor, "B n"], keepdim: bool = False) -> Float[Tensor, "B *one"]:
    """The Euclidean norms."""
    return torch.linalg.vector_norm(vector, dim=-1, keepdim=keepdim)
