"""A policy that chooses an optimizer's learning rate from eight scale-free numbers.

What :class:`optenvs.wrappers.StepSizeControl` shows a reinforcement learner and does with its actions, as an
optimizer that meets the problem itself. At every ``repeat``-th step

    a = clip(MLP(features), -1, 1)                     see :func:`optenvs.core.features.control_features`
    rate = 10 ** (low + (a + 1) / 2 (high - low))

and at every step the optimizer inside takes its step with that rate.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import EACH, SHARED, control_features
from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation, clock, require
from ._parts import made_part, told_part
from .base import Affine, LearnedAgent

_INPUTS = len(SHARED + EACH)


@struct
class StepSizeState:
    """The memory of a policy.

    Attributes:
        optimizer: that of the optimizer inside.
        action: the last one, 0 before the first, ``(B, 1)``.
        value, gradient: the answer where it was taken, ``(B, 1)`` and ``(B, n)``.
        first: the first value, ``(B, 1)``.
    """

    optimizer: Any
    action: Float[Tensor, "B 1"]
    value: Float[Tensor, "B 1"]
    gradient: Float[Tensor, "B n"]
    first: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class StepSizePolicy(LearnedAgent):
    """An optimizer whose learning rate a small network chooses as it goes.

    Trained by whatever trains policies on ``StepSizeControl`` (:meth:`from_sb3` takes the network of a
    Stable-Baselines3 model, see ``examples/ppo_step_size.py``), or as any learned optimizer. It sees the
    share of its budget that is spent; where there is none, it believes to be at the beginning.

    Args:
        optimizer: whose rate it is: an agent with ``lr`` and ``schedule``, or the name of one.
        low, high: the ends of log10 of the learning rate.
        repeat: how many steps a choice lasts.
        hidden: units of the network's layers, with tanh.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    optimizer: Any = "sgd"
    low: float = -4.0
    high: float = 1.0
    repeat: int = 1
    hidden: tuple[int, ...] = (32, 32)

    needs: ClassVar[tuple[str, ...]] = ("gradient", "value")

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        require(self, "hidden", self.hidden and min(self.hidden) >= 1, "whole numbers >= 1")
        whole = isinstance(self.repeat, int) and not isinstance(self.repeat, bool)
        require(self, "repeat", whole and self.repeat >= 1, "a whole number >= 1")
        require(self, "high", -math.inf < self.low < self.high < math.inf, f"a number > low = {self.low!r}")
        object.__setattr__(self, "optimizer", made_part(self, "optimizer"))
        fields = {field.name for field in dataclasses.fields(self.optimizer)}
        if not {"lr", "schedule"} <= fields or self.optimizer.schedule is not None:
            raise ValueError(
                "StepSizePolicy: optimizer: expected an agent with lr and schedule, and no schedule yet, "
                f"got {self.optimizer!r}"
            )
        super().__post_init__()

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"optimizer": told_part(self.optimizer)}

    def build(self) -> nn.Sequential:
        parts: list[nn.Module] = []
        for before, after in pairwise((_INPUTS, *self.hidden)):
            parts += [Affine(before, after, self.torch_dtype), nn.Tanh()]
        return nn.Sequential(*parts, Affine(self.hidden[-1], 1, self.torch_dtype))

    @classmethod
    def from_sb3(cls, model: Any, **settings: Any) -> Self:
        """The network of a trained Stable-Baselines3 model, copied; its action is the mean one.

        Args:
            model: an actor and critic (PPO, A2C) on the ``features`` of a ``StepSizeControl`` alone, with one
                rate in all, tanh and at least one hidden layer.
            **settings: ``optimizer``, ``low``, ``high``, ``repeat`` as the wrapper had them, and ``dtype``.

        Raises:
            ValueError: a policy of another architecture.
        """
        state = model.policy.state_dict()
        head, stem = "action_net", "mlp_extractor.policy_net"
        layers = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
        names = [name for name in layers if name.startswith(f"{stem}.")] + [head]
        shapes: list[tuple[int, ...]] = [
            tuple(state[f"{name}.weight"].shape) if name in layers else () for name in names
        ]
        activation = getattr(model.policy, "activation_fn", None)
        if len(names) < 2 or shapes[0][1:] != (_INPUTS,) or shapes[-1][:1] != (1,) or activation != nn.Tanh:
            came = dict(zip(names, shapes, strict=True))
            raise ValueError(
                f"from_sb3: model: expected a policy with tanh from {_INPUTS} features to one rate, got "
                f"layers {came} with {getattr(activation, '__name__', activation)}"
            )
        agent = cls(hidden=tuple(shape[0] for shape in shapes[:-1]), **settings)
        with torch.no_grad():
            own = [layer for layer in agent.net if isinstance(layer, Affine)]
            for layer, name in zip(own, names, strict=True):
                layer.weight.copy_(state[f"{name}.weight"])
                layer.bias.copy_(state[f"{name}.bias"])
        return agent

    def init(self, problem: Any, observation: Observation, keys: Keys) -> StepSizeState:
        value = observation["value"]
        return StepSizeState(
            optimizer=self.optimizer.init(problem, observation, keys),
            action=torch.zeros_like(value),
            value=value,
            gradient=observation["gradient"],
            first=value,
        )

    def act(self, state: StepSizeState, observation: Observation) -> tuple[Tensor, StepSizeState]:
        due = observation["k"] % self.repeat == 0
        seen = control_features(
            observation,
            (state.value, state.gradient),
            state.first,
            self._time(observation),
            state.action,
            (state.gradient.shape[1],),
        )
        action = torch.where(due, self.run(seen).clamp(-1, 1), state.action)
        rate = 10.0 ** (self.low + (action + 1) / 2 * (self.high - self.low))
        optimizer = self.optimizer.replace(lr=1.0, schedule=lambda k, N: rate)
        point, memory = optimizer.act(state.optimizer, observation)
        return point, StepSizeState(
            optimizer=memory,
            action=action,
            value=torch.where(due, observation["value"], state.value),
            gradient=torch.where(due, observation["gradient"], state.gradient),
            first=state.first,
        )

    def _time(self, observation: Observation) -> Float[Tensor, "B 1"]:
        """The share of all choices that were made before."""
        if "spent" in observation:
            return observation["spent"]
        k, horizon = clock(observation)
        return torch.floor(k / self.repeat) / torch.ceil(horizon / self.repeat)
