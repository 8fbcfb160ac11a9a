"""Learning-rate schedules: factors as functions of the step ``k`` and the horizon ``N``.

Each call returns a frozen, printable function for the ``schedule`` of a gradient agent. ``k`` and ``N`` are
tensors ``(B, 1)``; without a budget ``N`` is infinite, and schedules that need it say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from optenvs.core.oracles import inside_transform


@dataclass(frozen=True)
class Cosine:
    """From 1 to ``floor`` along half a cosine (Loshchilov and Hutter 2017), after a linear warm-up.

    Args:
        floor: the factor at the horizon.
        warmup: the share of the horizon over which the factor rises from 0.
    """

    floor: float = 0.0
    warmup: float = 0.0

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        done = _share(k, N)
        rest = ((done - self.warmup) / (1 - self.warmup)).clamp(0, 1)
        factor = self.floor + (1 - self.floor) * 0.5 * (1 + torch.cos(math.pi * rest))
        return torch.where(done < self.warmup, done / max(self.warmup, 1e-12), factor)


@dataclass(frozen=True)
class Linear:
    """From 1 to ``floor`` in a straight line over the horizon."""

    floor: float = 0.0

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        return 1 - (1 - self.floor) * _share(k, N)


@dataclass(frozen=True)
class Steps:
    """Multiply by ``factor`` at each share of the horizon in ``at`` (0.75: after three quarters)."""

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        done = _share(k, N)
        passed = sum(((done >= share).to(k.dtype) for share in self.at), start=torch.zeros_like(done))
        return self.factor**passed


@dataclass(frozen=True)
class Growth:
    """Multiply by ``factor`` after every ``period`` steps, up to (or, of a decay, down to) ``limit``."""

    factor: float = 1.05
    period: int = 1
    limit: float | None = None

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        power = self.factor ** (k / self.period).floor()
        if self.limit is None:
            return power
        return power.clamp_max(self.limit) if self.factor > 1 else power.clamp_min(self.limit)


@dataclass(frozen=True)
class LogCooling:
    """1 / log2(e + 2) after ``e`` periods: the cooling of consensus-based optimization by epochs."""

    period: int = 1

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        return 1 / torch.log2((k / self.period).floor() + 2)


@dataclass(frozen=True)
class InverseSqrt:
    """1 / sqrt(k + 1), the schedule of online convex analysis."""

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        return torch.rsqrt(k + 1)


def _share(k: Tensor, N: Tensor) -> Tensor:
    # where looking would wait, or is refused, a horizon that is infinite is one that never comes nearer
    looks = N.device.type == "cpu" and not inside_transform(N)
    if looks and bool(torch.isinf(N).any()):
        raise ValueError("schedule: needs a horizon; give the environment a budget")
    return k / N
