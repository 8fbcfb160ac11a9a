"""A linear system of the lower Hessian on the null space of active constraints, a product a query.

With H the Hessian of the lower Lagrangian by y, J the Jacobian by y of the active constraints and P the
projector onto its null space, w in that space solves P H w = P b, and nu = (J')^+ (b - H w) with it

    H w + J' nu = b,    J w = 0,

the system of the implicit function theorem on the conditions of Karush, Kuhn and Tucker; where several w
solve it, conjugate gradients from 0 find the shortest.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import struct

_ROUNDING = 64.0
"""A residual that is so many eps of the right-hand side is rounding."""


@struct
class Constraints:
    """The active constraints.

    Attributes:
        jacobian: of all constraints by (x, y), rows of others zero, ``(B, p, n + m)``.
        inverse: the pseudo-inverse of its columns of y, ``(B, m, p)``.
    """

    jacobian: Float[Tensor, "B p nm"]
    inverse: Float[Tensor, "B m p"]

    @classmethod
    def none(cls, both: Float[Tensor, "B nm"], n: int, p: int) -> Constraints:
        """Nothing known yet."""
        return cls(
            both.new_zeros(len(both), p, both.shape[1]), both.new_zeros(len(both), both.shape[1] - n, p)
        )

    @classmethod
    def of(cls, jacobian: Float[Tensor, "B p nm"], active: Bool[Tensor, "B p"], n: int) -> Constraints:
        """Of these the active ones. Numbers that are none are zeros: their row ends otherwise."""
        kept = torch.where(active.unsqueeze(-1), jacobian, 0.0).nan_to_num()
        return cls(kept, torch.linalg.pinv(kept[:, :, n:]))

    def tangent(self, v: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """P v."""
        if not self.inverse.shape[2]:
            return v
        by_y = self.jacobian[:, :, -v.shape[1] :]
        return v - (self.inverse @ (by_y @ v.unsqueeze(-1))).squeeze(-1)

    def multipliers(self, v: Float[Tensor, "B m"]) -> Float[Tensor, "B p"]:
        """The nu with the least |J' nu - v|."""
        return (self.inverse.mT @ v.unsqueeze(-1)).squeeze(-1)

    def pulled(self, nu: Float[Tensor, "B p"], n: int) -> Float[Tensor, "B n"]:
        """J_x' nu."""
        if not nu.shape[1]:
            return nu.new_zeros(len(nu), n)
        return (self.jacobian[:, :, :n].mT @ nu.unsqueeze(-1)).squeeze(-1)


@struct
class System:
    """A solve under way, for a right-hand side b.

    Attributes:
        curved: the products of (x, y) with w, the mixed one and H w, ``(B, n + m)``.
        residual: P (b - H w), ``(B, m)``.
        direction: that of the next product, in the null space, ``(B, m)``.
        size: |residual|^2, ``(B, 1)``.
        failed: whether H was not positive along a direction, ``(B,)``.
    """

    curved: Float[Tensor, "B nm"]
    residual: Float[Tensor, "B m"]
    direction: Float[Tensor, "B m"]
    size: Float[Tensor, "B 1"]
    failed: Bool[Tensor, "B"]

    @classmethod
    def begin(cls, right: Float[Tensor, "B m"], n: int, constraints: Constraints) -> System:
        """From w = 0."""
        residual = constraints.tangent(right)
        return cls(
            curved=right.new_zeros(len(right), n + right.shape[1]),
            residual=residual,
            direction=residual,
            size=residual.square().sum(-1, True),
            failed=torch.zeros_like(right[:, 0], dtype=torch.bool),
        )

    def received(self, product: Float[Tensor, "B nm"], constraints: Constraints) -> System:
        """One iteration, with the products of (x, y) with the direction."""
        bent = constraints.tangent(product[:, -self.residual.shape[1] :])
        curvature = (self.direction * bent).sum(-1, True)
        failed = ~(curvature > 0)
        length = torch.where(failed, 0.0, self.size / torch.where(failed, 1.0, curvature))
        # into the null space again: without it what rounding leaves outside is soon larger than the rest
        residual = constraints.tangent(self.residual - length * bent)
        size = residual.square().sum(-1, True)
        share = size / torch.where(self.size > 0, self.size, 1.0)
        return System(
            curved=self.curved + length * product,
            residual=residual,
            direction=residual + share * self.direction,
            size=size,
            failed=self.failed | failed.squeeze(-1),
        )

    def solved(self, right: Float[Tensor, "B m"], accuracy: float) -> Bool[Tensor, "B"]:
        """Whether |residual| <= accuracy |b|, or it is rounding."""
        least = max(accuracy, _ROUNDING * torch.finfo(right.dtype).eps)
        return self.size.squeeze(-1) <= least**2 * right.square().sum(-1)

    def slope(self, upper: Float[Tensor, "B nm"], n: int, constraints: Constraints) -> Float[Tensor, "B n"]:
        """The hypergradient F_x - L_xy w - J_x' nu, where b is F_y.

        Args:
            upper: (F_x, F_y).
            n: the number of upper variables.
            constraints: the active ones.
        """
        left = upper - self.curved
        return left[:, :n] - constraints.pulled(constraints.multipliers(left[:, n:]), n)
