"""The last pairs of differences of points and of gradients, and what they make of B^-1 (Nocedal 1980)."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import select, struct

from ._metric import Metric, dot


@struct
class Pairs:
    """The newest last; rows of zeros are none.

    Attributes:
        steps, slopes: s and y, ``(B, m, n)``.
        curvature: <s, y>, ``(B, m)``; 0 where there is no pair.
    """

    steps: Float[Tensor, "B m n"]
    slopes: Float[Tensor, "B m n"]
    curvature: Float[Tensor, "B m"]

    second_axis: ClassVar[dict[str, str]] = dict.fromkeys(("steps", "slopes", "curvature"), "whole")

    @classmethod
    def empty(cls, like: Float[Tensor, "B n"], count: int) -> Pairs:
        """No pairs, and room for ``count``."""
        room = torch.zeros_like(like).unsqueeze(1).repeat(1, count, 1)
        return cls(room, room, room[:, :, 0])

    @property
    def any(self) -> Bool[Tensor, "B"]:
        """Whether a row has pairs."""
        return self.curvature[:, -1] > 0

    def with_pair(self, mask: Bool[Tensor, "B"], s: Float[Tensor, "B n"], y: Float[Tensor, "B n"]) -> Pairs:
        """With one pair more, and without the oldest."""

        def shifted(rows: Tensor, new: Tensor) -> Tensor:
            return torch.cat((rows[:, 1:], new.unsqueeze(1)), 1)

        more = Pairs(shifted(self.steps, s), shifted(self.slopes, y), shifted(self.curvature, dot(s, y)))
        return select(mask, more, self)

    def without(self, mask: Bool[Tensor, "B"]) -> Pairs:
        """With no pairs in some rows."""
        return select(mask, Pairs(0 * self.steps, 0 * self.slopes, torch.zeros_like(self.curvature)), self)

    def direction(self, metric: Metric, g: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """-W g by the two loops; W begins with B^-1 times <s, y> / <y, B^-1 y> of the newest pair."""
        there = self.curvature > 0
        share = torch.where(
            there, 1 / torch.where(there, self.curvature, torch.ones_like(self.curvature)), 0.0
        )
        q, kept = g, []
        for i in reversed(range(share.shape[1])):
            kept.append(share[:, i] * dot(self.steps[:, i], q))
            q = q - kept[-1].unsqueeze(-1) * self.slopes[:, i]
        newest = self.slopes[:, -1]
        square = dot(newest, metric.raised(newest))
        scale = torch.where(self.any, self.curvature[:, -1] / torch.where(square > 0, square, 1.0), 1.0)
        q = scale.unsqueeze(-1) * metric.raised(q)
        for i, alpha in enumerate(reversed(kept)):
            beta = share[:, i] * dot(self.slopes[:, i], q)
            q = q + (alpha - beta).unsqueeze(-1) * self.steps[:, i]
        return -q
