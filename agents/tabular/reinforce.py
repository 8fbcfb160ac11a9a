"""REINFORCE with a table (Williams 1992): the return to the end of the episode or of the window, no baseline.

W <- W + rate clip( mean over transitions of  R_t grad log pi(a_t | s_t) ),   R_t = r_t + gamma R_{t+1}
"""

from __future__ import annotations

from dataclasses import dataclass

from optenvs.models.tabular.rules import Reinforce

from ..core import require
from ._life import TabularLearner


@dataclass(frozen=True, eq=False)
class TabularReinforce(TabularLearner):
    """REINFORCE; rates and clip are those of groove's learners (arXiv 2402.05828).

    Args:
        gamma: the discount.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        require(self, "gamma", 0 <= self.gamma <= 1, "a number in [0, 1]")
        super().__post_init__()

    def make(self) -> Reinforce:
        return Reinforce(self.gamma)
