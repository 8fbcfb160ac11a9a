"""Projected descent in x along a hypergradient, with a constant step or one that adapts itself."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import struct


@struct
class Descent:
    """Where an instance stands.

    The step that adapts itself is that of Malitsky and Mishchenko (2020, algorithm 1):
    ``s_k = min(sqrt(1 + s_{k-1} / s_{k-2}) s_{k-1}, |x_k - x_{k-1}| / (2 |h_k - h_{k-1}|))``.

    Attributes:
        x: where the next hypergradient is asked, ``(B, n)``.
        last, slope: the point before it and the hypergradient there, ``(B, n)``.
        step: the last step size, ``(B, 1)``; 0 before there is one.
        ratio: of the last two, ``(B, 1)``.
        fixed: the constant step, ``(B, 1)``; 0 without one.
    """

    x: Float[Tensor, "B n"]
    last: Float[Tensor, "B n"]
    slope: Float[Tensor, "B n"]
    step: Float[Tensor, "B 1"]
    ratio: Float[Tensor, "B 1"]
    fixed: Float[Tensor, "B 1"]

    @classmethod
    def begin(cls, x: Float[Tensor, "B n"], fixed: Float[Tensor, "B 1"]) -> Descent:
        """Before the first step."""
        zero = torch.zeros_like(x[:, :1])
        return cls(x=x, last=x, slope=torch.zeros_like(x), step=zero, ratio=zero, fixed=fixed)

    def moved(
        self, slope: Float[Tensor, "B n"], geometry: Any, first: float
    ) -> tuple[Descent, Bool[Tensor, "B"]]:
        """A step from ``x`` against its hypergradient, and the rows whose x rounding alone moves.

        Args:
            slope: the hypergradient at x.
            geometry: the problem's, with the projection onto X.
            first: the first step where it adapts.
        """
        step, ratio = self._step(slope, first)
        x = geometry.upper(self.x - step * slope)
        after = Descent(x=x, last=self.x, slope=slope, step=step, ratio=ratio, fixed=self.fixed)
        return after, torch.linalg.vector_norm(x - self.x, dim=-1) <= rounding(self.x)

    def _step(self, slope: Tensor, first: float) -> tuple[Float[Tensor, "B 1"], Tensor]:
        """The step now and its ratio to the last one."""
        before, begun = self.step, self.step > 0
        moved = torch.linalg.vector_norm(self.x - self.last, dim=-1, keepdim=True)
        turned = torch.linalg.vector_norm(slope - self.slope, dim=-1, keepdim=True)
        grown = (1 + self.ratio).sqrt() * before
        curved = torch.where(turned > 0, moved / (2 * turned.clamp_min(torch.finfo(slope.dtype).tiny)), grown)
        adapted = torch.where(begun, torch.minimum(grown, curved), first)
        # where it has not moved, nothing is learnt of the curvature
        adapted = torch.where(begun & (moved == 0), before, adapted)
        step = torch.where(self.fixed > 0, self.fixed, adapted)
        return step, torch.where(begun, step / torch.where(begun, before, 1.0), torch.ones_like(step))


def rounding(point: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """The length of a move below which it is rounding."""
    return 4 * torch.finfo(point.dtype).eps * torch.linalg.vector_norm(point, dim=-1)
