"""Plain and momentum policy gradients with decaying steps, as the comparisons of N-PG-IGT have them.

    vanilla:   theta_{t+1} = theta_t + lr (2 / (t + 2))^(2/3) g_t
    n_mpg:     d_t = (1 - eta_t) d_{t-1} + eta_t g_t,   theta_{t+1} = theta_t + lr (2 / (t + 2)) d_t / |d_t|
               with eta_t = min(1, eta0 (2 / (t + 2))^(2/3))

g_t is the gradient at theta_t (the authors' code of Fatkhullin, Barakat, Kireeva, He 2023; Cutkosky and Mehta
2020 for the normalised momentum).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import Observation
from ._ascent import Ascent, Climb, Estimate, Momentum


@dataclass(frozen=True, eq=False)
class VanillaPG(Ascent):
    """The gradient as it comes. ``normalise`` makes steps of one length of it: then its size says nothing."""

    power: float = 2 / 3
    normalise: bool = False

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        return Estimate(seen["policy_gradient"])


@dataclass(frozen=True, eq=False)
class NMPG(Momentum):
    """Normalised policy gradient with momentum."""

    eta_power: float = 2 / 3

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        return Estimate(self.averaged(state, state.d, seen["policy_gradient"]))
