"""Advantage actor-critic with tables (Mnih et al. 2016): one pass over each window.

    descends  -mean( A log pi ) + mean (v - target)^2 / 4 - entropy bonus,   A by GAE (0.99, 0.95), normalised

as the antagonist of Jackson et al. 2023 (GROOVE).
"""

from __future__ import annotations

from dataclasses import dataclass

from optenvs.models.drift import Free
from optenvs.models.tabular.drifting import Drifting

from ._life import TabularActorCritic


@dataclass(frozen=True, eq=False)
class TabularA2C(TabularActorCritic):
    """A2C."""

    def make(self) -> Drifting:
        return Drifting(Free(), 1, 1, entropy=self.entropy, anneal=self.anneal)
