"""Observations for learned policies: coordinate-wise features and features of the time.

The features themselves are pure functions of :mod:`optenvs.core.features`, which learned agents call
directly; these wrappers put them into the observation, for policies that are trained through a face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import Action, Instance
from optenvs.core.features import (
    LOLV2_FEATURES,
    TIMES,
    empty_momenta,
    log_and_sign,
    lolv2_features,
    tensor_sizes,
    time_features,
    update_momenta,
)
from optenvs.core.random import Keys
from optenvs.core.spaces import box

from .base import Observation, Wrapper, require_fields

_COUNTS = {"log_sign": 2, "lolv2": LOLV2_FEATURES}


@dataclass(frozen=True, eq=False, kw_only=True)
class CoordinateFeatures(Wrapper):
    """Adds ``features`` ``(n, F)`` to the observation: one row a coordinate.

    First-order unrolling takes them as constants, like the oracle's other answers.

    Args:
        env: an environment with one query field that answers gradients.
        kind: ``log_sign`` (F = 2, Andrychowicz et al. 2016) or ``lolv2`` (F = 19, Metz et al. 2020).
        k: the decades scale of ``log_sign``.
    """

    kind: str = "lolv2"
    k: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fields(self.env, "CoordinateFeatures", "point", "gradient")
        if self.kind not in _COUNTS:
            raise ValueError(f"kind: expected one of {', '.join(_COUNTS)}, got {self.kind!r}")
        if not 0 < self.k < float("inf"):
            raise ValueError(f"k: expected a number > 0, got {self.k!r}")

    def observation_fields(self) -> dict[str, spaces.Space]:
        fields = self.env.observation_fields()
        shape = fields["gradient"].shape or ()
        return fields | {"features": box((*shape, _COUNTS[self.kind]), self.dtype)}

    def begin(self, keys: Keys, instance: Instance) -> Tensor | None:
        assert isinstance(instance.start, Tensor)
        return None if self.kind == "log_sign" else empty_momenta(instance.start)

    def remember(self, memory: Tensor | None, action: Action, seen: Observation) -> Tensor | None:
        return None if memory is None else update_momenta(memory, seen["gradient"])

    def show(self, seen: Observation, problem: Any, memory: Tensor | None) -> Observation:
        if memory is None:
            return seen | {"features": log_and_sign(seen["gradient"], self.k)}
        point = seen["point"]
        sizes = tensor_sizes(problem, point.shape[-1])
        return seen | {"features": lolv2_features(point, seen["gradient"], memory, seen["k"], sizes)}


@dataclass(frozen=True, eq=False, kw_only=True)
class TimeFeatures(Wrapper):
    """Adds ``time`` ``(12,)`` to the observation.

    The share ``k / N`` of the horizon (0 without a budget; ``spent`` where cost varies), and
    ``tanh(k / c - 1)`` for eleven time scales ``c`` from 1 to 100,000 steps.
    """

    def observation_fields(self) -> dict[str, spaces.Space]:
        time = box((1 + len(TIMES),), self.dtype, -1.0, float("inf"))
        return self.env.observation_fields() | {"time": time}

    def show(self, seen: Observation, problem: Any, memory: Any) -> Observation:
        share = seen["k"] / seen["N"] if self.fixed_cost else seen["spent"]
        return seen | {"time": torch.cat((share, time_features(seen["k"])), -1)}
