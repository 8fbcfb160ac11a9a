"""The Newton system of the Lagrangian, made positive on the constraints' null space.

    A z = b,   A = [[B, G'], [G, 0]],   b = -(grad_x L, c),   z = (dx, dmultipliers),   B = H + t I

with t = xi + |H| where the least eigenvalue of Z'HZ is below a threshold (Z: a basis of the null space of G),
else 0. Norms of matrices are Frobenius's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..asking import Notes
from ._rows import cat, look
from .gmres import length_of, times


class System(NamedTuple):
    """The system and what it is made of.

    Attributes:
        slope: grad_x L, ``(B, n)``.
        c, G, H: constraints, Jacobian, the Lagrangian's Hessian.
        B: the modified Hessian.
        shift: t.
        shifted: whether it is more than 0 in a row, as far as the host may look.
        size, modified: |H| and |B|, ``(B,)``.
        least: the least eigenvalue of G G', ``(B,)``.
        A, b: the system.
    """

    slope: Float[Tensor, "B n"]
    c: Float[Tensor, "B m"]
    G: Float[Tensor, "B m n"]
    H: Float[Tensor, "B n n"]
    B: Float[Tensor, "B n n"]
    shift: Float[Tensor, "B"]
    shifted: bool
    size: Float[Tensor, "B"]
    modified: Float[Tensor, "B"]
    least: Float[Tensor, "B"]
    A: Float[Tensor, "B N N"]
    b: Float[Tensor, "B N"]

    def parts(self, z: Float[Tensor, "B N"]) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        """Both parts of z: dx and dmultipliers."""
        n = self.slope.shape[-1]
        return z[:, :n], z[:, n:]


def system(notes: Notes, multipliers: Float[Tensor, "B m"], xi: float, reduced: float | None) -> System:
    """The system at the last answers.

    Args:
        notes: with gradient, constraints, Jacobian and Hessian.
        multipliers: where the Hessian was asked.
        xi: what the shift adds to the Hessian's norm.
        reduced: the threshold of the reduced Hessian's eigenvalues; ``None`` for no shift.
    """
    c, G, H = notes["constraints"], notes["jacobian"], notes["hessian"]
    slope = notes["gradient"] + times(G.mT, multipliers)
    least, size = eigenvalues(torch.bmm(G, G.mT))[:, 0], norm(H)
    low = None if reduced is None else bent(G, H, reduced)
    B, modified, shift = H, size, torch.zeros_like(size)
    shifted = low is not None and look(low).some
    if low is not None and shifted:
        shift = torch.where(low, xi + size, 0.0)
        B = H + torch.diag_embed(shift.unsqueeze(-1).expand_as(slope))
        modified = norm(B)
    corner = G.new_zeros(*c.shape, c.shape[-1])
    A = torch.cat((torch.cat((B, G.mT), -1), torch.cat((G, corner), -1)), -2)
    return System(slope, c, G, H, B, shift, shifted, size, modified, least, A, -cat(slope, c))


def bent(G: Float[Tensor, "B m n"], H: Float[Tensor, "B n n"], reduced: float) -> Bool[Tensor, "B"] | None:
    """Where the reduced Hessian has an eigenvalue below the threshold; ``None`` without a null space."""
    m, n = G.shape[-2:]
    if m >= n:
        return None
    Z = torch.linalg.qr(G.mT, mode="complete")[0][..., m:]
    return eigenvalues(torch.bmm(torch.bmm(Z.mT, H), Z))[:, 0] < reduced


def eigenvalues(matrix: Float[Tensor, "B n n"]) -> Float[Tensor, "B n"]:
    """Of a symmetric matrix, rising. One with a NaN has none: such a row gets any."""
    matrix = matrix.nan_to_num(0.0, 0.0, 0.0)
    return matrix[..., 0] if matrix.shape[-1] == 1 else torch.linalg.eigvalsh(matrix)


def norm(matrix: Float[Tensor, "B m n"]) -> Float[Tensor, "B"]:
    """Frobenius's."""
    return length_of(matrix.flatten(1))


def dot(one: Float[Tensor, "B n"], other: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """The scalar products."""
    return (one * other).sum(-1)
