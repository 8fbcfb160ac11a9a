"""Clients with two quadratics each, for the tests: one minimiser for all, and curvatures of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from optenvs.core.random import Keys, normal, uniform
from optenvs.envs.bilevel.federated import Federated


@dataclass(frozen=True, eq=False, kw_only=True)
class Quadratics(Federated):
    """F_i = a_i (|x - 1|^2 + |y - 1|^2) / 2 and f_i = b_i |y - x|^2 / 2: x = y = 1 solves both levels.

    Args:
        dim: of x and of y.
        noise: standard deviation of what is added to where F_i is asked, a mini-batch of one.
    """

    dim: int = 2
    clients: int = 4
    noise: float = 0.0
    evaluation_period: Any = None

    @property
    def measures_merit(self) -> bool:
        return False

    @property
    def sizes(self) -> tuple[int, int]:
        return self.dim, self.dim

    def draw(self, keys: Keys) -> tuple[Any, Tensor, Tensor]:
        dtype = self.torch_dtype
        data = {name: uniform(keys, name, (self.clients, 1), dtype=dtype, low=0.5, high=1.5) for name in "ab"}
        x, y = (3 * normal(keys, name, self.dim, dtype=dtype) for name in ("x", "y"))
        return data, x, y

    def batches(self, data: Any, keys: Tensor) -> tuple[Any, Any]:
        return (data["a"], self.noise * normal(keys, "noise", self.dim, dtype=self.torch_dtype)), data["b"]

    def upper(self, batch: Any, x: Tensor, y: Tensor) -> Tensor:
        a, moved = batch
        return (a * ((x + moved - 1).square() + (y - 1).square())).sum(-1) / 2

    def lower(self, batch: Any, x: Tensor, y: Tensor) -> Tensor:
        return (batch * (y - x).square()).sum(-1) / 2

    def measure(self, data: Any, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        gap = (x - 1).square().sum(-1) + (y - x).square().sum(-1)
        return gap, {"gap": gap}
