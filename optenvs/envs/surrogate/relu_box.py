"""Random ReLU networks on the unit box: small ones have an exact optimum by mixed-integer programming."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optenvs.core.random import Keys, uniform
from optenvs.core.struct import struct

from .base import Surrogate
from .parts import Draw, Task


@struct
class Layers:
    """Weights ``(B, out, in)`` and biases ``(B, out)`` of each layer."""

    weight: tuple[Tensor, ...]
    bias: tuple[Tensor, ...]


@dataclass(frozen=True)
class ReluTask(Task):
    """The network's one output is the objective; there are no constraints."""

    piecewise_linear: ClassVar[bool] = True

    @property
    def outputs(self) -> int:
        return 1

    def network(self, data: Layers, x: Tensor) -> Tensor:
        """ReLU between the layers, none after the last."""
        last = len(data.weight) - 1
        for place, (weight, bias) in enumerate(zip(data.weight, data.bias, strict=True)):
            x = x @ weight.mT + bias.unsqueeze(1)
            x = x if place == last else x.relu()
        return x

    def objective(self, y: Tensor, aim: None = None) -> Tensor:
        return y.squeeze(-1)

    def slope(self, y: Tensor, aim: None = None) -> Tensor:
        return torch.ones_like(y)


@dataclass(frozen=True, eq=False, kw_only=True)
class ReluBox(Surrogate):
    """Maximise the output of a random ReLU network over the box [0, 1]^n (Tong, Cai, Serra 2024).

    Weights and biases are uniform within 1/sqrt(fan in), one network an instance; the start is uniform in the
    box. There are no constraints but the box, which no query may leave.

    Args:
        dim: the number n of inputs.
        widths: the hidden widths.
        points, oracle, formulation, ...: see :class:`optenvs.envs.surrogate.base.Surrogate`.
    """

    dim: int = 10
    widths: tuple[int, ...] = (20,)

    def __post_init__(self) -> None:
        for name, sizes in (("dim", (self.dim,)), ("widths", tuple(self.widths))):
            if not sizes or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
                raise ValueError(f"{name}: expected whole numbers >= 1, got {getattr(self, name)!r}")
        super().__post_init__()

    @property
    def size(self) -> int:
        return self.dim

    @property
    def box_limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def bounded_below(self) -> bool:
        return False

    @property
    def task(self) -> ReluTask:
        return ReluTask()

    def draw(self, keys: Keys) -> Draw:
        sizes = (self.dim, *self.widths, 1)
        weights, biases = [], []
        for place, (before, after) in enumerate(itertools.pairwise(sizes)):
            limit = 1 / math.sqrt(before)
            options: dict[str, Any] = {"dtype": self.torch_dtype, "low": -limit, "high": limit}
            weights.append(uniform(keys, f"weight {place}", (after, before), **options))
            biases.append(uniform(keys, f"bias {place}", after, **options))
        start = uniform(keys, "start", self.dim, dtype=self.torch_dtype)
        return Draw(
            data=Layers(weight=tuple(weights), bias=tuple(biases)),
            start=start,
            lower=torch.zeros_like(start),
            upper=torch.ones_like(start),
        )
