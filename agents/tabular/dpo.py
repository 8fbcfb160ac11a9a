"""Discovered policy optimisation with tables (Lu et al. 2022, arXiv 2210.05639): the drift in closed form.

Passes over each window descend  -mean( rho A - drift(rho, A) ) + mean (v - target)^2 / 4 - entropy bonus,

    A >= 0: drift = ReLU((rho - 1) A - alpha tanh((rho - 1) A / alpha))
    A <  0: drift = ReLU(log(rho) A - beta tanh(log(rho) A / beta))
"""

from __future__ import annotations

from dataclasses import dataclass

from optenvs.models.drift import DPO
from optenvs.models.tabular.drifting import Drifting

from ..core import require
from ._life import TabularActorCritic


@dataclass(frozen=True, eq=False)
class TabularDPO(TabularActorCritic):
    """DPO.

    Args:
        alpha, beta: of the drift.
        epochs: passes over a window.
        minibatches: that a pass is cut into.
    """

    alpha: float = 2.0
    beta: float = 0.6
    epochs: int = 4
    minibatches: int = 1

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            require(self, name, getattr(self, name) > 0, "a number > 0")
        super().__post_init__()

    def make(self) -> Drifting:
        drift = DPO(self.alpha, self.beta)
        return Drifting(drift, self.epochs, self.minibatches, entropy=self.entropy, anneal=self.anneal)
