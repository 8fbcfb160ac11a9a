"""Natural policy gradient (Kakade 2001), and NPG-HM, its form with Hessian-aided momentum (arXiv 2401.01084).

    (F + damping I) u_t = d_t,      theta_{t+1} = theta_t + gamma_t u_t

F is the mean of grad log pi grad log pi' over all steps of the trajectories told, whose products are taken in
conjugate gradients. Of ``npg`` d_t is the gradient from the same trajectories; of ``npg_hm`` that of N-HARPG,

    d_t = (1 - eta_t) (d_{t-1} + B(tau', between) (theta_t - theta_{t-1})) + eta_t g_t.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.models.trajectories import Estimator, Trajectories

from ..core import Observation, require
from ._ascent import HVP, Ascent, Climb, Estimate, Momentum, between, check_form


@dataclass(frozen=True, eq=False)
class NPG(Ascent):
    """Natural policy gradient.

    Args:
        damping: what is added to the Fisher matrix, > 0. A matrix of few steps is singular, and what lies
            outside of its range is divided by this alone: choose it near the matrix's eigenvalues then.
        iterations: of conjugate gradients, at most.
    """

    power: float = 0.0
    normalise: bool = False
    damping: float = 1e-2
    iterations: int = 10

    needs = ("trajectory",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_solve(self)

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        played = state.problem.unpacked(seen["trajectory"])
        g = state.problem.estimator.gradient(state.x, played)
        return Estimate(g, way=natural(self, state, played, g))


@dataclass(frozen=True, eq=False)
class NPGHM(Momentum):
    """Natural policy gradient with Hessian-aided momentum.

    Args:
        damping, iterations: see :class:`NPG`.
        hvp: ``paper`` or ``causal``.
    """

    power: float = 0.0
    normalise: bool = False
    damping: float = 1e-2
    iterations: int = 10
    hvp: str = "paper"

    needs = ("trajectory", "product")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_solve(self)
        check_form(self)

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        played = state.problem.unpacked(seen["trajectory"])
        g = state.problem.estimator.gradient(state.x, played)
        d = self.averaged(state, state.d + seen[HVP[self.hvp]], g)
        return Estimate(d, way=natural(self, state, played, d))

    def ask(self, state: Climb) -> tuple[dict[str, bool | Tensor], dict[str, Tensor]]:
        second, vector = between(state)
        moved = (state.t > 0).squeeze(-1)
        return {"trajectory": True, HVP[self.hvp]: moved}, {"x": state.x, "second": second, "vector": vector}


def check_solve(agent: NPG | NPGHM) -> None:
    """Raise ``ValueError`` unless damping and iterations are in range."""
    require(agent, "damping", agent.damping > 0, "a number > 0")
    count = agent.iterations
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    require(agent, "iterations", whole, "a whole number >= 1")


def natural(
    agent: NPG | NPGHM, state: Climb, played: Trajectories, d: Float[Tensor, "B n"]
) -> Float[Tensor, "B n"]:
    """The u with (F + damping I) u = d, by conjugate gradients; a row that has converged stays."""
    estimator: Estimator = state.problem.estimator
    share = played.mask.shape[1] / played.mask.sum((1, 2)).clamp_min(1).unsqueeze(-1).to(d)
    u, r, p = torch.zeros_like(d), d, d
    size = first = (d * d).sum(-1, keepdim=True)
    for _ in range(agent.iterations):
        scores = estimator.scores(state.x, p, played)
        curved = share * estimator.ascent(state.x, played, scores) + agent.damping * p
        curvature = (p * curved).sum(-1, keepdim=True)
        goes = (curvature > 0) & (size > 1e-20 * first)
        step = torch.where(goes, size / torch.where(goes, curvature, 1.0), 0.0)
        u, r = u + step * p, r - step * curved
        after = (r * r).sum(-1, keepdim=True)
        p = torch.where(goes, r + after / torch.where(goes, size, 1.0) * p, p)
        size = torch.where(goes, after, size)
    return u
