"""A textbook's step with a learned correction: "MLPNomLOpt" of the library of Metz et al. (2022).

The network of :mod:`.adafac` corrects what a step without it would be:

    x <- (1 - weight_decay * exp(e r)) x - nominal_rate * exp(e q) * n - step_multiplier * d * exp(e s)

with the nominal direction n, the exp_multiplier e, and the network's outputs d, s, and q and r where it
controls the nominal step and the weight decay; otherwise these are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core import Observation, require
from ._tensors import Averages
from .adafac import AdafacMLP

NOMINAL: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "adam": lambda seen: seen["scaled_momenta"][..., -1],
    "adam_aggmo": lambda seen: seen["scaled_momenta"].mean(-1),
    "aggmo": lambda seen: seen["momenta"].mean(-1),
    "sgd": lambda seen: seen["gradient"][..., 0],
    "sgdm": lambda seen: seen["momenta"][..., -1],
}
"""The nominal direction, from the features: that of the slowest momentum, or the mean of all."""


@dataclass(frozen=True, eq=False)
class Nominal(AdafacMLP):
    """An Adam step with the correction of a small MLP.

    Args:
        nominal: the direction of the step: ``adam_aggmo`` (Adam's, the mean over all momenta; as published),
            ``adam`` of the slowest momentum, ``aggmo``, ``sgdm`` or ``sgd``. No bias is corrected.
        nominal_rate: its learning rate; 0, the library's default, leaves the correction alone.
        weight_decay: what a step takes of the point.
        nominal_control, decay_control: whether an output of the network scales the nominal step, and the
            weight decay.
        hidden, layers, step_multiplier, exp_multiplier, momentum_decays, square_decays, factor_decays: see
            :class:`agents.learned.adafac.AdafacMLP`.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    nominal: str = "adam_aggmo"
    nominal_rate: float = 1e-3
    weight_decay: float = 0.0
    nominal_control: bool = False
    decay_control: bool = False

    def __post_init__(self) -> None:
        require(self, "nominal", self.nominal in NOMINAL, f"one of {', '.join(NOMINAL)}")
        for name in ("nominal_rate", "weight_decay"):
            require(self, name, 0 <= getattr(self, name) < math.inf, "a number >= 0")
        for name, of in (("nominal_control", "nominal_rate"), ("decay_control", "weight_decay")):
            require(self, name, not getattr(self, name) or getattr(self, of) > 0, f"a {of} > 0 with it")
        super().__post_init__()

    @property
    def outputs(self) -> int:
        return 2 + self.nominal_control + self.decay_control

    def act(self, state: Averages, observation: Observation) -> tuple[Tensor, Averages]:
        point = observation["point"]
        state = state.updated(observation["gradient"], self.rests(point))  # type: ignore[arg-type]
        seen = self.seen(state, observation)
        direction, *magnitudes = self.answered(state, seen, observation).unbind(-1)
        scales = [torch.exp(self.exp_multiplier * magnitude) for magnitude in magnitudes]
        nominal = self.nominal_rate * NOMINAL[self.nominal](seen)
        step = self.step_multiplier * direction * scales[0]
        step = step + (nominal * scales[1] if self.nominal_control else nominal)
        if self.weight_decay:
            shrunk = self.weight_decay * point
            step = step + (shrunk * scales[-1] if self.decay_control else shrunk)
        return point - step, state
