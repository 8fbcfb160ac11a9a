"""Quadratic functions, whose solution has a closed form: the test-bed of decentralized methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import struct

from .base import Network
from .parts import Draw, Functions, refuse_changed
from .verdict import Judged


@struct
class Bowls:
    """The functions f_i(x) = a_i/2 |x - b_i|^2: curvatures ``(B, N)`` and centres ``(B, N, d)``."""

    curvature: Float[Tensor, "B N"]
    centre: Float[Tensor, "B N d"]


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkQuadratic(Network):
    """Node i owns f_i(x) = a_i/2 |x - b_i|^2; the solution is the mean of the b_i with the weights a_i.

    Args:
        mu: the least curvature.
        L: the greatest curvature. Both are present in every instance; the others are log-uniform between.
        curvatures: the a_i of all instances, in place of random ones; they then give mu and L.
        centres: the b_i of all instances, ``(n, d)``, in place of random ones.
        noise: standard deviation of the Gaussian noise in each partial derivative.
        nodes, dim, graph, ...: see :class:`optenvs.envs.network.base.Network`.
    """

    mu: float = 1.0
    L: float = 10.0
    curvatures: tuple[float, ...] | None = None
    centres: Any = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.curvatures is None and not 0 < self.mu <= self.L < math.inf:
            raise ValueError(f"mu, L: expected 0 < mu <= L, got {self.mu!r} and {self.L!r}")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise: expected a number >= 0, got {self.noise!r}")
        given = self.curvatures
        if given is not None:
            refuse_changed(self, ("mu", "L"), "the curvatures say what they are")
            if len(given) != self.agents or not all(0 < a < math.inf for a in given):
                raise ValueError(f"curvatures: expected {self.agents} numbers > 0, got {given!r}")
        super().__post_init__()
        _ = self._centres

    @cached_property
    def _centres(self) -> Tensor | None:
        if self.centres is None:
            return None
        centres = torch.as_tensor(self.centres, dtype=self.torch_dtype, device=self.torch_device)
        if centres.shape != (self.agents, self.width) or not centres.isfinite().all():
            raise ValueError(
                f"centres: expected finite numbers of shape {(self.agents, self.width)}, got {self.centres!r}"
            )
        return centres

    @property
    def judged(self) -> Judged:
        if self.curvatures is None:
            return Judged(self.mu, self.L)
        return Judged(min(self.curvatures), max(self.curvatures), tuple(self.curvatures))

    @property
    def noisy(self) -> bool:
        return self.noise > 0

    def draw(self, keys: Keys) -> Draw:
        dtype, nodes = self.torch_dtype, self.agents
        if self._centres is None:
            centre = normal(keys, "centres", (nodes, self.width), dtype=dtype)
        else:
            centre = self._centres.expand(len(keys), nodes, self.width)
        if self.curvatures is not None:
            given = torch.tensor(self.curvatures, dtype=dtype, device=keys.device)
            curvature = given.expand(len(keys), nodes)
        else:
            place = uniform(keys, "curvatures", nodes, dtype=dtype)
            rank = place.argsort(-1).argsort(-1)
            place = torch.where(rank == 0, 0.0, torch.where(rank == nodes - 1, 1.0, place))
            curvature = self.mu * (self.L / self.mu) ** place
        weight = curvature / curvature.sum(-1, keepdim=True)
        functions = Functions(
            data=Bowls(curvature=curvature, centre=centre),
            solution=(weight.unsqueeze(-1) * centre).sum(1),
        )
        return Draw(functions=functions, mu=curvature.amin(-1), L=curvature.amax(-1))

    def gradient(self, data: Any, x: Tensor, keys: Int64[Tensor, "B N"]) -> Tensor:
        exact = data.curvature.unsqueeze(-1) * (x - data.centre)
        if not self.noise:
            return exact
        return exact + self.noise * normal(keys, "noise", x.shape[-1], dtype=x.dtype)

    def conjugate(self, data: Any, x: Tensor) -> Tensor:
        return data.centre + x / data.curvature.unsqueeze(-1)

    def measure(self, functions: Functions, x: Tensor) -> dict[str, Tensor]:
        distance = (x - functions.solution).square().sum(-1)
        return {"gap": functions.data.curvature.mean(-1) * distance / 2}
