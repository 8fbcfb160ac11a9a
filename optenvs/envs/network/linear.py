"""Linear regression, each node with samples of its own: the problem that DADAO's comparisons are made on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.random import Keys, integers, normal, uniform

from .base import Network
from .parts import Draw, Functions

INFORMATIVE = 10
"""Most inputs that the targets depend on, as in scikit-learn's ``make_regression``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkLinear(Network):
    """Node i owns f_i(x) = |D_i x - b_i|^2 / m, without a factor 1/2 (Nabli and Oyallon 2023, section 4).

    Every node's samples have the law of scikit-learn's ``make_regression(m, d, noise=10)``, drawn for each
    node anew: standard normal inputs; a linear model whose coefficients are 100 U(0, 1) at min(10, d) inputs
    at random and 0 at the others; Gaussian noise on the targets, which are then multiplied by one factor
    U(0.01, 5) a node. The solution is that of least squares on the samples of all nodes. mu and L are the
    extremes, over the nodes, of the eigenvalues of 2/m D_i' D_i.

    Args:
        samples: the number m of samples of a node, at least ``dim``: with fewer, no f_i is strongly convex.
        target_noise: standard deviation of the noise on the targets.
        batch_size: samples that a gradient uses, drawn uniformly with replacement; all of them by default.
        nodes, dim, graph, ...: see :class:`optenvs.envs.network.base.Network`.
    """

    samples: int = 100
    target_noise: float = 10.0
    batch_size: int | None = None

    truths = ("mean",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("samples", self.samples)
        if self.samples < self.width:
            raise ValueError(f"samples: expected at least dim = {self.width}, got {self.samples!r}")
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size)
            if self.batch_size > self.samples:
                count, came = self.samples, self.batch_size
                raise ValueError(f"batch_size: expected at most the {count} samples of a node, got {came}")
        if not 0 <= self.target_noise < math.inf:
            raise ValueError(f"target_noise: expected a number >= 0, got {self.target_noise!r}")

    @property
    def noisy(self) -> bool:
        return self.batch_size is not None

    def table(self, keys: Keys) -> tuple[Float[Tensor, "B N m d"], Float[Tensor, "B N m"]]:
        """The samples D_i and b_i of every node, float64."""
        nodes, count, dim, double = self.agents, self.samples, self.width, torch.float64
        inputs = normal(keys, "inputs", (nodes, count, dim), dtype=double)
        model = uniform(keys, "model", (nodes, dim), dtype=double, high=100.0)
        if dim > INFORMATIVE:
            rank = uniform(keys, "informative", (nodes, dim)).argsort(-1).argsort(-1)
            model = torch.where(rank < INFORMATIVE, model, 0.0)
        noise = self.target_noise * normal(keys, "target noise", (nodes, count), dtype=double)
        factor = uniform(keys, "factor", (nodes, 1), dtype=double, low=0.01, high=5.0)
        return inputs, factor * ((inputs @ model.unsqueeze(-1)).squeeze(-1) + noise)

    def draw(self, keys: Keys) -> Draw:
        inputs, targets = self.table(keys)
        curvature = 2 / self.samples * (inputs.mT @ inputs)
        pull = 2 / self.samples * (inputs.mT @ targets.unsqueeze(-1)).squeeze(-1)
        # the driver that every device has; the inputs have full rank
        pooled = torch.linalg.lstsq(inputs.flatten(1, 2), targets.flatten(1).unsqueeze(-1), driver="gels")
        eigenvalues = torch.linalg.eigvalsh(curvature)
        data = {"curvature": curvature, "pull": pull, "mean": curvature.mean(1)}
        if self.oracle == "conjugate":
            data["inverse"] = torch.linalg.pinv(curvature, hermitian=True)
        if self.batch_size is not None:
            data |= {"inputs": inputs, "targets": targets}
        dtype = self.torch_dtype
        functions = Functions(
            data={name: value.to(dtype) for name, value in data.items()},
            solution=pooled.solution.squeeze(-1).to(dtype),
        )
        mu, largest = eigenvalues[..., 0].amin(-1), eigenvalues[..., -1].amax(-1)
        return Draw(functions=functions, mu=mu.to(dtype), L=largest.to(dtype))

    def gradient(self, data: Any, x: Float[Tensor, "B N d"], keys: Int64[Tensor, "B N"]) -> Tensor:
        if self.batch_size is None:
            return (data["curvature"] @ x.unsqueeze(-1)).squeeze(-1) - data["pull"]
        chosen = integers(keys, "minibatch", self.batch_size, self.samples)
        rows = chosen.unsqueeze(-1).expand(*chosen.shape, x.shape[-1])
        inputs, targets = data["inputs"].gather(2, rows), data["targets"].gather(2, chosen)
        residual = (inputs @ x.unsqueeze(-1)).squeeze(-1) - targets
        return 2 / self.batch_size * (residual.unsqueeze(-2) @ inputs).squeeze(-2)

    def conjugate(self, data: Any, x: Float[Tensor, "B N d"]) -> Tensor:
        return (data["inverse"] @ (x + data["pull"]).unsqueeze(-1)).squeeze(-1)

    def measure(self, functions: Functions, x: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        """The gap of the mean of the f_i, without the cancellation of a difference of two values."""
        away = x - functions.solution
        slope = (functions.data["mean"] @ away.unsqueeze(-1)).squeeze(-1)
        return {"gap": (away * slope).sum(-1) / 2}
