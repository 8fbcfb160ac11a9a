"""A grid world as a picture or as text: walls, objects by what they are worth, and a worker."""

from __future__ import annotations

import numpy as np

from .grid import Level, Workers, bits_of

SIDE = 24
"""Pixels of a cell."""
_PAPER, _WALL, _LINE = (255, 255, 255), (60, 60, 60), (220, 220, 220)
_GOOD, _BAD, _WORKER = np.array((0, 158, 115)), np.array((213, 94, 0)), (0, 114, 178)


def paint(level: Level, workers: Workers, row: int = 0, worker: int = 0) -> np.ndarray:
    """One worker of one level: an image, uint8 ``(24 n, 24 n, 3)``.

    Good objects are green and bad ones red, the paler the less they are worth; an absent one is a small dot.
    """
    n, cell, objects = _facts(level, workers, row, worker)
    image = np.empty((n * SIDE, n * SIDE, 3), np.uint8)
    image[:] = _PAPER
    image[::SIDE] = image[:, ::SIDE] = _LINE
    for wall in np.flatnonzero(level.walls[row, : n * n].cpu().numpy()):
        _fill(image, n, int(wall), 0, _WALL)
    for place, reward, there in objects:
        strength = 0.25 + 0.75 * min(abs(reward), 1.0)
        colour = _GOOD if reward >= 0 else _BAD
        shade = tuple((strength * colour + (1 - strength) * 255).astype(np.uint8))
        _fill(image, n, place, 4 if there else 10, shade)
    _fill(image, n, cell, 7, _WORKER)
    return image


def write(level: Level, workers: Workers, row: int = 0, worker: int = 0) -> str:
    """The same as text: ``#`` wall, ``@`` worker, ``+`` and ``-`` objects that are there."""
    n, cell, objects = _facts(level, workers, row, worker)
    walls = level.walls[row, : n * n].cpu().numpy()
    marks = ["#" if wall else "." for wall in walls]
    for place, reward, there in objects:
        if there:
            marks[place] = "+" if reward >= 0 else "-"
    marks[cell] = "@"
    return "\n".join("".join(marks[n * line : n * line + n]) for line in range(n))


def _facts(
    level: Level, workers: Workers, row: int, worker: int
) -> tuple[int, int, list[tuple[int, float, bool]]]:
    """n, the worker's cell, and of each object in use its cell, its reward, and whether it is there."""
    n = int(level.size[row])
    there = bits_of(workers.present[row, worker], level.slots)
    cells = level.cells[row] if workers.cells is None else workers.cells[row, worker]
    parts = zip(cells.tolist(), level.reward[row].tolist(), there.tolist(), strict=True)
    objects = [part for part, used in zip(parts, level.used[row].tolist(), strict=True) if used]
    return n, int(workers.cell[row, worker]), [o for o in objects if o[0] < n * n]


def _fill(image: np.ndarray, n: int, cell: int, margin: int, colour: tuple[int, ...]) -> None:
    top, left = SIDE * (cell // n) + margin + 1, SIDE * (cell % n) + margin + 1
    image[top : top + SIDE - 2 * margin - 1, left : left + SIDE - 2 * margin - 1] = colour
