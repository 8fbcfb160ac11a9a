"""The same problem in other units, an augmentation of meta-training (Metz et al. 2020).

Of an instance ``f`` the agent meets ``z -> f(c z)``, from ``z_0 = x_0 / c``. Gradient descent on it with
learning rate ``lr`` is gradient descent on ``f`` with ``lr c^2``. Hessians and the metric of ``problem``
change with the coordinates, so that Newton's steps are the same in both.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Instance, OptimizationEnv
from optenvs.core.features import spread, tensor_sizes
from optenvs.core.menu import Menu
from optenvs.core.random import Keys, uniform
from optenvs.core.spaces import bounded, box
from optenvs.core.struct import is_struct, struct

from .base import Observation, Wrapper

_LEVELS = ("global", "tensor", "coordinate")
_SLOPES = frozenset({"gradient", "hvp"})  # with the vector rescaled as a point is, both take one factor c
_PLACES = ("point", "vector")
_KNOWN = _SLOPES | {*_PLACES, "value", "hessian", "factor", "answered", "k", "N", "spent"}


@struct
class Scaled:
    """Of the last query, what the agent wrote, ``(B, n)`` each.

    Attributes:
        scale: c, ``(B, 1)`` or ``(B, n)``.
        point: the point.
        vector: what the Hessian was multiplied by, where there is such a field.
    """

    scale: Float[Tensor, "B m"]
    point: Float[Tensor, "B n"]
    vector: Float[Tensor, "B n"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Reparametrise(Wrapper):
    """The environment inside under ``x = c z``.

    Args:
        env: an environment whose answers are values, gradients, Hessians or their products, of a point.
        scale: c: a number, or a pair ``(low, high)`` from which each instance draws its own, log-uniformly.
        level: one c an instance (``global``), one a tensor of the problem's layout (``tensor``: a network's
            weights and biases; without a layout the point is one) or one a coordinate (``coordinate``).

    Example:
        >>> Reparametrise(optenvs.make("LeastSquares"), (0.01, 100.0))       # doctest: +SKIP
    """

    scale: float | tuple[float, float] = (0.01, 100.0)
    level: str = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self._ends()
        if not 0 < low <= high < float("inf"):
            raise ValueError(f"scale: expected a number > 0 or a pair 0 < low <= high, got {self.scale!r}")
        if self.level not in _LEVELS:
            raise ValueError(f"level: expected one of {', '.join(_LEVELS)}, got {self.level!r}")
        strange = set(self.env.observation_space.spaces) - _KNOWN
        if strange or "point" not in self.env.observation_space.spaces:
            raise TypeError(
                f"Reparametrise: cannot rescale {self.env.name}, which answers "
                f"{', '.join(self.env.observation_space.spaces)}; it knows {', '.join(sorted(_KNOWN))}"
            )
        if low < high and any(bounded(self._parts(self.env)[n]) for n in self._places):
            raise ValueError(
                f"scale: {self.env.name} has bounds, which would differ between instances; "
                "give one number, or an environment without bounds"
            )

    def _ends(self) -> tuple[float, float]:
        if isinstance(self.scale, tuple | list):
            if len(self.scale) != 2:
                raise ValueError(f"scale: expected a number or a pair, got {self.scale!r}")
            return float(self.scale[0]), float(self.scale[1])
        return float(self.scale), float(self.scale)

    @property
    def card(self) -> Menu | None:
        """The menu of the environment inside, if it answers by one."""
        return getattr(self.env, "card", None)

    @property
    def _places(self) -> list[str]:
        """The fields of a query that are rescaled."""
        return [name for name in _PLACES if name in self._parts(self.env)]

    @staticmethod
    def _parts(env: OptimizationEnv) -> dict[str, Any]:
        space = env.action_space
        return dict(space.spaces) if isinstance(space, spaces.Dict) else {"point": space}

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        low = self._ends()[0]  # only one scale meets bounds; the constructor has seen to that
        parts: dict[str, spaces.Space] = {
            name: box(part.shape, self.dtype, part.low / low, part.high / low)
            if name in _PLACES and bounded(part)
            else part
            for name, part in self._parts(self.env).items()
        }
        if isinstance(self.env.action_space, spaces.Dict):
            return parts
        point = parts["point"]
        assert isinstance(point, spaces.Box)
        return point

    def begin(self, keys: Keys, instance: Instance) -> Scaled:
        start = instance.start["point"] if isinstance(instance.start, dict) else instance.start
        low, high = (math.log(end) for end in self._ends())
        sizes = tensor_sizes(instance.problem, start.shape[-1])
        count = {"global": 1, "tensor": len(sizes), "coordinate": start.shape[-1]}[self.level]
        scale = torch.full_like(start[:, :1], self._ends()[0]).expand(-1, count)
        if low < high:
            scale = uniform(keys, "units", count, dtype=start.dtype, low=low, high=high).exp()
        if self.level == "tensor":
            scale = spread(scale, sizes)
        vector = instance.start.get("vector") if isinstance(instance.start, dict) else None
        return Scaled(scale=scale, point=start / scale, vector=None if vector is None else vector / scale)

    def first(self, start: Action, memory: Scaled) -> Action:
        if isinstance(start, dict):
            return start | {name: start[name] / memory.scale for name in self._places}
        return memory.point

    def query(self, action: Action, memory: Scaled) -> Action:
        if isinstance(action, dict):
            return action | {name: memory.scale * action[name] for name in self._places}
        return memory.scale * action

    def remember(self, memory: Scaled, action: Action, seen: Observation) -> Scaled:
        # the agent's own words, not point / scale, which rounding would have changed
        if isinstance(action, dict):
            return Scaled(scale=memory.scale, point=action["point"], vector=action.get("vector"))
        return Scaled(scale=memory.scale, point=action)

    def show(self, seen: Observation, problem: Any, memory: Scaled) -> Observation:
        found = {name: memory.scale * seen[name] for name in _SLOPES if name in seen}
        if "vector" in seen and memory.vector is not None:
            found["vector"] = memory.vector
        if "hessian" in seen:
            found["hessian"] = _both(memory.scale, seen["hessian"])
        if "factor" in seen:
            found["factor"] = seen["factor"] * memory.scale.unsqueeze(-2)
        return seen | found | {"point": memory.point}

    def know(self, problem: Any, memory: Scaled) -> Any:
        if not is_struct(problem):
            return problem
        names = {f.name for f in dataclasses.fields(problem)}
        told = {name: getattr(problem, name) / memory.scale for name in names & {"lower", "upper"}}
        if getattr(problem, "metric", None) is not None:
            told["metric"] = _both(memory.scale, problem.metric)
        return dataclasses.replace(problem, **told) if told else problem


def _both(scale: Float[Tensor, "B m"], matrix: Float[Tensor, "B n n"]) -> Float[Tensor, "B n n"]:
    """The matrix of a quadratic form, by the point as the agent writes it."""
    return scale.unsqueeze(-1) * matrix * scale.unsqueeze(-2)
