"""Nine mazes of 13 x 13 cells: rooms, labyrinths, perfect mazes, corridors, made by rule from a fixed seed.

The test mazes of minimax (Jiang et al. 2023), on which groove evaluates, are of these kinds; their layouts
are not here. ``tests/dynamics/test_mazes.py`` holds the digest of those that are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

SIZE = 13
Cells = set[tuple[int, int]]


def draws(seed: int) -> Iterator[float]:
    """Numbers in [0, 1), the same on every machine and in every version."""
    count = 0
    while True:
        word = hashlib.blake2b(f"maze {seed} {count}".encode(), digest_size=6).digest()
        yield int.from_bytes(word, "little") / 2**48
        count += 1


def rooms(seed: int) -> Cells:
    """Walls of sixteen rooms, with a door between each two that lie side by side."""
    draw = draws(seed)
    lines, walls = (3, 6, 9), set[tuple[int, int]]()
    spans = [(0, 3), (4, 6), (7, 9), (10, SIZE)]
    for line in lines:
        for low, high in spans:
            door = low + int(next(draw) * (high - low)), low + int(next(draw) * (high - low))
            walls |= {(line, i) for i in range(low, high) if i != door[0]}
            walls |= {(i, line) for i in range(low, high) if i != door[1]}
    return walls | {(i, j) for i in lines for j in lines}


def labyrinth(seed: int) -> Cells:
    """Walls of three rings, one inside the other, each with a gap."""
    draw, walls = draws(seed), set[tuple[int, int]]()
    for ring in (1, 3, 5):
        low, high = ring, SIZE - 1 - ring
        sides = [(low, i) for i in range(low, high)] + [(i, high) for i in range(low, high)]
        sides += [(high, i) for i in range(high, low, -1)] + [(i, low) for i in range(high, low, -1)]
        corners = {(low, low), (low, high), (high, low), (high, high)}
        gaps = [cell for cell in sides if cell not in corners]
        walls |= {*sides} - {gaps[int(next(draw) * len(gaps))]}
    return walls


def perfect(seed: int) -> Cells:
    """Walls of a maze in which one way alone joins any two cells, by depth-first search."""
    draw = draws(seed)
    free, path = {(0, 0)}, [(0, 0)]
    while path:
        i, j = path[-1]
        steps = [(i + a, j + b) for a, b in ((2, 0), (-2, 0), (0, 2), (0, -2))]
        steps = [s for s in steps if min(s) >= 0 and max(s) < SIZE and s not in free]
        if not steps:
            path.pop()
            continue
        k, m = steps[int(next(draw) * len(steps))]
        free |= {((i + k) // 2, (j + m) // 2), (k, m)}
        path.append((k, m))
    return {(i, j) for i in range(SIZE) for j in range(SIZE)} - free


def corridors() -> Cells:
    """Walls of blind alleys on both sides of a corridor."""
    middle = SIZE // 2
    return {(i, j) for i in range(SIZE) if i != middle for j in range(1, SIZE, 2)}


def flipped(walls: Cells) -> Cells:
    """The mirror image."""
    return {(i, SIZE - 1 - j) for i, j in walls}


MAZES: dict[str, tuple[int, ...]] = {
    name: tuple(sorted(i * SIZE + j for i, j in walls))
    for name, walls in {
        "sixteen_rooms": rooms(1),
        "sixteen_rooms_2": rooms(2),
        "labyrinth": labyrinth(1),
        "labyrinth_flipped": flipped(labyrinth(1)),
        "labyrinth_2": labyrinth(2),
        "standard_maze": perfect(1),
        "standard_maze_2": perfect(2),
        "standard_maze_3": perfect(3),
        "small_corridor": corridors(),
    }.items()
}
"""The wall cells of each, by name, row by row."""
