"""Small maps of terrain: how they are drawn, how they look, what their cells cost, where their paths go."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, normal

SIDE, PIXELS, LATENT = 6, 4, 12
"""Cells along a side of a map, pixels along a side of a cell, latents of the decoder."""
COSTS = (0.8, 1.2, 5.3, 7.7, 9.2)
"""What it costs to enter sand, grass, wood, rock and water."""
COLOURS = ((0.85, 0.75, 0.50), (0.35, 0.65, 0.25), (0.10, 0.35, 0.15), (0.50, 0.45, 0.40), (0.15, 0.30, 0.75))
BANDS = ((-0.75, 4), (-0.4, 0), (0.4, 1), (0.9, 2), (math.inf, 3))
"""Terrains by height, from below: water, sand, grass, wood, rock; upper ends in standard deviations."""
LEAST, MOST = 0.5, 9.5
"""The costs that the cost network can give."""
_WAVES = tuple((i, j) for i in range(5) for j in range(5) if 0 < i + j <= 3)

SHAPES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("decoder.0.weight", (64, LATENT)),
    ("decoder.0.bias", (64,)),
    ("decoder.1.weight", (16 * SIDE * SIDE, 64)),
    ("decoder.1.bias", (16 * SIDE * SIDE,)),
    ("decoder.2.weight", (16, 8, 4, 4)),
    ("decoder.2.bias", (8,)),
    ("decoder.3.weight", (8, 3, 4, 4)),
    ("decoder.3.bias", (3,)),
    ("cost.0.weight", (8, 3, 3, 3)),
    ("cost.0.bias", (8,)),
    ("cost.1.weight", (8, 8, 3, 3)),
    ("cost.1.bias", (8,)),
    ("cost.2.weight", (8, 8, 3, 3)),
    ("cost.2.bias", (8,)),
    ("cost.3.weight", (1, 8, 1, 1)),
    ("cost.3.bias", (1,)),
)
"""The tensors of the decoder and of the cost network."""


def draw_maps(keys: Keys, counter: int | None = None) -> Int64[Tensor, "B k k"]:
    """Random maps: the terrain of each cell, by its height on a sum of nine slow waves."""
    place = (torch.arange(SIDE, dtype=torch.float32, device=keys.device) + 0.5) * (math.pi / SIDE)
    waves = torch.stack([torch.outer((i * place).cos(), (j * place).cos()) for i, j in _WAVES])
    size = torch.tensor([1.0 / (i + j) for i, j in _WAVES], device=keys.device)
    waves = waves * (size / (size.square() * waves.square().mean((1, 2))).sum().sqrt())[:, None, None]
    height = torch.einsum("bw,whv->bhv", normal(keys, "waves", len(_WAVES), counter), waves)
    ends = torch.tensor([end for end, _ in BANDS[:-1]], device=keys.device)
    kinds = torch.tensor([kind for _, kind in BANDS], device=keys.device)
    return kinds[torch.bucketize(height, ends)]


def paint(maps: Int64[Tensor, "B k k"]) -> Float[Tensor, "B 3 h w"]:
    """The picture of each map: the colour of its terrain, darker in a pattern of its own."""
    row, column = np.mgrid[:PIXELS, :PIXELS]
    patterns = (row + column) % 4 == 0, row % 2 == 1, (row + column) % 2 == 0, column % 3 == 0, row % 4 == 0
    shade = torch.tensor(np.where(np.stack(patterns), 0.8, 1.0), dtype=torch.float32, device=maps.device)
    tiles = torch.tensor(COLOURS, device=maps.device)[:, :, None, None] * shade[:, None]  # (5, 3, 4, 4)
    picture = tiles[maps].permute(0, 3, 1, 4, 2, 5)  # (B, 3, k, 4, k, 4)
    return picture.reshape(len(maps), 3, SIDE * PIXELS, SIDE * PIXELS)


def decode(weights: Mapping[str, Tensor], x: Float[Tensor, "N n"]) -> Float[Tensor, "N 3 h w"]:
    """The picture that the latents stand for: two dense layers, two transposed convolutions, a sigmoid."""
    hidden = F.linear(x, weights["decoder.0.weight"], weights["decoder.0.bias"]).relu()
    hidden = F.linear(hidden, weights["decoder.1.weight"], weights["decoder.1.bias"]).relu()
    hidden = hidden.view(-1, 16, SIDE, SIDE)
    for place in (2, 3):
        weight, bias = weights[f"decoder.{place}.weight"], weights[f"decoder.{place}.bias"]
        hidden = F.conv_transpose2d(hidden, weight, bias, stride=2, padding=1)
        hidden = hidden.relu() if place == 2 else hidden.sigmoid()
    return hidden


def price(weights: Mapping[str, Tensor], picture: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N c"]:
    """What each cell of a picture costs: a convolution, a residual block, the greatest of each cell."""

    def convolve(hidden: Tensor, place: int, stride: int = 1) -> Tensor:
        weight, bias = weights[f"cost.{place}.weight"], weights[f"cost.{place}.bias"]
        return F.conv2d(hidden, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    hidden = convolve(picture, 0, stride=2).relu()
    hidden = (hidden + convolve(convolve(hidden, 1).relu(), 2)).relu()
    cells = F.max_pool2d(convolve(hidden, 3), PIXELS // 2)
    return LEAST + (MOST - LEAST) * cells.flatten(1).sigmoid()


def shortest_paths(costs: Float[np.ndarray, "N h w"]) -> Float[np.ndarray, "N h w"]:
    """The cheapest path of each map from its first cell to its last, as 0 and 1 by cell.

    A path goes to one of four neighbours, and pays the cost of every cell on it. All maps are one graph,
    whose parts do not touch, for one run of Dijkstra's algorithm from the first cells of all.

    Raises:
        ImportError: scipy is missing.
    """
    try:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import dijkstra
    except ImportError as error:
        raise ImportError("shortest paths need scipy: pip install scipy") from error

    _, height, width = costs.shape
    cell = np.arange(costs.size).reshape(costs.shape)
    pairs = (
        (cell[:, :, :-1], cell[:, :, 1:]),
        (cell[:, :, 1:], cell[:, :, :-1]),
        (cell[:, :-1], cell[:, 1:]),
        (cell[:, 1:], cell[:, :-1]),
    )
    source = np.concatenate([a.ravel() for a, _ in pairs])
    target = np.concatenate([b.ravel() for _, b in pairs])
    graph = coo_array((costs.ravel()[target], (source, target)), shape=(costs.size, costs.size)).tocsr()
    first, here = cell[:, 0, 0], cell[:, -1, -1]
    _, before, _ = dijkstra(graph, indices=first, min_only=True, return_predecessors=True)
    path = np.zeros(costs.size)
    for _ in range(height * width):  # all maps go back by one cell
        path[here] = 1.0
        if (here == first).all():
            break
        here = np.where(here == first, here, before[here])
    return path.reshape(costs.shape)
