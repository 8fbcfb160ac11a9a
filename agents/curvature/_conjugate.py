"""Conjugate gradients for (H + scale B) h = -g on products with H, one a query, preconditioned by B."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import replace, select, struct

from ._metric import Metric, dot


@struct
class Inner:
    """A solve under way.

    Attributes:
        step: h so far, ``(B, n)``.
        curved: H h, ``(B, n)``: with it a solve for another scale goes on from h without a product.
        residual: -g - (H + scale B) h, ``(B, n)``.
        direction: that of the next product, ``(B, n)``.
        size: <r, B^-1 r>, ``(B,)``.
        count: products of this solve, ``(B,)``.
        waiting: whether a product is asked, ``(B,)``.
        failed: whether the matrix was not positive along a direction, ``(B,)``.
    """

    step: Float[Tensor, "B n"]
    curved: Float[Tensor, "B n"]
    residual: Float[Tensor, "B n"]
    direction: Float[Tensor, "B n"]
    size: Float[Tensor, "B"]
    count: Int64[Tensor, "B"]
    waiting: Bool[Tensor, "B"]
    failed: Bool[Tensor, "B"]

    @classmethod
    def empty(cls, like: Float[Tensor, "B n"]) -> Inner:
        """No solve."""
        zero, number = torch.zeros_like(like), torch.zeros_like(like[:, 0])
        return cls(zero, zero, zero, zero, number, number.long(), number > 0, number > 0)

    def received(
        self,
        answered: Bool[Tensor, "B"],
        product: Float[Tensor, "B n"],
        metric: Metric,
        scale: Float[Tensor, "B"],
    ) -> Inner:
        """One iteration, in the rows whose product H p has come."""
        whole = product + scale.unsqueeze(-1) * metric.lowered(self.direction)
        curvature = dot(self.direction, whole)
        falls = ~(curvature > 0)
        alpha = self.size / torch.where(falls, torch.ones_like(curvature), curvature)
        alpha = torch.where(falls, torch.zeros_like(alpha), alpha).unsqueeze(-1)
        residual = self.residual - alpha * whole
        raised = metric.raised(residual)
        size = dot(residual, raised)
        beta = size / torch.where(self.size > 0, self.size, torch.ones_like(size))
        after = Inner(
            step=self.step + alpha * self.direction,
            curved=self.curved + alpha * product,
            residual=residual,
            direction=raised + beta.unsqueeze(-1) * self.direction,
            size=size,
            count=self.count + 1,
            waiting=self.waiting,
            failed=falls,
        )
        return select(answered, after, self)

    def restarted(
        self,
        begins: Bool[Tensor, "B"],
        warm: Bool[Tensor, "B"],
        g: Float[Tensor, "B n"],
        metric: Metric,
        scale: Float[Tensor, "B"],
    ) -> Inner:
        """A new solve in some rows: from 0, or ``warm`` from the best multiple of the last step."""
        curvature = dot(self.step, self.curved) + scale * metric.norm(self.step) ** 2
        uses = warm & (curvature > 0)
        share = -dot(g, self.step) / torch.where(uses, curvature, torch.ones_like(curvature))
        share = torch.where(uses, share, torch.zeros_like(share)).unsqueeze(-1)
        step, curved = share * self.step, share * self.curved
        residual = -g - curved - scale.unsqueeze(-1) * metric.lowered(step)
        raised = metric.raised(residual)
        none = torch.zeros_like(self.failed)
        fresh = Inner(
            step, curved, residual, raised, dot(residual, raised), torch.zeros_like(self.count), none, none
        )
        return select(begins, fresh, self)

    def looked(self, ready: Bool[Tensor, "B"], enough: Float[Tensor, "B"], most: int) -> Inner:
        """With what is to be asked: a product where ||r||_* is more than ``enough``, at most so many."""
        more = ~self.failed & (self.size.clamp_min(0).sqrt() > enough) & (self.count < most)
        return replace(self, waiting=ready & more)
