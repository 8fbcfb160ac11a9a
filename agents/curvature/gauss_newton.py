"""The Gauss-Newton method, damped (Levenberg 1944, Marquardt 1963) with the search of Nielsen (1999).

    h = -(H + mu D)^-1 g,     promised = -(g'h + h'Hh/2),     ratio = (f(x) - f(x + h)) / promised
    x, mu <- x + h, mu max(1/3, 1 - (2 ratio - 1)^3)          where ratio > least
    mu <- mu 2^j at the j-th rejection in a row               elsewhere

H is the Gauss-Newton matrix, for which the environment is asked by ``hessian=``; with another matrix that
is positive semidefinite it is the same method on that model. A trial asks a value; gradient and H are asked
at an accepted point only. The method has finished where the promised decrease is below the rounding of f.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.linear import times

from ..core import require
from ._metric import Metric, dot
from ._solve import of_rows, regularised
from ._trial import Proposal, Search, Trial, TrialAgent, invisible

SCALINGS = ("metric", "diagonal")


@dataclass(frozen=True, eq=False)
class GaussNewton(TrialAgent):
    """Levenberg-Marquardt steps.

    Args:
        damping: the first mu, as a share of the largest diagonal entry of H over that of D.
        scaling: D: the problem's ``metric`` (Levenberg), or the ``diagonal`` of H (Marquardt).
        least: the least ratio with which a trial is accepted.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    damping: float = 1e-3
    scaling: str = "metric"
    least: float = 1e-4

    slopes = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "damping", self.damping > 0, "a number > 0")
        require(self, "scaling", self.scaling in SCALINGS, " or ".join(SCALINGS))
        require(self, "least", 0 <= self.least < 1, "a number in [0, 1)")

    def first_size(self) -> float:
        return 0.0  # not yet: it is a share of the first H

    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        hessian, g = state.notes["hessian"], state.gradient
        metric, diagonal = state.metric.plain, hessian.diagonal(dim1=-2, dim2=-1)
        if self.scaling == "diagonal":
            # a coordinate without curvature has the least that the others' rounding leaves
            least = torch.finfo(g.dtype).eps * diagonal.amax(-1, keepdim=True)
            metric = Metric(matrix=torch.diag_embed(torch.maximum(diagonal, least)))
        size = torch.where(state.size > 0, state.size, self._first(diagonal, metric))
        step, good = of_rows(ready, regularised, hessian, metric, size, g)
        promised = -dot(g + times(hessian, step) / 2, step)
        lost = good & invisible(state, promised)
        return Proposal(step, size, promised, good, systems=1, lost=lost, size=size)

    def _first(self, diagonal: Float[Tensor, "B n"], metric: Metric) -> Float[Tensor, "B"]:
        size = diagonal.abs().amax(-1)
        if metric.matrix is not None:
            size = size / metric.matrix.diagonal(dim1=-2, dim2=-1).amax(-1)
        return torch.where(size > 0, self.damping * size, torch.full_like(size, self.damping))

    def accepts(self, state: Search, trial: Trial) -> Bool[Tensor, "B"]:
        return state.value - trial.value > self.least * state.promised

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        ratio = (state.value - value) / torch.where(better, state.promised, torch.ones_like(value))
        after = state.size * (1 - (2 * ratio.clamp_max(1) - 1) ** 3).clamp_min(1 / 3)
        after = after.clamp_min(torch.finfo(value.dtype).tiny)
        return torch.where(better, after, state.size * 2.0 ** (state.rejected + 1).to(value.dtype))
