"""Maps: paths against every path there is, pictures that tell the terrain, networks that price them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from optenvs.core.random import keys_from_seed
from optenvs.data.weights import load_weights
from optenvs.envs.surrogate.terrain import (
    COLOURS,
    COSTS,
    LEAST,
    MOST,
    PIXELS,
    SIDE,
    draw_maps,
    paint,
    price,
    shortest_paths,
)

Cell = tuple[int, int]


def all_paths(height: int, width: int, done: tuple[Cell, ...] = ((0, 0),)) -> Iterator[tuple[Cell, ...]]:
    """Every path from the first cell to the last that meets no cell twice."""
    row, column = done[-1]
    if (row, column) == (height - 1, width - 1):
        yield done
        return
    for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
        if 0 <= cell[0] < height and 0 <= cell[1] < width and cell not in done:
            yield from all_paths(height, width, (*done, cell))


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (2, 4), (4, 4), (1, 3)])
def test_paths_are_the_cheapest_of_all(shape: tuple[int, int]) -> None:
    costs = np.random.default_rng(0).exponential(size=(25, *shape)) + 0.01
    for grid, path in zip(costs, shortest_paths(costs), strict=True):
        cheapest = min(all_paths(*shape), key=lambda p: sum(grid[cell] for cell in p))
        assert {tuple(cell) for cell in np.argwhere(path == 1)} == set(cheapest)
        assert path.sum() == len(cheapest)


def test_a_path_goes_back_where_a_wall_makes_it() -> None:
    cheap = np.ones((5, 5))
    cheap[1, :4] = cheap[3, 1:] = 0
    assert np.array_equal(shortest_paths(np.where(cheap == 1, 1.0, 50.0)[None])[0], cheap)


def test_a_path_does_not_depend_on_the_maps_beside_it() -> None:
    costs = np.random.default_rng(1).uniform(0.5, 9.5, (8, SIDE, SIDE))
    alone = np.concatenate([shortest_paths(grid[None]) for grid in costs])
    assert np.array_equal(shortest_paths(costs), alone)


def test_maps_have_all_terrains_and_hang_together() -> None:
    maps = draw_maps(keys_from_seed(0, 500))
    share = maps.flatten().bincount() / maps.numel()
    assert len(share) == len(COSTS) and (share > 0.05).all()
    same = (maps[:, 1:] == maps[:, :-1]).double().mean()
    assert same > 2 * share.square().sum()  # neighbours are alike far more often than strangers


def test_a_picture_has_the_colours_of_its_cells() -> None:
    maps = draw_maps(keys_from_seed(0, 2))
    picture = paint(maps)
    assert picture.shape == (2, 3, SIDE * PIXELS, SIDE * PIXELS)
    brightest = torch.nn.functional.max_pool2d(picture, PIXELS)
    assert torch.allclose(brightest, torch.tensor(COLOURS)[maps].movedim(-1, 1))


def test_the_cost_network_prices_painted_maps() -> None:
    maps = draw_maps(keys_from_seed(123, 100))
    found = price(load_weights("counterfactual"), paint(maps))
    error = found - torch.tensor(COSTS)[maps].flatten(1)
    assert error.abs().mean() < 0.25
    assert (found > LEAST).all() and (found < MOST).all()
