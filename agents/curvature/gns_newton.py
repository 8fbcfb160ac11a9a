"""Gradient-normalized smoothness: Newton's method regularised by the gradient (Semenov, Jaggi, Doikov 2025).

    h = -(H + lambda B)^-1 g,     lambda = ||g||_* / (gamma + eps)
    x, gamma <- x + h, max(2 gamma, least)    where f(x) - f(x + h) >= ||g(x + h)||_*^2 / (8 lambda)
    gamma <- gamma / 2                        elsewhere, and where H + lambda B is not positive definite

H is any symmetric approximation of the Hessian that is positive semidefinite (the environment's ``hessian=``
says which), and ||h|| <= gamma + eps. With a constant or a rule in ``gamma`` there is no test and no search.
The published program takes the last step when 40 trials have failed; here the row has finished, at x. eps is
no stop tolerance: that is ``gtol``. If no floor and no cap is met, K accepted steps take
2 K - log2(gamma_K / gamma_0) trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..core import require
from ._conjugate import Inner
from ._metric import Metric, dot, solved
from ._solve import by_factor, of_rows
from ._trial import Proposal, Search, Trial, TrialAgent, asking, check_patience, damped

SOLVERS = ("cholesky", "factor", "conjugate_gradients", "preconditioner", "none")
Rule = Callable[[Float[Tensor, "B"]], Float[Tensor, "B"]]


@dataclass(frozen=True, eq=False)
class GnsNewton(TrialAgent):
    """Gradient-regularised Newton steps with the search of Semenov, Jaggi and Doikov.

    Args:
        gamma: ``None`` for the search; or the class's constant, a number or one an instance ``(B,)``; or a
            rule, a function of ||g||_* (see :mod:`agents.curvature.rules`). Without a search a row has
            finished where its system cannot be solved, or the value is no finite number.
        gamma0: where the search begins, a number or one an instance ``(B,)``.
        eps: the guard in lambda's denominator.
        least: the least gamma after an accepted step.
        solver: ``cholesky``; ``factor``, by Sherman and Morrison, where the problem offers F of H = F'F (the
            Fisher term, of rank one): no system but B's is factored; ``conjugate_gradients``, with products
            in place of H, one a query, for large n; ``none``, H = 0: normalized gradient steps;
            ``preconditioner``: these, in the metric P = H + eps B of each point in place of B.
        inner: the most products of one system with ``conjugate_gradients``; the step is then as it is.
        patience, gtol: see :class:`agents.curvature._trial.TrialAgent`.
    """

    gamma: float | Float[Tensor, "B"] | Rule | None = None
    gamma0: float | Float[Tensor, "B"] = 1.0
    eps: float = 1e-8
    least: float = 1e-9
    solver: str = "cholesky"
    inner: int = 1000

    def __post_init__(self) -> None:
        check_patience(self, "inner")
        if self.gamma is not None and not callable(self.gamma):
            positive = bool((torch.as_tensor(self.gamma) > 0).all())
            require(self, "gamma", positive, "None, a number > 0, or a rule")
        require(self, "gamma0", bool((torch.as_tensor(self.gamma0) > 0).all()), "a number > 0")
        require(self, "eps", self.eps >= 0, "a number >= 0")
        require(self, "least", self.least > 0, "a number > 0")
        require(self, "solver", self.solver in SOLVERS, f"one of {', '.join(SOLVERS)}")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What is asked besides values and gradients depends on the solver."""
        curvature = {"none": (), "conjugate_gradients": ("hvp",), "factor": ("factor",)}
        return ("value", "gradient", *curvature.get(self.solver, ("hessian",)))

    def first_size(self) -> float | Tensor:
        return self.gamma0 if self.gamma is None or callable(self.gamma) else self.gamma

    def begun(self, state: Search) -> Inner | None:
        return Inner.empty(state.gradient) if self.solver == "conjugate_gradients" else None

    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        norm = state.norm
        gamma = self.gamma(norm) if callable(self.gamma) else state.size
        if self.solver == "preconditioner":
            new = self._preconditioned(state, ready, gamma)
        else:
            new = self._regularised(state, ready, norm / (gamma + self.eps), answered)
        new = new._replace(size=gamma)
        return new if self.gamma is None else new._replace(lost=~new.good | (state.rejected > 0))

    def _regularised(
        self, state: Search, ready: Bool[Tensor, "B"], scale: Float[Tensor, "B"], answered: Bool[Tensor, "B"]
    ) -> Proposal:
        """The step with the factor ``scale`` of B."""
        if self.solver == "cholesky":
            return damped(state, ready, scale)
        none = torch.zeros_like(scale)
        if self.solver == "factor":
            step, good = of_rows(ready, by_factor, state.notes["factor"], state.metric, scale, state.gradient)
            return Proposal(step, scale, none, good, systems=1)
        if self.solver == "none":
            step = -state.metric.raised(state.gradient) / scale.unsqueeze(-1)
            return Proposal(step, scale, none, step.isfinite().all(-1))
        inner = state.inner
        assert inner is not None  # it has begun with conjugate gradients
        # a rejected step at the same point is where the next solve begins
        begins, warm = ready & ~inner.waiting, state.rejected > 0
        inner = inner.received(answered, state.notes["hvp"], state.metric, scale)
        inner = inner.restarted(begins, state.gradient, state.metric, scale, warm)
        inner = inner.looked(ready, state.norm.sqrt().clamp_max(0.1) * state.norm, self.inner)
        return asking(inner, Proposal(inner.step, scale, none, ~inner.ended, systems=1))

    def _preconditioned(self, state: Search, ready: Bool[Tensor, "B"], gamma: Float[Tensor, "B"]) -> Proposal:
        """The step -(gamma + eps) / ||g||_P* P^-1 g, P = H + eps B."""
        raised, good = self._raised(ready, state, state.gradient)
        norm = dot(state.gradient, raised).clamp_min(0).sqrt()
        scale = norm / (gamma + self.eps)
        step = -raised / torch.where(scale > 0, scale, torch.ones_like(scale)).unsqueeze(-1)
        good = good & step.isfinite().all(-1)
        return Proposal(step, scale, torch.zeros_like(scale), good, systems=1)

    def _raised(self, ready: Bool[Tensor, "B"], state: Search, g: Tensor) -> tuple[Tensor, Tensor]:
        def inverse(hessian: Tensor, metric: Metric, at: Tensor) -> tuple[Tensor, Tensor]:
            matrix = metric.added(hessian, torch.full_like(at[:, 0], self.eps))
            factor, wrong = torch.linalg.cholesky_ex(matrix)
            return solved(factor, at), wrong == 0

        raised, good = of_rows(ready, inverse, state.notes["hessian"], state.metric.plain, g)
        return raised, good

    def accepts(self, state: Search, trial: Trial) -> Bool[Tensor, "B"]:
        if self.gamma is not None:
            return torch.ones_like(state.posed)
        if self.solver == "preconditioner":  # H is still that of x
            raised, _ = self._raised(state.posed, state, trial.gradient)
            square = dot(trial.gradient, raised)
        else:
            square = trial.norm**2
        return state.value - trial.value >= square / (8 * state.scale)

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        if self.gamma is not None:
            return state.size
        return torch.where(better, (2 * state.size).clamp_min(self.least), state.size / 2)
