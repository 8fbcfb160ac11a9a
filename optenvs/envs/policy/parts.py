"""What an agent may know of a policy search, and what it may not."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from optenvs.core.menu import Offer
from optenvs.core.struct import static, struct
from optenvs.models.trajectories import Estimator, Trajectories


@struct
class Problem:
    """What an agent may know.

    Attributes:
        menu: what can be asked.
        estimator: policy, discount, credits and baseline, as pure functions: for agents that compute from
            trajectories themselves.
        episode_length: the most steps of a trajectory.
        trajectories: how many an answer rests on; one of a product on ``product_trajectories``.
        holds: the assumptions of the theory that hold for all weights: ``fisher`` (the Fisher matrix is
            bounded from below, so that stationary points are optimal) and ``scores`` (the gradient of log pi
            is bounded).
    """

    menu: Offer = static()
    estimator: Estimator = static()
    episode_length: int = static()
    trajectories: int = static()
    product_trajectories: int = static()
    holds: tuple[str, ...] = static()

    def unpacked(self, packed: Float[Tensor, "B N H w"]) -> Trajectories:
        """The trajectories of an answer ``trajectory``."""
        return Trajectories.unpacked(packed, self.estimator.policy)


@struct
class Hidden:
    """What an agent may not know.

    Attributes:
        world: the instance of the task, or ``None``.
        best: J*, where it has a closed form, ``(B,)``.
    """

    world: Any
    best: Float[Tensor, "B"] | None
