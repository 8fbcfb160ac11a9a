"""Newton's method in a trust region, by truncated conjugate gradients (Steihaug 1983).

    h: conjugate gradients on H h = -g, up to the border of ||h|| <= radius, or along a direction of negative
       curvature to it
    ratio = (f(x) - f(x + h)) / promised
    radius <- radius / 4                      where ratio < 1/4
    radius <- min(2 radius, most)             where ratio > 3/4 and h is on the border
    x <- x + h                                where ratio > least

As in Nocedal and Wright (2006), algorithms 4.1 and 7.2; H may be indefinite. A trial asks a value; gradient
and Hessian are asked at an accepted point only. On products in place of the Hessian a step asks as many as
its conjugate gradients take, one a query, and asks them again in a smaller ball after a rejection. The method
has finished where the promised decrease is below the rounding of f.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import require
from ._conjugate import Inner
from ._solve import of_rows, steihaug, steihaug_residual
from ._trial import Proposal, Search, Trial, TrialAgent, asking, check_patience, invisible

SOLVERS = ("hessian", "products")


@dataclass(frozen=True, eq=False)
class TrustNewton(TrialAgent):
    """Steihaug's steps in a trust region.

    Args:
        radius: the first one, a number or one an instance ``(B,)``.
        most: the largest one.
        least: the least ratio with which a trial is accepted.
        solver: ``hessian``; or ``products``, with Hessian-vector products in its place, for large n.
        inner: the most products of one step with ``products``; the step is then as it is.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    radius: float | Float[Tensor, "B"] = 1.0
    most: float = 1000.0
    least: float = 1e-4
    solver: str = "hessian"
    inner: int = 1000

    slopes = False

    def __post_init__(self) -> None:
        check_patience(self, "inner")
        require(self, "solver", self.solver in SOLVERS, f"one of {', '.join(SOLVERS)}")
        require(self, "radius", bool((torch.as_tensor(self.radius) > 0).all()), "a number > 0")
        require(self, "most", self.most > 0, "a number > 0")
        require(self, "least", 0 <= self.least < 0.25, "a number in [0, 0.25)")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The Hessian or its products, beside values and gradients."""
        return ("value", "gradient", "hessian" if self.solver == "hessian" else "hvp")

    def begun(self, state: Search) -> Inner | None:
        return Inner.empty(state.gradient) if self.solver == "products" else None

    def first_size(self) -> float | Tensor:
        return self.radius

    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        metric, radius, g, inner = state.metric, state.size, state.gradient, state.inner
        if inner is None:
            step, model, on_border = of_rows(ready, steihaug, state.notes["hessian"], metric, radius, g)
        else:
            begins = ready & ~inner.waiting
            inner = inner.received(answered, state.notes["hvp"], metric, radius=radius)
            inner = inner.restarted(begins, g, metric).looked(
                ready, steihaug_residual(state.norm), self.inner
            )
            step, model, on_border = inner.step, inner.model(g), inner.ended
        good = step.isfinite().all(-1)
        lost = ~good | invisible(state, -model)
        # `scale` says whether the step is on the border: there is no multiple of B in this system
        new = Proposal(step, on_border.to(model.dtype), -model, good, systems=1, lost=lost)
        return new if inner is None else asking(inner, new)

    def accepts(self, state: Search, trial: Trial) -> Bool[Tensor, "B"]:
        return state.value - trial.value > self.least * state.promised

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        ratio = (state.value - value) / torch.where(state.posed, state.promised, torch.ones_like(value))
        grown = torch.where(state.scale > 0, (2 * state.size).clamp_max(self.most), state.size)
        middle = torch.where(better & (ratio > 0.75), grown, state.size)
        return torch.where(better & (ratio >= 0.25), middle, state.size / 4)
