"""Li and Malik's optimizer as a policy of reinforcement learning (2016, "Learning to optimize").

arXiv 1606.01885. The state of the decision process is the iterate and its recent past, the action a step:

    s_k = [f(x_k) - f(x_{k-i}), i = 1..H;   grad f(x_{k-i}), i = 0..H-1],     0 where there is none yet
    x_{k+1} = x_k + scale * (mean(s_k) + std * z),                           z standard normal

and the cost is the objective. The mean is a network with one hidden layer of 50 softplus units; H = 25, and
they train for 40 steps. These numbers, and that the gradient here is among those that are seen, are from
memory of the paper. They train by guided policy search; here a policy is trained as any learned optimizer
(:func:`optenvs.unroll`, evolution strategies), or by Stable-Baselines3 on
:class:`optenvs.wrappers.StepControl`, which shows the same numbers and takes the same action.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from optenvs.core.history import History
from optenvs.core.random import Keys, normal
from optenvs.core.struct import struct

from ..core import Observation, require
from .base import Affine, LearnedAgent, Numbers


@struct
class LiMalikState:
    """The ``history`` of answers before the present one, and the ``key`` of the noise, ``(B,)``."""

    history: History
    key: Int64[Tensor, "B"]


class PolicyNet(nn.Module):
    """The mean of the step, and the logarithm of its standard deviation."""

    def __init__(self, inputs: int, hidden: int, outputs: int, log_std: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.enter = Affine(inputs, hidden, dtype)
        self.out = Affine(hidden, outputs, dtype)
        self.spread = Numbers(dtype, {"log_std": torch.full((outputs,), log_std)})

    def forward(self, x: Tensor) -> Tensor:
        return self.out(nn.functional.softplus(self.enter(x)))


@dataclass(frozen=True, eq=False)
class LiMalik(LearnedAgent):
    """A Gaussian policy on the recent changes of the objective and the recent gradients.

    The paper's network is of the whole point, and so for problems of one dimension: ``dim``. Without it one
    small network is shared by all coordinates, each of which sees its own gradients and the changes of the
    objective, as in their later work on networks; that form runs in any dimension.

    Args:
        dim: the n of the problems that it is for, or ``None`` for the coordinate-wise form.
        history: H, how many points are remembered.
        hidden: units of the hidden layer.
        initial_std: the standard deviation that the weights begin with, by coordinate with ``dim``.
        sample: whether steps are drawn; ``False`` for their mean.
        scale: the factor on a step.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    dim: int | None = None
    history: int = 25
    hidden: int = 50
    initial_std: float = 0.01
    sample: bool = True
    scale: float = 1.0

    needs: ClassVar[tuple[str, ...]] = ("gradient", "value")

    def __post_init__(self) -> None:
        require(self, "dim", self.dim is None or self.dim >= 1, "a whole number >= 1 or None")
        for name in ("history", "hidden"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("initial_std", "scale"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a number > 0")
        super().__post_init__()

    def build(self) -> PolicyNet:
        outputs = self.dim or 1
        inputs = self.history * (1 + outputs)
        return PolicyNet(inputs, self.hidden, outputs, math.log(self.initial_std), self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LiMalikState:
        """Raise ``ValueError`` where the point has not ``dim`` numbers."""
        point = observation["point"]
        if self.dim not in (None, point.shape[1]):
            raise ValueError(
                f"LiMalik: dim: expected that of the problem, {point.shape[1]}, or None for the form that "
                f"coordinates share, got {self.dim}"
            )
        return LiMalikState(history=History.empty(point, self.history), key=keys)

    def act(self, state: LiMalikState, observation: Observation) -> tuple[Tensor, LiMalikState]:
        point = observation["point"]
        history = state.history.updated(observation["value"], observation["gradient"])
        step = self.mean(history)
        if self.sample:
            luck = normal(state.key, "step", point.shape[1], observation["k"][:, 0].long(), point.dtype)
            step = step + self.own("spread.log_std", point).exp() * luck
        return torch.add(point, step, alpha=self.scale), LiMalikState(history=history, key=state.key)

    def mean(self, history: History) -> Float[Tensor, "B n"]:
        """The mean of the step, in units of the scale."""
        if self.dim is not None:
            return self.run(torch.cat((history.changes, history.gradients.flatten(1)), -1))
        changes = history.changes.unsqueeze(1).expand_as(history.gradients)
        return self.run(torch.cat((changes, history.gradients), -1)).squeeze(-1)
