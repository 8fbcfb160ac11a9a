"""Small surrogates whose answers a test can compute by itself."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from optenvs.core.random import Keys, keys_from_seed, normal, uniform
from optenvs.envs.surrogate.base import Surrogate
from optenvs.envs.surrogate.parts import Draw, Task
from optenvs.envs.surrogate.relu_box import Layers, ReluBox


@dataclass(frozen=True)
class LinearTask(Task):
    """<u, W x>, u the same for all instances."""

    u: tuple[float, ...]

    @property
    def outputs(self) -> int:
        return len(self.u)

    def network(self, data: Tensor, x: Tensor) -> Tensor:
        return x @ data.mT

    def objective(self, y: Tensor, aim: Any = None) -> Tensor:
        return y @ torch.tensor(self.u, dtype=y.dtype)

    def slope(self, y: Tensor, aim: Any = None) -> Tensor:
        return torch.tensor(self.u, dtype=y.dtype).expand_as(y)


class PartlyLinearTask(LinearTask):
    """Its second and fourth output do not matter, and have a zero in u."""

    unused: ClassVar[tuple[int, ...]] = (1, 3)


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Surrogate):
    """A linear network of random weights."""

    u: tuple[float, ...]
    dim: int = 8
    kind: type[LinearTask] = LinearTask

    bounded_below = False

    @property
    def size(self) -> int:
        return self.dim

    @property
    def task(self) -> LinearTask:
        return self.kind(self.u)

    def draw(self, keys: Keys) -> Draw:
        weights = normal(keys, "W", (len(self.u), self.dim), dtype=self.torch_dtype)
        start = normal(keys, "start", self.dim, dtype=self.torch_dtype)
        return Draw(data=weights, start=start, lower=start - 1, upper=start + 1)


@dataclass(frozen=True)
class TanhTask(Task):
    """Two tanh outputs, of which the sum is maximised within a disc and below a bound of the first.

    Beyond ``edge`` in the first coordinate the network gives no numbers.
    """

    edge: float

    @property
    def outputs(self) -> int:
        return 2

    @property
    def constraint_count(self) -> int:
        return 2

    def network(self, data: Tensor, x: Tensor) -> Tensor:
        y = torch.tanh(x @ data.mT)
        return torch.where(x[..., :1] > self.edge, torch.nan, y)

    def objective(self, y: Tensor, aim: Any = None) -> Tensor:
        return y.square().sum(-1) + y[..., 0]

    def slope(self, y: Tensor, aim: Any = None) -> Tensor:
        return 2 * y + torch.tensor([1.0, 0.0], dtype=y.dtype)

    def constraints(self, x: Tensor, y: Tensor, aim: Any = None) -> Tensor:
        return torch.stack((x.square().sum(-1) - 1, y[..., 0] - 0.4), -1)


@dataclass(frozen=True, eq=False, kw_only=True)
class TanhDisc(Surrogate):
    """A small tanh network with two constraints."""

    dim: int = 3
    edge: float = 2.0

    bounded_below = False

    @property
    def size(self) -> int:
        return self.dim

    @property
    def task(self) -> TanhTask:
        return TanhTask(self.edge)

    @property
    def ceiling(self) -> float:
        return 1.0  # the objective is above -1

    def draw(self, keys: Keys) -> Draw:
        weights = normal(keys, "W", (2, self.dim), dtype=self.torch_dtype)
        start = uniform(keys, "start", self.dim, dtype=self.torch_dtype, low=-0.3, high=0.3)
        return Draw(data=weights, start=start, lower=torch.full_like(start, -1), upper=torch.ones_like(start))


@dataclass(frozen=True, eq=False, kw_only=True)
class Ramp(ReluBox):
    """A valley with a flat floor, sum_i s_i relu(u_i - x_i): the identity task of surrogates."""

    dim: int = 2
    widths: tuple[int, ...] = (2,)
    tolerance: float | None = None

    bounded_below = True

    def draw(self, keys: Keys) -> Draw:
        options: dict[str, Any] = {"dtype": self.torch_dtype}
        edge = uniform(keys, "edge", self.dim, low=0.5, high=0.8, **options)
        start = uniform(keys, "start", self.dim, low=0.1, high=0.3, **options)
        steep = torch.arange(1, self.dim + 1).to(start).expand_as(start)
        data = Layers(
            weight=(-torch.diag_embed(steep), -torch.ones_like(steep).unsqueeze(1)),
            bias=(steep * edge, torch.zeros_like(start[:, :1])),
        )
        zero = torch.zeros_like(start)
        return Draw(data=data, start=start, lower=zero, upper=zero + 1, best_known=zero[:, 0])


@dataclass(frozen=True, eq=False, kw_only=True)
class PrintedReluBox(ReluBox):
    """Networks of numpy's generators with seeds 0, 1, ..., for which figures are known."""

    def draw(self, keys: Keys) -> Draw:
        drawn = super().draw(keys)
        sizes = (self.dim, *self.widths, 1)
        weights: list[list[np.ndarray]] = [[] for _ in sizes[1:]]
        biases: list[list[np.ndarray]] = [[] for _ in sizes[1:]]
        for seed in range(len(keys)):
            rng = np.random.default_rng(seed)
            for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
                k = 1 / np.sqrt(before)
                weights[layer].append(rng.uniform(-k, k, (after, before)))
                biases[layer].append(rng.uniform(-k, k, after))
        data = Layers(
            weight=tuple(torch.from_numpy(np.stack(w)) for w in weights),
            bias=tuple(torch.from_numpy(np.stack(b)) for b in biases),
        )
        return Draw(data=data, start=drawn.start, lower=drawn.lower, upper=drawn.upper)


def disc_optima(env: TanhDisc, batch: int) -> list[list[float]]:
    """The least values around several starts of the first instances of seed 0, by SLSQP."""
    from scipy.optimize import minimize

    found = []
    for weights in env.reset(keys_from_seed(0, batch)).hidden.data.numpy():

        def value(x: np.ndarray, w: np.ndarray = weights) -> float:
            y = np.tanh(w @ x)
            return -float(y @ y + y[0])

        def slack(x: np.ndarray, w: np.ndarray = weights) -> np.ndarray:
            return np.array([1 - x @ x, 0.4 - np.tanh(w[0] @ x)])

        starts = np.random.default_rng(0).uniform(-0.6, 0.6, (12, env.dim))
        limit = {"type": "ineq", "fun": slack}
        runs = [minimize(value, x, constraints=limit, method="SLSQP") for x in starts]
        found.append([float(run.fun) for run in runs if run.success])
    return found
