"""What agents know of an SVM's two levels: the box of x, and margins with slack as the constraint of y."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.struct import struct

from . import hinge
from .geometry import Geometry


@struct
class Margins(Geometry):
    """X = [low, high]^N, and g_i = 1 - xi_i - s_i (w'a_i + b) <= 0 for y = (w, b, xi).

    Attributes:
        signed: s_i (a_i, 1), ``(B, N, D)``.
        gram: of its columns without the last, ``(B, N, N)``, where N < d.
        low, high: the ends of the box, ``(B, 1)``.
    """

    signed: Float[Tensor, "B N D"]
    gram: Float[Tensor, "B N N"] | None
    low: Float[Tensor, "B 1"]
    high: Float[Tensor, "B 1"]

    @property
    def free(self) -> bool:
        return False

    @property
    def has(self) -> tuple[str, ...]:
        return ("joint", "feasible", "jacobian")

    @property
    def rows(self) -> hinge.Rows:
        """The samples, for the solver."""
        return hinge.Rows(self.signed, self.gram)

    @property
    def norm(self) -> Float[Tensor, "B"]:
        """The largest singular value of the constraints' Jacobian, (ã, I) in size."""
        _, samples, width = self.signed.shape
        small = self.signed.mT @ self.signed if samples >= width else self.signed @ self.signed.mT
        return (1 + torch.linalg.eigvalsh(small)[..., -1]).sqrt()

    def value(self, y: Float[Tensor, "B m"]) -> Float[Tensor, "B N"]:
        """The constraints g."""
        t, slack = self.parts(y)
        return 1 - slack - self.rows.margins(t)

    def parts(self, y: Float[Tensor, "B m"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B N"]]:
        """(w, b) and xi."""
        width = self.signed.shape[-1]
        return y[:, :width], y[:, width:]

    def jacobian(self, x: Float[Tensor, "B N"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B N w"]:
        """The constraints' Jacobian by (x, y)."""
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
        return torch.cat((torch.zeros_like(identity), -self.signed, -identity), -1)

    def upper(self, x: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        return x.maximum(self.low).minimum(self.high)

    def joint(
        self, x: Float[Tensor, "B N"], y: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B m"]]:
        return self.upper(x), self.feasible(x, y)

    def feasible(self, x: Float[Tensor, "B N"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """By the semismooth Newton method of :mod:`~optenvs.envs.bilevel.hinge`."""
        t, slack = self.parts(y)
        target = hinge.Target(torch.ones_like(slack), 1 - slack, t, 1.0)
        found = hinge.minimise(self.rows, target)
        return torch.cat((found.t, slack + found.slack), -1)
