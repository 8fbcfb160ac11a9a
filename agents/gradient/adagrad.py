"""AdaGrad, as in ``torch.optim.Adagrad``.

g <- g + weight_decay * x
v <- v + g^2                                    (v_0 = initial_accumulator_value)
x <- x - lr / (1 + (t - 1) lr_decay) * g / (sqrt(v) + eps)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import GradientAgent, Observation
from ._moments import Workspace, check_adaptive, damped_root, divided_step, with_penalty


@struct
class AdagradState:
    """``nu``: the sum of squared gradients ``(B, n)``; ``count``: steps so far ``(B, 1)``."""

    nu: Float[Tensor, "B n"]
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class Adagrad(GradientAgent):
    """AdaGrad (Duchi, Hazan and Singer 2011).

    Args:
        lr_decay: how fast the learning rate falls with the step.
        eps: added to the root.
        weight_decay: the factor of an L2 penalty, added to the gradient.
        initial_accumulator_value: where the sum of squares begins.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-2
    lr_decay: float = 0.0
    eps: float = 1e-10
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self, "lr_decay", "initial_accumulator_value")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AdagradState:
        nu = torch.full_like(observation["point"], self.initial_accumulator_value)
        return AdagradState(nu=nu, count=torch.zeros_like(nu[:, :1]))

    def act(self, state: AdagradState, observation: Observation) -> tuple[Tensor, AdagradState]:
        point, gradient = observation["point"], observation["gradient"]
        rate = self.rate(observation)
        work = Workspace.of(point, gradient, state.nu, rate)
        gradient = with_penalty(gradient, point, self.weight_decay, work)
        if self.lr_decay:
            rate = rate / (1 + state.count * self.lr_decay)
        nu = torch.addcmul(state.nu, gradient, gradient, out=work.fresh(state.nu))
        root = damped_root(nu, self.eps, work)
        action = divided_step(point, gradient, root, work.number(rate), work)
        return action, AdagradState(nu=nu, count=state.count + 1)
