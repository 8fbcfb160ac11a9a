"""Learned policy optimisation with tables (Lu et al. 2022, arXiv 2210.05639): a learned drift.

Passes over each window descend  -mean( rho A - drift(rho, A) ) + mean (v - target)^2 / 4 - entropy bonus; the
drift is a network's, see :mod:`optenvs.models.drift`. ``timed``: TA-LPO (Jackson et al. 2024, eq. 10).
"""

from __future__ import annotations

from dataclasses import dataclass

from optenvs.models import drift
from optenvs.models.tabular.drifting import Drifting

from ..core import require
from ._learned import LearnedRule


@dataclass(frozen=True, eq=False)
class LPO(LearnedRule):
    """LPO; ``optenvs/Discovery-v0`` with ``rule="lpo"`` finds its weights.

    Args:
        hidden: units of the drift's network.
        timed: whether it sees n / N.
        like_ppo: whether it begins as PPO's clip.
        limit: where its inputs are cut off, or ``None``.
        epochs: passes over a window.
        minibatches: that a pass is cut into.
        entropy: the weight of the entropy bonus.
        actor_rate, critic_rate, clip: of the learner's steps, as groove has them.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 128
    timed: bool = False
    like_ppo: bool = False
    limit: float | None = None
    epochs: int = 4
    minibatches: int = 1
    entropy: float = 0.01

    def __post_init__(self) -> None:
        require(self, "entropy", self.entropy >= 0, "a number >= 0")
        super().__post_init__()

    def make(self) -> Drifting:
        net = drift.LPO(self.hidden, self.timed, self.like_ppo, self.limit)
        return Drifting(net, self.epochs, self.minibatches, entropy=self.entropy)
