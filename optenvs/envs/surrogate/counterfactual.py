"""Counterfactual: the nearest map on which another path would be far better (Bouchet and Vidal 2025).

A decoder makes the picture of a map of 6x6 cells from n = 12 latents, and a cost network tells what each
cell costs to enter. On the first map ``p_ini`` is the cheapest path from corner to corner; ``p_alt`` is that
of another map. Which map, as near to the first as can be, has the alternative at half the cost or less?

    Phi(x) = [x ; cost(dec(x))]
    f(y) = -|x - x_ini|^2 - ((sum of costs - sum of costs at x_ini) / 25)^2
    (|x| - (sqrt(n) - 1)) (|x| - (sqrt(n) + 1)) / 10 <= 0
    (2 <p_alt, cost> - <p_ini, cost>) / 10 <= 0

The paper decodes 64 latents to 12x12 cells and divides the sum of the 144 costs by 100: here they are 36, by
25. All other constants are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.random import Keys, keys_from_seed, normal, uniform
from optenvs.core.struct import struct, tree_map
from optenvs.data.weights import placed_weights

from .base import Surrogate
from .parts import Draw, Task, beside
from .terrain import LATENT, LEAST, MOST, SHAPES, SIDE, decode, price, shortest_paths

CELLS = SIDE * SIDE
SUM_SCALE, CONSTRAINT_SCALE = 25.0, 10.0
NORM = math.sqrt(LATENT)
FACTOR = 2.0
"""The usual path must cost this many times what the other does."""
MAPS = 1000


@struct
class Question:
    """The first map and the two paths.

    Attributes:
        first: the outputs at the first map, ``(B, n + 36)``.
        usual, other: ``p_ini`` and ``p_alt`` as 0 and 1 by cell, ``(B, 36)``.
    """

    first: Float[Tensor, "B p"]
    usual: Float[Tensor, "B c"]
    other: Float[Tensor, "B c"]


@dataclass(frozen=True)
class Maps(Task):
    """Decode latents and price the cells; the aim is a :class:`Question`.

    Decoder and cost network are the same for all instances, and no part of their data.
    """

    weights: str | None = None
    official_slope: bool = False

    @property
    def outputs(self) -> int:
        return LATENT + CELLS

    @property
    def constraint_count(self) -> int:
        return 2

    def tensors(self, like: Tensor) -> Mapping[str, Tensor]:
        """The tensors of both networks, of the device and the type of ``like``."""
        return placed_weights("counterfactual", like.device, like.dtype, self.weights, SHAPES)

    def network(self, data: Any, x: Tensor) -> Tensor:
        return torch.cat((x, self.costs(x)), -1)

    def costs(self, x: Float[Tensor, "*B n"]) -> Float[Tensor, "*B c"]:
        """What the cells cost, row by row."""
        tensors = self.tensors(x)
        return price(tensors, decode(tensors, x.reshape(-1, LATENT))).view(*x.shape[:-1], CELLS)

    def _change(self, y: Tensor, aim: Question) -> tuple[Tensor, Tensor]:
        """How far the latents are from the first ones, and the sum of the costs from the first sum."""
        change = y - beside(aim.first, y)
        return change[..., :LATENT], change[..., LATENT:].sum(-1, keepdim=True)

    def objective(self, y: Tensor, aim: Any = None) -> Tensor:
        latents, total = self._change(y, aim)
        return -latents.square().sum(-1) - (total / SUM_SCALE).square().squeeze(-1)

    def slope(self, y: Tensor, aim: Any = None) -> Tensor:
        latents, total = self._change(y, aim)
        if self.official_slope:
            total = 1 + y[..., LATENT:].sum(-1, keepdim=True) - beside(aim.first, y)[..., LATENT:]
        return torch.cat((-2 * latents, -2 / SUM_SCALE**2 * total.expand_as(y[..., LATENT:])), -1)

    def constraints(self, x: Tensor, y: Tensor, aim: Any = None) -> Tensor:
        norm = torch.linalg.vector_norm(y[..., :LATENT], dim=-1)
        ring = (norm - (NORM - 1)) * (norm - (NORM + 1)) / CONSTRAINT_SCALE
        paths = y[..., LATENT:] * beside(FACTOR * aim.other - aim.usual, y)
        return torch.stack((ring, paths.sum(-1) / CONSTRAINT_SCALE), -1)


@struct
class Atlas:
    """The maps that instances are made of.

    Attributes:
        latents: of norm sqrt(n), ``(M, n)``.
        costs, paths: of each cell, and whether the cheapest path goes over it, ``(M, 36)``.
        pairs: whether the path of map j costs at most half, on map j, of what the path of map i costs there;
            map j is then a feasible point of the instance (i, j); bool ``(M, M)``.
    """

    latents: Float[Tensor, "M n"]
    costs: Float[Tensor, "M c"]
    paths: Float[Tensor, "M c"]
    pairs: Bool[Tensor, "M M"]


@lru_cache(maxsize=4)
def atlas(device: torch.device, weights: str | None = None) -> Atlas:
    """:data:`MAPS` random maps; made in float64 on the processor, so that every device has the same."""
    with torch.inference_mode(False), torch.no_grad():
        latents = normal(keys_from_seed(1839, MAPS), "map", LATENT, dtype=torch.float64)
        latents = NORM * latents / torch.linalg.vector_norm(latents, dim=-1, keepdim=True)
        costs = Maps(weights).costs(latents)
        paths = torch.from_numpy(shortest_paths(costs.view(-1, SIDE, SIDE).numpy())).flatten(1)
        across = costs @ paths.T  # [j, i]: what the path of i costs on j
        pairs = (FACTOR * across.diagonal().unsqueeze(-1) <= across).T
        made = Atlas(latents=latents, costs=costs, paths=paths, pairs=pairs.contiguous())
        return tree_map(lambda leaf: leaf.to(device), made)


@dataclass(frozen=True, eq=False, kw_only=True)
class Counterfactual(Surrogate):
    """Change a map as little as possible, such that another path is at most half as dear as the usual one.

    An instance is a pair of the 1,000 maps of an atlas, whose latents have the norm sqrt(n): the first is
    uniform, and the start, where f is 0 and the path constraint is violated; the other is uniform among those
    that are feasible points. The optimum is not known.

    The paths of the atlas are found once a process, on the processor and by scipy; neither ``step`` nor a
    later ``reset`` leaves the device. No query is out of bounds; every feasible point has coordinates within
    sqrt(n) + 1, the box in which to search.

    Args:
        official_slope: give the agent the gradient of the published code, whose part of the costs is
            ``-2 / 25^2 (1 + sum of costs - first cost of the cell)``; values are the true ones.
        weights: a safetensors file with other networks of the same shapes, made by
            ``examples/train_counterfactual.py``; ``None``: the shipped ones.
        points, oracle, formulation, ...: see :class:`optenvs.envs.surrogate.base.Surrogate`.

    Raises:
        ValueError: with the given networks no map is a feasible point of another.
    """

    official_slope: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.official_slope, bool):
            raise TypeError(f"official_slope: expected True or False, got {self.official_slope!r}")
        super().__post_init__()
        if self.weights is not None:
            placed_weights("counterfactual", self.torch_device, self.torch_dtype, self.weights, SHAPES)

    @property
    def size(self) -> int:
        return LATENT

    @property
    def task(self) -> Maps:
        return Maps(self.weights, self.official_slope)

    @property
    def bounded_below(self) -> bool:
        return False

    @property
    def ceiling(self) -> float:
        """The value at the far end of the ring, if every cell went from the least cost to the most."""
        return (2 * NORM + 1) ** 2 + (CELLS * (MOST - LEAST) / SUM_SCALE) ** 2

    @cached_property
    def _atlas(self) -> Atlas:
        made = atlas(self.torch_device, self.weights)
        if not made.pairs.any():
            raise ValueError(
                f"weights: with {self.weights} no map is a feasible point of another; "
                f"the networks do not tell cheap cells from dear ones"
            )
        return made

    def draw(self, keys: Keys) -> Draw:
        maps = self._atlas
        chance = uniform(keys, "pair", (2, MAPS), dtype=torch.float64)
        first = torch.where(maps.pairs.any(-1), chance[:, 0], -1.0).argmax(-1)
        other = torch.where(maps.pairs[first], chance[:, 1], -1.0).argmax(-1)
        real = self.torch_dtype
        start = maps.latents[first].to(real)
        edge = torch.full_like(start, NORM + 1)
        return Draw(
            data={},  # nothing is hidden but the networks, which all instances share
            start=start,
            lower=-edge,
            upper=edge,
            aim=Question(
                first=torch.cat((start, maps.costs[first].to(real)), -1),
                usual=maps.paths[first].to(real),
                other=maps.paths[other].to(real),
            ),
        )
