"""Actions that are displacements: what a learned policy usually puts out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import Action, Instance
from optenvs.core.errors import only_part
from optenvs.core.random import Keys
from optenvs.core.spaces import box, limited

from .base import Observation, Wrapper, require_fields


@dataclass(frozen=True, eq=False, kw_only=True)
class Displacement(Wrapper):
    """The query is the last point plus ``scale`` times the action.

    Where the environment inside has bounds, the point asked is the projection onto them: the observed
        ``point``
    says where the query went.

    Args:
        env: an environment whose query is one point.
        scale: what one unit of the action is worth.
        limit: the largest entry of an action, or ``None`` for no limit (Stable-Baselines3 needs one).

    Example:
        >>> optenvs.rollout(Displacement(core, scale=0.1, limit=1.0), policy)      # doctest: +SKIP
    """

    scale: float = 1.0
    limit: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fields(self.env, "Displacement", "point")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale: expected a number > 0, got {self.scale!r}")
        if self.limit is not None and not 0 < self.limit < float("inf"):
            raise ValueError(f"limit: expected a number > 0 or None, got {self.limit!r}")

    def action_fields(self) -> spaces.Box:
        limit = float("inf") if self.limit is None else self.limit
        return box(self.env.action_space.shape or (), self.dtype, -limit, limit)

    def begin(self, keys: Keys, instance: Instance) -> Tensor:
        assert isinstance(instance.start, Tensor)
        return instance.start

    def first(self, start: Action, memory: Tensor) -> Tensor:
        return torch.zeros_like(memory)

    def query(self, action: Action, memory: Tensor) -> Tensor:
        action = only_part(self.name, action)
        point = torch.add(memory, action, alpha=self.scale)
        space = self.env.action_space
        assert isinstance(space, spaces.Box)
        if not limited(space):
            return point
        low, high = (torch.from_numpy(end.copy()).to(point) for end in (space.low, space.high))
        return point.clamp(low, high)

    def remember(self, memory: Tensor, action: Action, seen: Observation) -> Tensor:
        return seen["point"]
