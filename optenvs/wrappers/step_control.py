"""The step itself as the action, seen from the recent past: optimization as reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Instance
from optenvs.core.history import History
from optenvs.core.random import Keys
from optenvs.core.spaces import box
from optenvs.core.struct import struct

from .base import Observation, require_fields
from .displacement import Displacement


@struct
class Past:
    """The wrapper's memory: ``point``, the last one, ``(B, n)``, and the ``history`` of answers."""

    point: Float[Tensor, "B n"]
    history: History


@dataclass(frozen=True, eq=False, kw_only=True)
class StepControl(Displacement):
    """The query is the last point plus ``scale`` times the action; what is seen is the recent past.

    The decision process of Li and Malik (2016): an action is a step, and the state that a policy sees holds
    the changes of the objective and the gradients of the last points, and not where they are. Their cost is
    the objective, ``reward="negative_value"`` of the environment inside. ``li_malik`` is their policy as an
    agent; a policy that Stable-Baselines3 has trained here acts here (``agents.from_sb3``).

    Args:
        env: an environment whose query is one point, and which answers values and gradients.
        history: H, how many points are remembered.
        scale, limit: see :class:`Displacement`; Stable-Baselines3 needs a finite limit.

    Example:
        >>> env = StepControl(optenvs.make("Quadratic", reward="negative_value", budget=41), limit=1.0)
        >>> model = PPO("MultiInputPolicy", SB3VecEnv(env, num_envs=16))           # doctest: +SKIP
    """

    history: int = 25

    meanings: ClassVar = {
        "action": "the step, in units of the scale",
        "features": "changes of the objective since each of the last points, then the gradients at the last "
        "points, coordinate by coordinate, the newest first",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fields(self.env, "StepControl", "value", "gradient")
        if isinstance(self.history, bool) or not isinstance(self.history, int) or self.history < 1:
            raise ValueError(f"history: expected a whole number >= 1, got {self.history!r}")

    @cached_property
    def features(self) -> int:
        """How many numbers are seen: ``H`` changes, and ``H`` gradients."""
        return self.history * (1 + int((self.env.action_space.shape or (1,))[0]))

    def observation_fields(self) -> dict[str, spaces.Space]:
        return {"features": box((self.features,), self.dtype)}

    def begin(self, keys: Keys, instance: Instance) -> Any:
        point = super().begin(keys, instance)
        return Past(point=point, history=History.empty(point, self.history))

    def first(self, start: Action, memory: Any) -> Tensor:
        return super().first(start, memory.point)

    def query(self, action: Action, memory: Any) -> Tensor:
        return super().query(action, memory.point)

    def remember(self, memory: Any, action: Action, seen: Observation) -> Any:
        return Past(point=seen["point"], history=memory.history.updated(seen["value"], seen["gradient"]))

    def show(self, seen: Observation, problem: Any, memory: Any) -> Observation:
        history: History = memory.history
        return {"features": torch.cat((history.changes, history.gradients.flatten(1)), -1)}
