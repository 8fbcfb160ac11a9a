"""Finite groups by name, or by their table: ``Z23``, ``Z4xZ7``, ``D5``, ``Q8``, ``S4``, ``A5``, ``Z7:Z3``.

``table[a, b]`` is the number of the product a b. ``Dm`` is dihedral of order 2m, ``Qn`` dicyclic of order n
(a multiple of 4), ``Sm`` and ``Am`` permute m things (a b applies b first), ``Zp:Zq`` is the semidirect
product with (x, i)(y, j) = (x + r^i y, i + j), r the least number of order q modulo p. An ``x`` between names
is the direct product, whose first factor varies slowest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .irreps import Irreps, irreps_of

LARGEST = 1024
"""Of an order: a table has its square."""
_NAMES = "Zm, Dm, Qm (m a multiple of 4), Sm, Am, Zp:Zq, or several of them with an x between"


@dataclass(frozen=True, eq=False)
class Group:
    """A finite group.

    Attributes:
        name: what it is called.
        table: the number of each product, int64 ``(M, M)``.
    """

    name: str
    table: np.ndarray

    @property
    def order(self) -> int:
        """M, the number of elements."""
        return len(self.table)

    @cached_property
    def identity(self) -> int:
        """The number of the neutral element."""
        return int(np.flatnonzero((self.table == np.arange(self.order)).all(1))[0])

    @cached_property
    def inverse(self) -> np.ndarray:
        """The number of each element's inverse, ``(M,)``."""
        return np.argmax(self.table == self.identity, axis=1)

    @cached_property
    def abelian(self) -> bool:
        """Whether a b = b a."""
        return bool((self.table == self.table.T).all())

    @cached_property
    def irreps(self) -> Irreps:
        """Its irreducible characters, and the basis of its functions that goes with them."""
        return irreps_of(self.table, self.identity, self.inverse)


def group_of(given: Any) -> Group:
    """The group that a name or a table means.

    Raises:
        ValueError: no such name, or a table that is no group's; the message says which law it breaks.
    """
    if isinstance(given, Group):
        return given
    if isinstance(given, str):
        return _named(given)
    return Group("table", _checked(given))


@lru_cache(maxsize=64)
def _named(name: str) -> Group:
    factors = [_factor(part, name) for part in name.split("x")]
    order = int(np.prod([len(table) for table in factors]))
    if order > LARGEST:
        raise ValueError(f"group: expected an order of at most {LARGEST}, got {order} of {name!r}")
    table = factors[0]
    for other in factors[1:]:
        size = len(other)
        wide = table[:, None, :, None] * size + other[None, :, None, :]
        table = wide.reshape(len(table) * size, -1)
    return Group(name, table)


def _factor(part: str, name: str) -> np.ndarray:
    pair = re.fullmatch(r"Z(\d+):Z(\d+)", part)
    if pair:
        return _semidirect(int(pair[1]), int(pair[2]), name)
    one = re.fullmatch(r"([ZDQSA])(\d+)", part)
    if one is None:
        raise ValueError(f"group: expected {_NAMES}, or a table, got {name!r}")
    kind, number = one[1], int(one[2])
    least, most = {"Z": (1, LARGEST), "D": (1, LARGEST), "Q": (4, LARGEST), "S": (1, 6), "A": (1, 6)}[kind]
    if not least <= number <= most or (kind == "Q" and number % 4):
        wanted = f"a multiple of 4 up to {most}" if kind == "Q" else f"a number in {least} .. {most}"
        raise ValueError(f"group: {kind}m: expected {wanted} for m, got {part!r}")
    return _MAKERS[kind](number)


def _cyclic(m: int) -> np.ndarray:
    return np.add.outer(np.arange(m), np.arange(m)) % m


def _dihedral(m: int) -> np.ndarray:
    return _turned(m, 0)


def _dicyclic(order: int) -> np.ndarray:
    return _turned(order // 2, order // 4)


def _turned(m: int, square: int) -> np.ndarray:
    """Elements a^i x^j, i < m, j < 2, with x a = a^-1 x and x^2 = a^square."""
    i, j = np.arange(m)[:, None], np.arange(2)[None]
    i, j = (np.broadcast_to(part, (m, 2)).ravel() for part in (i, j))
    power = i[:, None] + np.where(j[:, None], -1, 1) * i[None] + square * (j[:, None] * j[None])
    return power % m * 2 + (j[:, None] + j[None]) % 2


def _permutations(m: int, even: bool = False) -> np.ndarray:
    every = list(itertools.permutations(range(m)))
    if even:
        every = [p for p in every if sum(p[i] > p[j] for j in range(m) for i in range(j)) % 2 == 0]
    number = {p: i for i, p in enumerate(every)}
    return np.array([[number[tuple(p[i] for i in q)] for q in every] for p in every])


def _semidirect(p: int, q: int, name: str) -> np.ndarray:
    orders = ((r, next((k for k in range(1, p) if pow(r, k, p) == 1), 0)) for r in range(2, p))
    root = next((r for r, order in orders if order == q), None)
    if root is None or p * q > LARGEST:
        raise ValueError(f"group: Zp:Zq: expected q, the order of some number modulo p, got {name!r}")
    x, i = (part.ravel() for part in np.meshgrid(np.arange(p), np.arange(q), indexing="ij"))
    turned = np.array([pow(root, int(k), p) for k in i])
    return (x[:, None] + turned[:, None] * x[None]) % p * q + (i[:, None] + i[None]) % q


_MAKERS: dict[str, Callable[[int], np.ndarray]] = {
    "Z": _cyclic,
    "D": _dihedral,
    "Q": _dicyclic,
    "S": _permutations,
    "A": lambda m: _permutations(m, even=True),
}


def _checked(given: Any) -> np.ndarray:
    """A table that is given, if it is that of a group."""
    try:
        table = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"group: expected a square table of whole numbers ({error})") from error
    size = len(table) if table.ndim else 0
    if table.shape != (size, size) or not 0 < size <= LARGEST or table.dtype.kind not in "iu":
        raise ValueError(
            f"group: expected {_NAMES}, or a table (M, M) of whole numbers with M <= {LARGEST}, "
            f"got shape {table.shape} of {table.dtype}"
        )
    table, numbers = table.astype(np.int64), np.arange(size)
    for what, rows in (("row", table), ("column", table.T)):
        wrong = np.flatnonzero((np.sort(rows, 1) != numbers).any(1))
        if len(wrong):
            raise ValueError(f"group: {what} {wrong[0]} of the table does not hold 0 .. {size - 1} once each")
    if not ((table == numbers).all(1) & (numbers == table.T).all(1)).any():
        raise ValueError("group: the table has no neutral element")
    for a in numbers:
        wrong = np.argwhere(table[table[a]] != table[a][table])
        if len(wrong):
            b, c = wrong[0]
            raise ValueError(f"group: the table is not associative: ({a} {b}) {c} differs from {a} ({b} {c})")
    return table
