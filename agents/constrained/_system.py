"""The Newton system of the Lagrangian, made positive on the constraints' null space.

    A z = b,   A = [[B, G'], [G, 0]],   b = -(grad_x L, c),   z = (dx, dmultipliers),   B = H + t I

with t = xi + |H| where the least eigenvalue of Z'HZ is below a threshold (Z: a basis of the null space of G),
else 0. Norms of matrices are Frobenius's.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..asking import Notes
from ._rows import cat, look
from .gmres import times


class System:
    """The system and what it is made of; what a method does not ask for is not computed.

    Attributes:
        slope: grad_x L, ``(B, n)``.
        c, G, H: constraints, Jacobian, the Lagrangian's Hessian.
        bent: where the Hessian is modified, ``(B,)``; ``None`` in no row, as far as the host may look.
        xi: what the shift adds to the Hessian's norm.
    """

    def __init__(
        self,
        slope: Float[Tensor, "B n"],
        c: Float[Tensor, "B m"],
        G: Float[Tensor, "B m n"],
        H: Float[Tensor, "B n n"],
        bent: Bool[Tensor, "B"] | None,
        xi: float,
    ) -> None:
        self.slope, self.c, self.G, self.H, self.bent, self.xi = slope, c, G, H, bent, xi

    @cached_property
    def size(self) -> Float[Tensor, "B"]:
        """|H|."""
        return norm(self.H)

    @cached_property
    def shift(self) -> Float[Tensor, "B"]:
        """The shift t."""
        if self.bent is None:
            return self.c.new_zeros(len(self.c))
        return torch.where(self.bent, self.xi + self.size, 0.0)

    @cached_property
    def B(self) -> Float[Tensor, "B n n"]:  # noqa: N802
        """The modified Hessian."""
        if self.bent is None:
            return self.H
        return self.H + torch.diag_embed(self.shift.unsqueeze(-1).expand_as(self.slope))

    @cached_property
    def modified(self) -> Float[Tensor, "B"]:
        """|B|."""
        return self.size if self.bent is None else norm(self.B)

    @cached_property
    def least(self) -> Float[Tensor, "B"]:
        """The least eigenvalue of G G'."""
        return eigenvalues(torch.bmm(self.G, self.G.mT))[:, 0]

    @cached_property
    def A(self) -> Float[Tensor, "B N N"]:  # noqa: N802
        """The matrix."""
        above = torch.cat((self.B, self.G.mT), -1)
        return torch.cat((above, torch.nn.functional.pad(self.G, (0, self.c.shape[-1]))), -2)

    @cached_property
    def left(self) -> Float[Tensor, "B N"]:
        """(grad_x L, c)."""
        return cat(self.slope, self.c)

    @cached_property
    def b(self) -> Float[Tensor, "B N"]:
        """The right-hand side."""
        return -self.left

    def parts(self, z: Float[Tensor, "B N"]) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        """Both parts of z: dx and dmultipliers."""
        n = self.slope.shape[-1]
        return z[:, :n], z[:, n:]

    def dependent(self, threshold: float) -> Bool[Tensor, "B"]:
        """Where an eigenvalue of G G' is below the threshold, or none is a number.

        Cholesky's factorisation says it in half the time that the eigenvalues take.
        """
        eye = torch.eye(self.G.shape[-2], dtype=self.G.dtype, device=self.G.device)
        moved = torch.add(torch.bmm(self.G, self.G.mT), eye, alpha=-threshold)
        return torch.linalg.cholesky_ex(moved)[1] != 0


def system(
    notes: Notes,
    multipliers: Float[Tensor, "B m"],
    xi: float,
    reduced: float | None,
    slope: Float[Tensor, "B n"] | None = None,
) -> System:
    """The system at the last answers.

    Args:
        notes: with gradient, constraints, Jacobian and Hessian.
        multipliers: where the Hessian was asked.
        xi: what the shift adds to the Hessian's norm.
        reduced: the threshold of the reduced Hessian's eigenvalues; ``None`` for no shift.
        slope: grad_x L, where it is known.
    """
    c, G, H = notes["constraints"], notes["jacobian"], notes["hessian"]
    if slope is None:
        slope = notes["gradient"] + times(G.mT, multipliers)
    low = None if reduced is None else bent(G, H, reduced)
    return System(slope, c, G, H, low if low is not None and look(low).some else None, xi)


def bent(G: Float[Tensor, "B m n"], H: Float[Tensor, "B n n"], reduced: float) -> Bool[Tensor, "B"] | None:
    """Where the reduced Hessian has an eigenvalue below the threshold; ``None`` without a null space."""
    m, n = G.shape[-2:]
    if m >= n:
        return None
    Z = torch.linalg.qr(G.mT, mode="complete")[0][..., m:]
    return eigenvalues(torch.bmm(torch.bmm(Z.mT, H), Z))[:, 0] < reduced


def eigenvalues(matrix: Float[Tensor, "B n n"]) -> Float[Tensor, "B n"]:
    """Of a symmetric matrix, rising. One with a NaN has none: such a row gets any."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0]
    return torch.linalg.eigvalsh(matrix.nan_to_num(0.0, 0.0, 0.0))


def norm(matrix: Float[Tensor, "B m n"]) -> Float[Tensor, "B"]:
    """Frobenius's."""
    return torch.linalg.vector_norm(matrix, dim=(-2, -1))


def dot(one: Float[Tensor, "B n"], other: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """The scalar products."""
    return torch.linalg.vecdot(one, other)
