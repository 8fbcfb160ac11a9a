"""One iteration of the method of multipliers on a convex program of rectified units (arXiv 2201.01965, 3.1).

    min l(F u) + beta |v|_{2,1} + I(s >= 0)   s.t.   u = v,  G u = s;   scaled multipliers lam and nu,
    penalty rho

With G'G = X'X in every block, the matrix of the u step is I (x) K + F'F / rho, K = I + X'X, whose inverse
needs K^-1 and the Cholesky factor of T = rho I + F (I (x) K^-1) F', n x n: an iteration costs O(n d P + d^2
P + n^2), and no matrix of 2 d P rows exists.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.struct import struct

from .relu import Gated, cones, from_cones, outputs, pulled, shrunk


@struct
class Split:
    """An iterate: u, v, s and the scaled multipliers."""

    u: Float[Tensor, "B 2 P d"]
    v: Float[Tensor, "B 2 P d"]
    s: Float[Tensor, "B 2 n P"]
    lam: Float[Tensor, "B 2 P d"]
    nu: Float[Tensor, "B 2 n P"]


@struct
class Factors:
    """K^-1, X K^-1 X' o 2 D D' and the Cholesky factor of rho I plus that."""

    inverse: Float[Tensor, "B d d"]
    coupled: Float[Tensor, "B n n"]
    factor: Float[Tensor, "B n n"]


def zero(program: Gated) -> Split:
    """The paper's start."""
    u = torch.zeros_like(program.gates).unsqueeze(1).repeat(1, 2, 1, 1)
    s = torch.zeros_like(program.D).unsqueeze(1).repeat(1, 2, 1, 1)
    return Split(u, u, s, u, s)


def factored(program: Gated, rho: Float[Tensor, "B"]) -> Factors:
    """What an exact u step needs."""
    X, D = program.X, program.D
    K = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device) + X.mT @ X
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(K).L)
    coupled = 2 * (X @ inverse @ X.mT) * (D @ D.mT)
    return refactored(Factors(inverse, coupled, coupled), rho)


def refactored(factors: Factors, rho: Float[Tensor, "B"]) -> Factors:
    """The same for another penalty."""
    T = factors.coupled + torch.diag_embed(rho.unsqueeze(-1).expand_as(factors.coupled[:, 0]))
    return Factors(factors.inverse, factors.coupled, torch.linalg.cholesky_ex(T).L)


def exact(program: Gated, factors: Factors, at: Split, rho: Float[Tensor, "B"]) -> Float[Tensor, "B 2 P d"]:
    """The u step of the squared loss: the solution of (I + F'F / rho + G'G) u = b."""
    X, D = program.X, program.D
    b = (
        pulled(X, D, program.y) / rho[:, None, None, None]
        + at.v
        - at.lam
        + from_cones(X, program.E, at.s - at.nu)
    )
    inverse = factors.inverse.unsqueeze(1)
    Z = b @ inverse
    p = torch.cholesky_solve(outputs(X, D, Z).unsqueeze(-1), factors.factor).squeeze(-1)
    return Z - pulled(X, D, p) @ inverse


def advanced(
    program: Gated, at: Split, u: Float[Tensor, "B 2 P d"], rho: Float[Tensor, "B"], step: Float[Tensor, "B"]
) -> Split:
    """v, s and the multipliers after a u step; ``step`` is g / rho."""
    Gu, size = cones(program.X, program.E, u), step[:, None, None, None]
    v = shrunk(u + at.lam, program.beta / rho)
    s = (Gu + at.nu).clamp_min(0)
    return Split(u, v, s, at.lam + size * (u - v), at.nu + size * (Gu - s))


def residual(program: Gated, at: Split) -> Float[Tensor, "B"]:
    """max(|u - v|, |G u - s|), entrywise."""
    Gu = cones(program.X, program.E, at.u) - at.s
    return torch.maximum((at.u - at.v).abs().amax((1, 2, 3)), Gu.abs().amax((1, 2, 3)))
