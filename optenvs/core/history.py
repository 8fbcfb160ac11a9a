"""The recent past of an optimization as a policy sees it (Li and Malik 2016, "Learning to optimize").

Of the last ``H`` points: by how much the objective here differs from that at each point before, and the
gradients. Where the points are is not told: a policy is not to depend on it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from .struct import struct


@struct
class History:
    """The last ``H`` answers, the newest first; 0 where there is none yet.

    Attributes:
        values: of the objective here and at the ``H`` points before, ``(B, H + 1)``.
        gradients: here and at the ``H - 1`` points before, ``(B, n, H)``.
        count: answers so far, ``(B, 1)``.
    """

    values: Float[Tensor, "B H1"]
    gradients: Float[Tensor, "B n H"]
    count: Float[Tensor, "B 1"]

    second_axis: ClassVar[dict[str, str]] = {"values": "whole", "count": "whole"}

    @classmethod
    def empty(cls, like: Float[Tensor, "B n"], length: int) -> History:
        """Before the first answer."""
        values = like.new_zeros(len(like), length + 1)
        return cls(values=values, gradients=like.new_zeros(*like.shape, length), count=values[:, :1])

    def updated(self, value: Float[Tensor, "B 1"], gradient: Float[Tensor, "B n"]) -> History:
        """With the answer at one more point."""
        return History(
            values=torch.cat((value, self.values[:, :-1]), 1),
            gradients=torch.cat((gradient.unsqueeze(-1), self.gradients[..., :-1]), -1),
            count=self.count + 1,
        )

    @property
    def changes(self) -> Float[Tensor, "B H"]:
        """The objective here less that at each of the ``H`` points before; 0 where there was none."""
        before = self.values[:, 1:]
        age = torch.arange(1, before.shape[1] + 1, dtype=before.dtype, device=before.device)
        return torch.where(age < self.count, self.values[:, :1] - before, 0.0)
