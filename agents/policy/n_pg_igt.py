"""N-PG-IGT: normalised policy gradient with implicit gradient transport (Fatkhullin et al. 2023).

    ahead_t = theta_t + ((1 - eta_t) / eta_t) (theta_t - theta_{t-1}),     theta_{-1} = theta_0
    g_t = a gradient drawn and differentiated at ahead_t
    d_t = (1 - eta_t) d_{t-1} + eta_t g_t,  d_0 = g_0
    theta_{t+1} = theta_t + gamma_t d_t / |d_t|
    eta_t = min(1, eta0 (2 / (t + 2))^(4/5)),   gamma_t = lr 2 / (t + 2)

Where J is quadratic and gradients are exact, d_t is the gradient at theta_t. One trajectory an iteration,
neither importance weights nor Hessians. lr = 0.1 is the default of the authors' code; theory has
lr = 3 M_g / mu_F, of the scores' bound and the least Fisher eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core import Observation
from ._ascent import Climb, Estimate, Momentum


@dataclass(frozen=True, eq=False)
class NPGIGT(Momentum):
    """The method as printed.

    Args:
        eta_lag: the authors' code: it looks ahead with eta_{t-1} and averages with eta_t; then d_t is no
            longer the gradient of a quadratic J.
    """

    eta_power: float = 0.8
    eta_lag: bool = False

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        return Estimate(self.averaged(state, state.d, seen["policy_gradient"]))

    def ask(self, state: Climb) -> tuple[dict[str, bool], dict[str, Tensor]]:
        eta = self.eta(state, -1) if self.eta_lag else self.eta(state)
        # nothing has moved before the first step
        ahead = state.x + ((1 - eta) / eta) * (state.x - state.last)
        return {"policy_gradient": True}, {"x": ahead}
