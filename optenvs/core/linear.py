"""Products of matrices and vectors, row by row of a batch, in the form that is fast."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def times(matrix: Float[Tensor, "*c m n"], vector: Float[Tensor, "*b n"]) -> Float[Tensor, "*d m"]:
    """The product with one matrix a row, or with one ``(m, n)`` of all rows, which is then not copied."""
    if matrix.ndim == 2:
        return vector @ matrix.mT
    # a row times a matrix: a batch of matrices times columns takes the CPU up to five times as long
    return (vector.unsqueeze(-2) @ matrix.mT).squeeze(-2)
