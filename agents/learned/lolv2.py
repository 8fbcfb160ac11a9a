"""LOLv2, the per-parameter MLP of Metz et al. (2020; "MLPLOpt" of the authors' library).

One step, of every parameter by itself:

    m_i <- b_i m_i + (1 - b_i) g                               six decays b_i, before they are read
    d, s = MLP([g, x, m_1 .. m_6] normalised tensor by tensor, time features of k)
    x <- x - step_multiplier * d * exp(exp_multiplier * s)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import (
    LOLV2_FEATURES,
    empty_momenta,
    lolv2_features,
    tensor_sizes,
    update_momenta,
)
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Observation, require
from ..gradient.sgd import descend
from .base import Affine, LearnedAgent


@struct
class LOLv2State:
    """``momenta``: ``(B, n, 6)``; ``sizes``: of the tensors in the parameter vector."""

    momenta: Float[Tensor, "B n 6"]
    sizes: tuple[int, ...] = static()


@dataclass(frozen=True, eq=False)
class LOLv2(LearnedAgent):
    """A small MLP for each parameter, over momenta of six time scales and the time.

    Where the problem names the layout of its parameters (``problem.model.layout``), features are normalised
    tensor by tensor; otherwise the point is one tensor.

    Args:
        hidden: units of a layer.
        layers: hidden layers.
        step_multiplier: the factor on the step.
        exp_multiplier: the factor on its log-magnitude.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 32
    layers: int = 2
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("step_multiplier", "exp_multiplier"):
            require(self, name, 0 < getattr(self, name) < float("inf"), "a number > 0")
        super().__post_init__()

    def build(self) -> nn.Sequential:
        widths = [LOLV2_FEATURES] + [self.hidden] * self.layers
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            parts += [Affine(inputs, outputs, self.torch_dtype), nn.ReLU()]
        return nn.Sequential(*parts, Affine(self.hidden, 2, self.torch_dtype))

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LOLv2State:
        point = observation["point"]
        return LOLv2State(momenta=empty_momenta(point), sizes=tensor_sizes(problem, point.shape[-1]))

    def act(self, state: LOLv2State, observation: Observation) -> tuple[Tensor, LOLv2State]:
        point, gradient = observation["point"], observation["gradient"]
        momenta = update_momenta(state.momenta, gradient)
        seen = lolv2_features(point, gradient, momenta, observation["k"], state.sizes)
        direction, magnitude = self.run(seen).unbind(-1)
        step = direction * torch.exp(self.exp_multiplier * magnitude)
        action = descend(point, step, self.step_multiplier)
        return action, LOLv2State(momenta=momenta, sizes=state.sizes)
