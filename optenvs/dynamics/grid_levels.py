"""The levels of grid worlds by name: single ones, and distributions from which each key draws its own.

From the published tables of Jackson et al. 2024 (arXiv 2402.05828; code EmptyJackson/groove), by their names.
What those leave open: the walls of a level are distinct cells of the greatest grid, numbered with the level's
own n, and those outside of it do nothing; a whole number drawn log-uniformly from lo to hi is
min(hi, floor(exp(U(log lo, log(hi + 1))))); slot i holds an object of type i, and those in use are the first.
Nobody looks whether there is a way from the start to an object. Layouts of mazes are the project's own, see
:mod:`.mazes`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.core.random import Keys, uniform

from .grid import Level, arrivals, targets
from .mazes import MAZES

Range = tuple[float, float]
"""The least and the greatest."""
_LEAST = 1e-300  # has a logarithm


@dataclass(frozen=True)
class Levels:
    """A distribution of levels: each of its ranges may be one number.

    Args:
        max_steps: of an episode, log-uniform.
        grid: n, uniform.
        types: the type of each slot's object, for all K slots.
        rewards: of each type: a number, or a range to draw from uniformly.
        p_term, p_respawn: of each type: a number, or a range to draw from log-uniformly.
        objects: how many slots are used, the first ones, uniform; ``share`` overrides it.
        share: of each slot, the probability with which it is used, each by itself; ``None`` for ``objects``.
        walls: how many distinct wall cells are drawn of the greatest grid's.
        layout: wall cells that all levels have, in place of drawn ones.
        roam: whether objects come in random free cells, anew in every episode and at every return.
        lifetime: updates in a learner's life, log-uniform.
    """

    max_steps: Range
    grid: Range
    types: tuple[int, ...]
    rewards: tuple[float | Range, ...]
    p_term: tuple[float | Range, ...]
    p_respawn: tuple[float | Range, ...]
    objects: Range
    share: tuple[float, ...] | None = None
    walls: int = 0
    layout: tuple[int, ...] = ()
    roam: bool = False
    lifetime: Range = (250, 250)

    def __post_init__(self) -> None:
        for name in ("max_steps", "grid", "objects", "lifetime"):
            _range(name, getattr(self, name))
        if not self.types or set(self.types) != set(range(self.kinds)):
            raise ValueError(f"types: expected 0, 1, ... in some order, got {self.types!r}")
        for name in ("rewards", "p_term", "p_respawn"):
            given = getattr(self, name)
            if len(given) != self.kinds:
                raise ValueError(f"{name}: expected one for each of {self.kinds} types, got {given!r}")
            for value in given:
                _chance(name, value)
        if self.objects[1] > self.slots:
            raise ValueError(f"objects: expected at most {self.slots}, the slots, got {self.objects!r}")
        if self.share is not None and len(self.share) != self.slots:
            raise ValueError(f"share: expected one for each of {self.slots} slots, got {self.share!r}")
        wrong = [cell for cell in self.layout if not 0 <= cell < self.room]
        if wrong:
            raise ValueError(f"layout: expected cells of 0 to {self.room - 1}, got {wrong[0]!r}")
        if not 0 <= self.walls < self.room:
            raise ValueError(f"walls: expected 0 to {self.room - 1}, got {self.walls!r}")

    @property
    def kinds(self) -> int:
        """The types of objects."""
        return max(self.types, default=0) + 1

    @property
    def slots(self) -> int:
        """K, the slots for objects."""
        return len(self.types)

    @property
    def room(self) -> int:
        """C, the cells of the greatest grid."""
        return int(self.grid[1]) ** 2

    @property
    def states(self) -> int:
        """C 2^K."""
        return self.room << self.slots

    @property
    def longest(self) -> int:
        """The steps of the longest episode."""
        return int(self.max_steps[1])

    def draw(self, keys: Keys, dtype: torch.dtype) -> Level:
        """One level a key."""
        room, slots, kinds = self.room, self.slots, self.kinds
        # one draw for all: every draw has some twenty operations, whatever its size
        unit = uniform(keys, "grid level", 3 + slots + 3 * kinds + 2 * room, dtype=torch.float64)
        ends, uses, numbers, order, place = unit.split((3, slots, 3 * kinds, room, room), 1)
        size = _whole(ends[:, 0], self.grid)
        cell = torch.arange(room, device=keys.device)
        if self.walls:
            chosen = order.argsort(-1)[:, : self.walls]
            walls = torch.zeros_like(order, dtype=torch.bool).scatter(1, chosen, True)
        else:
            walls = torch.isin(cell, torch.tensor(self.layout, dtype=torch.int64, device=keys.device))
            walls = walls.expand(len(keys), room)
        free = (cell < size.square().unsqueeze(1)) & ~walls
        # free cells in random order, then the others: of too few free cells some objects are out of reach
        places = torch.where(free, place, 2 + place).argsort(-1)
        kind = torch.tensor(self.types, device=keys.device).expand(len(keys), slots)
        used = self._used(ends[:, 1], uses)
        each = self._numbers(numbers.unflatten(1, (3, kinds))).to(dtype)
        each = each.gather(2, kind.unsqueeze(1).expand(-1, 3, -1)) * used.unsqueeze(1)
        reward, p_term, p_respawn = each.unbind(1)
        cells = places[:, 1 : slots + 1]
        return Level(
            size=size,
            walls=walls,
            start=places[:, 0],
            cells=cells,
            used=used,
            kind=kind,
            reward=reward,
            p_term=p_term,
            p_respawn=p_respawn,
            max_steps=log_whole(ends[:, 2], self.max_steps),
            target=targets(size, walls),
            arrival=None if self.roam else arrivals(room, cells, reward, p_term),
        )

    def _used(self, count: Float[Tensor, "L"], each: Float[Tensor, "L K"]) -> Bool[Tensor, "L K"]:
        if self.share is not None:
            return each < torch.tensor(self.share, dtype=each.dtype, device=each.device)
        slot = torch.arange(self.slots, device=each.device)
        return slot < _whole(count, self.objects).unsqueeze(1)

    def _numbers(self, unit: Float[Tensor, "L 3 types"]) -> Float[Tensor, "L 3 types"]:
        """Rewards, and probabilities of an end and of a return, of each type."""
        ends = [
            [value if isinstance(value, tuple | list) else (value, value) for value in given]
            for given in (self.rewards, self.p_term, self.p_respawn)
        ]
        low, high = torch.tensor(ends, dtype=unit.dtype, device=unit.device).unbind(-1)
        small, large = (end[1:].clamp_min(_LEAST).log() for end in (low, high))
        logs = small + unit[:, 1:] * (large - small)
        drawn = torch.cat((low[:1] + unit[:, :1] * (high[:1] - low[:1]), logs.exp()), 1)
        return torch.where(low == high, low, drawn)


def _whole(unit: Float[Tensor, "L"], ends: Range) -> Int64[Tensor, "L"]:
    """Whole numbers from ``ends[0]`` to ``ends[1]``, uniform."""
    low, high = map(int, ends)
    return low + (unit * (high - low + 1)).long()


def log_whole(unit: Float[Tensor, "L"], ends: Range) -> Int64[Tensor, "L"]:
    """Whole numbers from ``ends[0]`` to ``ends[1]``, log-uniform; of uniform numbers."""
    low, high = ends
    drawn = (math.log(low) + unit * (math.log(high + 1) - math.log(low))).exp()
    return drawn.floor().long().clamp(int(low), int(high))


def log_integer(keys: Keys, stream: str, ends: Range) -> Int64[Tensor, "L"]:
    """:func:`log_whole` out of each key's own stream; nothing is drawn where the ends are one."""
    if ends[0] == ends[1]:
        return torch.full_like(keys, int(ends[0]))
    return log_whole(uniform(keys, stream, (), dtype=torch.float64), ends)


def level_from(
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    size: int,
    start: int,
    cells: tuple[int, ...],
    reward: tuple[float, ...],
    p_term: tuple[float, ...],
    p_respawn: tuple[float, ...],
    max_steps: int,
    walls: tuple[int, ...] = (),
    kind: tuple[int, ...] | None = None,
    roam: bool = False,
) -> Level:
    """One level of given numbers, as a batch of one.

    Raises:
        ValueError: a cell outside of the grid or in a wall, or numbers that do not fit each other.
    """
    if size < 1 or max_steps < 1:
        raise ValueError(f"size, max_steps: expected whole numbers >= 1, got {size!r}, {max_steps!r}")
    slots = len(cells)
    kind = tuple(range(slots)) if kind is None else tuple(kind)
    for name, value in (("reward", reward), ("p_term", p_term), ("p_respawn", p_respawn), ("kind", kind)):
        if len(value) != slots:
            raise ValueError(f"{name}: expected one for each of {slots} objects, got {value!r}")
    for name, value in (("start", (start,)), ("cells", tuple(cells)), ("walls", tuple(walls))):
        wrong = [cell for cell in value if not 0 <= cell < size**2 or (name != "walls" and cell in walls)]
        if wrong:
            raise ValueError(f"{name}: expected free cells of 0 to {size**2 - 1}, got {wrong[0]!r}")

    def row(values: Any, kind: torch.dtype) -> Tensor:
        return torch.tensor([values], dtype=kind, device=device)

    blocked = row([cell in walls for cell in range(size**2)], torch.bool)
    whole = torch.int64
    objects, rewards, ends = row(cells, whole), row(reward, dtype), row(p_term, dtype)
    return Level(
        size=row(size, whole),
        walls=blocked,
        start=row(start, whole),
        cells=objects,
        used=row([True] * slots, torch.bool),
        kind=row(kind, whole),
        reward=rewards,
        p_term=ends,
        p_respawn=row(p_respawn, dtype),
        max_steps=row(max_steps, whole),
        target=targets(row(size, whole), blocked),
        arrival=None if roam else arrivals(size**2, objects, rewards, ends),
    )


def find_levels(name: str | Levels | Mapping[str, Any]) -> Levels:
    """The levels of a name, or of keywords of :class:`Levels` beside ``base``, a name whose others they keep.

    Raises:
        ValueError: no such name, or no such keyword.
    """
    if isinstance(name, Levels):
        return name
    if isinstance(name, str):
        if name not in LEVELS:
            raise ValueError(f"level: no {name!r}{suggest(name, LEVELS)}")
        return LEVELS[name]
    if not isinstance(name, Mapping):
        raise ValueError(f"level: expected a name or keywords of Levels, got {name!r}")
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in name.items()}
    known = {field.name for field in dataclasses.fields(Levels)}
    for key in given:
        if key not in (*known, "base"):
            raise ValueError(f"level: no {key!r}{suggest(key, (*known, 'base'))}")
    base = find_levels(str(given.pop("base", "small")))
    return dataclasses.replace(base, **given)


def _range(name: str, value: Any) -> None:
    fits = isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int) for v in value)
    least = 0 if name == "objects" else 1
    if not fits or not least <= value[0] <= value[1]:
        raise ValueError(f"{name}: expected two whole numbers, {least} <= least <= greatest, got {value!r}")


def _chance(name: str, value: Any) -> None:
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2 or not ends[0] <= ends[1] or not all(map(math.isfinite, ends)):
        raise ValueError(f"{name}: expected numbers, or pairs least <= greatest, got {value!r}")
    if name != "rewards" and not 0 <= ends[0] <= ends[1] <= 1:
        raise ValueError(f"{name}: expected probabilities in [0, 1], got {value!r}")


# The published ones ----------------------------------------------------------------------------

TABULAR_LIFE, RAND_LIFE = (2500, 2500), (25_000, 25_000)


def _fixed(
    max_steps: int,
    grid: int,
    objects: tuple[tuple[float, float, float, int], ...],
    layout: tuple[int, ...] = (),
    roam: bool = False,
) -> Levels:
    """A single level: objects as (reward, p_term, p_respawn, count)."""
    types = tuple(i for i, (*_, count) in enumerate(objects) for _ in range(count))
    reward, p_term, p_respawn, _ = zip(*objects, strict=True)
    return Levels(
        max_steps=(max_steps, max_steps),
        grid=(grid, grid),
        types=types,
        rewards=reward,
        p_term=p_term,
        p_respawn=p_respawn,
        objects=(len(types), len(types)),
        layout=layout,
        roam=roam,
        lifetime=RAND_LIFE if roam else TABULAR_LIFE,
    )


def _drawn(
    max_steps: Range, grid: Range, types: int, objects: Range, walls: int, lifetime: Range, roam: bool = False
) -> Levels:
    """A distribution: the first type is good, the others are as likely bad."""
    return Levels(
        max_steps=max_steps,
        grid=grid,
        types=tuple(range(types)),
        rewards=((0.0, 1.0), *((-1.0, 1.0),) * (types - 1)),
        p_term=((1e-2, 1.0),) * types,
        p_respawn=((1e-3, 1e-1),) * types,
        objects=objects,
        walls=walls,
        roam=roam,
        lifetime=lifetime,
    )


def _maze(layout: tuple[int, ...]) -> Levels:
    return Levels(
        max_steps=(25, 50),
        grid=(13, 13),
        types=(0, 1, 2),
        rewards=((0.0, 1.0),) * 3,
        p_term=((1e-2, 1.0),) * 3,
        p_respawn=((1e-3, 1e-1),) * 3,
        objects=(3, 3),
        layout=layout,
        lifetime=TABULAR_LIFE,
    )


_DENSE = ((1.0, 0.0, 0.05, 2), (-1.0, 0.5, 0.1, 1), (-1.0, 0.0, 0.5, 1))
_LONG = ((1.0, 0.0, 0.01, 2), (-1.0, 0.5, 1.0, 2))
_CENTRE = tuple(9 * row + 4 for row in range(9) if row not in (1, 7))
_CROSS = tuple(
    cell
    for cell in range(121)
    if (cell % 11 == 5 and cell // 11 not in (0, 7)) or (cell // 11 == 4 and cell % 11 not in (2, 8))
)
_ALL: Any = {"max_steps": (20, 750), "grid": (4, 10), "types": 5, "objects": (1, 5), "walls": 15}

LEVELS: dict[str, Levels] = {
    "dense": _fixed(500, 11, _DENSE),
    "sparse": _fixed(50, 13, ((1.0, 1.0, 0.0, 1), (-1.0, 1.0, 0.0, 1))),
    "long": _fixed(1000, 11, _LONG),
    "longer": _fixed(2000, 9, ((1.0, 0.1, 0.01, 2), (-1.0, 0.8, 1.0, 3)), _CENTRE),
    "long_dense": _fixed(2000, 11, ((1.0, 0.0, 0.005, 4),), _CROSS),
    "rand_dense": _fixed(500, 11, _DENSE, roam=True),
    "rand_long": _fixed(1000, 11, _LONG, roam=True),
    "rand_small": _fixed(500, 7, ((1.0, 0.0, 0.05, 2), (-1.0, 0.5, 0.1, 2)), (9, 25), roam=True),
    "rand_sparse": _fixed(50, 7, ((1.0, 1.0, 1.0, 1), (-1.0, 1.0, 1.0, 2)), roam=True),
    "rand_very_dense": _fixed(2000, 11, ((1.0, 0.0, 1.0, 1),), roam=True),
    # of this project: what a discovery of a minute on two cores is trained on
    "tiny": dataclasses.replace(_drawn((10, 20), (3, 4), 2, (1, 2), 2, (3, 30)), share=(1.0, 0.5)),
    "small": _drawn((20, 100), (4, 6), 3, (1, 3), 7, (250, 250)),
    "medium": _drawn((100, 250), (6, 8), 4, (2, 4), 10, (1000, 1000)),
    "large": _drawn((250, 750), (8, 10), 5, (2, 5), 15, (2500, 2500)),
    "all": _drawn(**_ALL, lifetime=(1000, 1000)),
    "all_shortlife": _drawn(**_ALL, lifetime=(250, 250)),
    "all_randlife": _drawn(**_ALL, lifetime=(50, 250)),
    "all_vrandlife": _drawn(**_ALL, lifetime=(10, 250)),
    "rand_all": _drawn(**_ALL, lifetime=RAND_LIFE, roam=True),
} | {name: _maze(layout) for name, layout in MAZES.items()}
"""The levels by name."""
