"""The metric in which steps and gradients are measured.

||x|| = <Bx, x>^1/2 of a step, and the dual norm ||g||_* = <g, B^-1 g>^1/2 of a gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.linear import times
from optenvs.core.struct import struct

from ..core import Observation


@struct
class Metric:
    """B of each row, positive definite; the identity where there is none.

    Attributes:
        matrix: B, ``(B, n, n)``, or ``None``.
        factor: its Cholesky factor, or ``None``.
    """

    matrix: Float[Tensor, "B n n"] | None = None
    factor: Float[Tensor, "B n n"] | None = None

    @classmethod
    def of(cls, problem: Any, observation: Observation) -> tuple[Metric, Bool[Tensor, "B"]]:
        """The metric that a problem tells in ``metric``, and where it is symmetric and positive definite."""
        point, matrix = observation["point"], getattr(problem, "metric", None)
        if matrix is None:
            return cls(), torch.ones_like(point[:, 0], dtype=torch.bool)
        matrix = matrix.to(point)
        factor, wrong = torch.linalg.cholesky_ex(matrix)
        size = matrix.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
        skew = (matrix - matrix.mT).abs().amax((-2, -1))
        even = skew <= torch.finfo(point.dtype).eps ** 0.5 * size
        return cls(matrix=matrix, factor=factor), (wrong == 0) & even

    def raised(self, g: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """B^-1 g: the direction of a gradient."""
        return g if self.factor is None else solved(self.factor, g)

    def raised_rows(self, rows: Float[Tensor, "B m n"]) -> Float[Tensor, "B m n"]:
        """B^-1 times each of m rows."""
        return rows if self.factor is None else torch.cholesky_solve(rows.mT, self.factor).mT

    def lowered(self, h: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """B h."""
        return h if self.matrix is None else times(self.matrix, h)

    def dual_norm(self, g: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """||g||_*."""
        return torch.linalg.vector_norm(self.whitened(g), dim=-1)

    def norm(self, h: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """||h||."""
        straight = h if self.factor is None else times(self.factor.mT, h)
        return torch.linalg.vector_norm(straight, dim=-1)

    def whitened(self, g: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """L^-1 g, with B = L L': a gradient in coordinates where B is the identity."""
        if self.factor is None:
            return g
        return torch.linalg.solve_triangular(self.factor, g.unsqueeze(-1), upper=False).squeeze(-1)

    def unwhitened(self, y: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """L^-T y: the step that has the coordinates y."""
        if self.factor is None:
            return y
        return torch.linalg.solve_triangular(self.factor.mT, y.unsqueeze(-1), upper=True).squeeze(-1)

    def whitened_matrix(self, hessian: Float[Tensor, "B n n"]) -> Float[Tensor, "B n n"]:
        """L^-1 H L^-T."""
        if self.factor is None:
            return hessian
        half = torch.linalg.solve_triangular(self.factor, hessian, upper=False)
        whole = torch.linalg.solve_triangular(self.factor, half.mT, upper=False)
        return (whole + whole.mT) / 2

    @property
    def plain(self) -> Metric:
        """The same without the factor, for what needs B alone."""
        return Metric(matrix=self.matrix)

    def added(self, hessian: Float[Tensor, "B n n"], scale: Float[Tensor, "B"]) -> Float[Tensor, "B n n"]:
        """H + scale B."""
        if self.matrix is not None:
            return torch.addcmul(hessian, self.matrix, scale.reshape(-1, 1, 1))
        return hessian + torch.diag_embed(scale.unsqueeze(-1).expand(-1, hessian.shape[-1]))


def solved(factor: Float[Tensor, "B n n"], g: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """The solution of L L' x = g."""
    return torch.cholesky_solve(g.unsqueeze(-1), factor).squeeze(-1)


def dot(x: Float[Tensor, "B n"], y: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """<x, y>, row by row."""
    return (x * y).sum(-1)
