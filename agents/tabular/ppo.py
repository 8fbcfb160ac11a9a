"""Proximal policy optimisation with tables (Schulman et al. 2017).

Passes over each window descend  -mean( min(rho A, clip(rho, 1 - eps, 1 + eps) A) ) + mean (v - target)^2 / 4
- entropy bonus, with rho = pi / pi_old, and A by GAE (0.99, 0.95), normalised in each minibatch.
"""

from __future__ import annotations

from dataclasses import dataclass

from optenvs.models.drift import PPO
from optenvs.models.tabular.drifting import Drifting

from ..core import require
from ._life import TabularActorCritic


@dataclass(frozen=True, eq=False)
class TabularPPO(TabularActorCritic):
    """PPO.

    Args:
        eps: where the ratio is clipped.
        epochs: passes over a window.
        minibatches: that a pass is cut into.
    """

    eps: float = 0.2
    epochs: int = 4
    minibatches: int = 1

    def __post_init__(self) -> None:
        require(self, "eps", 0 < self.eps < 1, "a number in (0, 1)")
        super().__post_init__()

    def make(self) -> Drifting:
        return Drifting(
            PPO(self.eps), self.epochs, self.minibatches, entropy=self.entropy, anneal=self.anneal
        )
