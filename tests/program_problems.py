"""A small program for the tests of solvers that call back: curved constraints, a region without values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import optenvs
from optenvs.core.random import Keys, normal
from optenvs.envs.constrained.base import Constrained
from optenvs.envs.constrained.parts import Draw


@dataclass(frozen=True, eq=False, kw_only=True)
class Bowl(Constrained):
    """Minimise |x - a|^2 + sum x^4 / 4 subject to |x|^2 = 2 and x_1 <= x_2 - 1.

    Attributes:
        edge: f has no value where x_1 < edge.
        lowest: the lower bound of each coordinate.
    """

    edge: float = -torch.inf
    lowest: float | None = None

    @property
    def size(self) -> int:
        return 3

    @property
    def equality_count(self) -> int:
        return 1

    @property
    def inequality_count(self) -> int:
        return 1

    def draw(self, keys: Keys) -> Draw:
        a = torch.tensor([1.0, 0.5, 1.5], dtype=self.torch_dtype) + 0.2 * normal(
            keys, "a", 3, dtype=self.torch_dtype
        )
        start = a.new_tensor([0.2, -1.0, 1.0]) + 0.2 * normal(keys, "start", 3, dtype=self.torch_dtype)
        ends: dict[str, Any] = {}
        if self.lowest is not None:
            ends = {"lower": torch.full_like(a, self.lowest), "upper": torch.full_like(a, 3.0)}
        return Draw(data=a, start=start, **ends)

    def objective(self, data: Any, x: Tensor) -> Tensor:
        value = (x - data).square().sum(-1) + x.pow(4).sum(-1) / 4
        return torch.where(x[:, 0] < self.edge, torch.nan, value)

    def constraints(self, data: Any, x: Tensor) -> Tensor:
        return torch.stack((x.square().sum(-1) - 2, x[:, 0] - x[:, 1] + 1), -1)


def quadratic(**data: Any) -> Any:
    """The program of the arrays given: min |x|^2 / 2 - q'x with q = 0, 1, ..., n - 1, to 1e-6."""
    n = len(data["A"][0])
    whole = {"Q": np.eye(n), "q": -np.arange(float(n)), **data}
    return optenvs.make("ConstrainedQuadratic", data=whole, budget=400, tolerance=1e-6)
