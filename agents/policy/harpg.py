"""HARPG, N-HARPG and SHARP: momentum whose estimate a Hessian product carries to the next point.

    q_t ~ U[0, 1],  between_t = q_t theta_t + (1 - q_t) theta_{t-1}
    v_t = B(tau', between_t) (theta_t - theta_{t-1}),    tau' drawn by between_t
    d_t = (1 - eta_t) (d_{t-1} + v_t) + eta_t g(tau, theta_t),    tau drawn by theta_t;   d_0 = g

The mean of v_t is the difference of the gradients. One query an iteration asks both. HARPG steps along d_t
with gamma_t = lr (2 / (t + 2))^(1/2), N-HARPG along d_t / |d_t| with lr 2 / (t + 2); both have
eta_t = min(1, eta0 2 / (t + 2)) (Fatkhullin, Barakat, Kireeva, He 2023; the authors' code for the schedules).
SHARP (Salehkaleybar et al. 2022) is the normalised form with the power 2/3 in both. The products are those of
the paper's formula: the code that was published has the outer product's sign turned, and a product of batch
means in place of the mean of products.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..core import Observation
from ._ascent import HVP, Climb, Estimate, Momentum, between, check_form


@dataclass(frozen=True, eq=False)
class HARPG(Momentum):
    """Hessian-aided recursive policy gradient.

    Args:
        hvp: ``paper``, or ``causal``, the product without the scores of later steps, of less variance.
    """

    power: float = 0.5
    normalise: bool = False
    hvp: str = "paper"

    needs = ("policy_gradient", "product")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_form(self)

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        return Estimate(self.averaged(state, state.d + seen[HVP[self.hvp]], seen["policy_gradient"]))

    def ask(self, state: Climb) -> tuple[dict[str, bool], dict[str, Tensor]]:
        second, vector = between(state)
        return {"policy_gradient": True, HVP[self.hvp]: True}, {
            "x": state.x,
            "second": second,
            "vector": vector,
        }


@dataclass(frozen=True, eq=False)
class NHARPG(HARPG):
    """HARPG with steps of a given length."""

    power: float = 1.0
    normalise: bool = True


@dataclass(frozen=True, eq=False)
class SHARP(NHARPG):
    """The same with eta and gamma as t^(-2/3)."""

    power: float = 2 / 3
    eta_power: float = 2 / 3
