"""A batch of small convex quadratic programs by a primal-dual interior-point method (Mehrotra 1992).

    minimise  1/2 u' P u + b' u   subject to  G u <= h

Every program takes the same number of iterations, each of them one factorisation of a matrix of the size of
u; more rows of G cost little. The solution is strictly inside, as far from a tight row as the accuracy.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_BACK = 0.99
"""How much of the way to the nearest face a step goes."""


def solve(
    P: Float[Tensor, "B n n"],
    b: Float[Tensor, "B n"],
    G: Float[Tensor, "B m n"],
    h: Float[Tensor, "B m"],
    iterations: int = 20,
) -> Float[Tensor, "B n"]:
    """The minimisers. The programs must be feasible and bounded, and of the scale of 1."""
    size = b.shape[-1]
    eye = torch.eye(size, dtype=b.dtype, device=b.device)
    u = torch.zeros_like(b)
    s = (h - _times(G, u)).clamp_min(1.0)
    z = torch.ones_like(s)
    tiny = torch.finfo(b.dtype).tiny ** 0.5
    for _ in range(iterations):
        dual = _times(P, u) + b + _times(G.mT, z)
        primal = _times(G, u) + s - h
        gap = (s * z).mean(-1, keepdim=True)
        weight = z / s
        matrix = P + G.mT @ (weight.unsqueeze(-1) * G)
        # a little of its own size on the diagonal: rows that do not matter leave it singular
        most = matrix.diagonal(dim1=-2, dim2=-1).amax(-1).clamp_min(1e-3)
        factor, _ = torch.linalg.cholesky_ex(matrix + 1e-14 * most[:, None, None] * eye)

        def step(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # s z should become `target`
            inner = (z * primal + target - s * z) / s  # noqa: B023 - called in this iteration only
            right = -dual - _times(G.mT, inner)  # noqa: B023
            du = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)  # noqa: B023
            ds = -primal - _times(G, du)  # noqa: B023
            dz = (target - s * z - z * ds) / s  # noqa: B023
            return du, ds, dz

        _, ds, dz = step(torch.zeros_like(s))
        length = torch.minimum(_reach(s, ds), _reach(z, dz))
        after = ((s + length * ds) * (z + length * dz)).mean(-1, keepdim=True)
        centre = (after / gap).clamp(0.0, 1.0) ** 3
        du, ds, dz = step(centre * gap - ds * dz)
        length = _BACK * torch.minimum(_reach(s, ds), _reach(z, dz))
        moved = u + length * du, s + length * ds, z + length * dz
        # a program that is solved to the last digit stays as it is
        sound = torch.stack([m.isfinite().all(-1) for m in moved]).all(0).unsqueeze(-1) & (gap > 1e-13)
        u, s, z = (torch.where(sound, m, old) for m, old in zip(moved, (u, s, z), strict=True))
        s, z = s.clamp_min(tiny), z.clamp_min(tiny)
    return u


def _times(matrix: Float[Tensor, "B m n"], vector: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _reach(x: Float[Tensor, "B m"], dx: Float[Tensor, "B m"]) -> Float[Tensor, "B 1"]:
    """The longest step, at most 1, at which ``x + length dx`` is not negative."""
    return torch.where(dx < 0, -x / dx, 1.0).amin(-1, keepdim=True).clamp(0.0, 1.0)
