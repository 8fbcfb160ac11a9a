"""The mazes are the same everywhere, and all of each can be reached."""

from __future__ import annotations

import hashlib
import json

import pytest

from optenvs.dynamics.mazes import MAZES, SIZE

DIGEST = "849416a62e77a927893a0dbd7560ebd29df859c516f3e039cc6d6162c48aee90"


def test_they_are_what_they_were() -> None:
    assert hashlib.sha256(json.dumps(MAZES).encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("name", MAZES)
def test_every_free_cell_can_be_reached(name: str) -> None:
    free = {(i, j) for i in range(SIZE) for j in range(SIZE) if i * SIZE + j not in MAZES[name]}
    seen, edge = set(), [min(free)]
    while edge:
        i, j = edge.pop()
        if (i, j) in free - seen:
            seen.add((i, j))
            edge += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    assert seen == free and len(free) > SIZE * SIZE / 3


def test_a_perfect_maze_has_one_way_between_any_two_cells() -> None:
    for name in ("standard_maze", "standard_maze_2", "standard_maze_3"):
        free = {i for i in range(SIZE * SIZE) if i not in MAZES[name]}
        edges = sum(i + 1 in free and i % SIZE < SIZE - 1 for i in free) + sum(i + SIZE in free for i in free)
        assert edges == len(free) - 1
