"""Conjugate gradients for (H + scale B) h = -g on products with H, preconditioned by B.

With a ``radius`` they are those of Steihaug (1983), within the ball ||h|| <= radius: there they end with a
direction that leaves the ball, or along which the matrix is not positive, on the border. Whose products they
are is not their business: one a query, or of a matrix that is there.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import replace, select, struct

from ._metric import Metric, dot

Number = Float[Tensor, "B"]


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
        ended: whether the matrix was not positive along a direction, or h is on the border, ``(B,)``.
    """

    step: Float[Tensor, "B n"]
    curved: Float[Tensor, "B n"]
    residual: Float[Tensor, "B n"]
    direction: Float[Tensor, "B n"]
    size: Number
    count: Int64[Tensor, "B"]
    waiting: Bool[Tensor, "B"]
    ended: Bool[Tensor, "B"]

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
        scale: Number | None = None,
        radius: Number | None = None,
    ) -> Inner:
        """One iteration, in the rows whose product H p has come."""
        whole = self._with(product, metric, scale, self.direction)
        curvature = dot(self.direction, whole)
        ended = ~(curvature > 0)
        alpha = self.size / torch.where(ended, torch.ones_like(curvature), curvature)
        last = torch.zeros_like(alpha)
        if radius is not None:
            reached = self.step + alpha.unsqueeze(-1) * self.direction
            ended = ended | (metric.norm(reached) >= radius)
            last = _to_border(metric, self.step, self.direction, radius)
        alpha = torch.where(ended, last, alpha).unsqueeze(-1)
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
            ended=ended,
        )
        return select(answered, after, self)

    def restarted(
        self,
        begins: Bool[Tensor, "B"],
        g: Float[Tensor, "B n"],
        metric: Metric,
        scale: Number | None = None,
        warm: Bool[Tensor, "B"] | None = None,
    ) -> Inner:
        """A new solve in some rows: from 0, or ``warm`` from the best multiple of the last step."""
        step, curved = torch.zeros_like(g), torch.zeros_like(g)
        if warm is not None:
            bent = self._with(self.curved, metric, scale, self.step)
            curvature = dot(self.step, bent)
            uses = warm & (curvature > 0)
            share = -dot(g, self.step) / torch.where(uses, curvature, torch.ones_like(curvature))
            share = torch.where(uses, share, torch.zeros_like(share)).unsqueeze(-1)
            step, curved = share * self.step, share * self.curved
        residual = -g - self._with(curved, metric, scale, step)
        raised = metric.raised(residual)
        none = torch.zeros_like(self.ended)
        fresh = Inner(
            step, curved, residual, raised, dot(residual, raised), torch.zeros_like(self.count), none, none
        )
        return select(begins, fresh, self)

    def looked(self, ready: Bool[Tensor, "B"], enough: Number, most: int) -> Inner:
        """With what is to be asked: a product where ||r||_* is more than ``enough``, at most so many."""
        more = ~self.ended & (self.size.clamp_min(0).sqrt() > enough) & (self.count < most)
        return replace(self, waiting=ready & more)

    def model(self, g: Float[Tensor, "B n"]) -> Number:
        """G'h + h'Hh/2."""
        return dot(g, self.step) + dot(self.step, self.curved) / 2

    @staticmethod
    def _with(curved: Tensor, metric: Metric, scale: Number | None, h: Tensor) -> Tensor:
        """(H + scale B) h of ``curved``, H h."""
        return curved if scale is None else curved + scale.unsqueeze(-1) * metric.lowered(h)


def _to_border(
    metric: Metric, h: Float[Tensor, "B n"], p: Float[Tensor, "B n"], radius: Number
) -> Float[Tensor, "B"]:
    """The t > 0 with ||h + t p|| = radius, without cancellation."""
    low = metric.lowered(p)
    # the steps of conjugate gradients from 0 go outwards: <h, p> is not negative
    a, b, c = dot(p, low), dot(h, low).clamp_min(0), (radius**2 - metric.norm(h) ** 2).clamp_min(0)
    return c / (b + (b * b + a * c).sqrt()).clamp_min(torch.finfo(radius.dtype).tiny)
