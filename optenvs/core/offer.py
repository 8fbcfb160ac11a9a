"""What a menu is made of: its kinds, what an agent is told of it, a query and what is said of one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .env import State
from .errors import suggest
from .struct import rows
from .tracing import tracing
from .zeros import zeros

T = TypeVar("T")
Shape = tuple[int, ...]
WANT, ANSWERED = "want", "answered"
"""The fields of a query and of an answer that have a column for each kind."""


class Query:
    """One query, as the functions of a menu see it: ``query["x"]`` is a place, ``(B, *shape)``.

    Attributes:
        places: by name.
        kinds: what is computed now, for these rows: the kinds that one of them pays for, but for those that
            are dear and computed apart; or all of them where nobody may look.
        paid: by kind, whether a row is answered it, ``(B,)``. Prices are asked before it is known.
        source: of a query of some rows, the state and the query of all, and which rows they are: what is
            computed there in any case need not be here.
    """

    def __init__(self, places: dict[str, Tensor]) -> None:
        self.places = places
        self.source: tuple[State, Query, Int64[Tensor, "some"]] | None = None
        self.kinds: frozenset[str] = frozenset()
        self.paid: dict[str, Bool[Tensor, "B"]] = {}
        self._made: dict[str, Any] = {}

    def __getitem__(self, place: str) -> Tensor:
        if place not in self.places:
            raise KeyError(f"query: no place {place!r}{suggest(place, self.places)}")
        return self.places[place]

    def among(self, state: State, which: Int64[Tensor, "some"], kinds: frozenset[str]) -> Query:
        """The query of some rows, with the ``kinds`` that are computed for these alone."""
        part = Query(rows(self.places, which))
        part.source = state, self, which
        part.kinds, part.paid = kinds, rows(self.paid, which)
        return part

    def once(self, name: str, make: Callable[[], T]) -> T:
        """``make()``, computed once a query for all kinds that share it."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


Function = Callable[[State, Query], Tensor]
"""Pure, of rows that do not see each other; of prices: whole numbers ``(B,)``."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One line of a menu.

    Attributes:
        shape: of the answer of one row, or its space; ``()`` is shown as ``(1,)``.
        fn: the answer, ``(B, *shape)``.
        at: the places that it depends on; by default all of them.
        bill: what an answer costs beside 1 of the kind's own name, by unit of the ledger: a number, or a
            function of the row and the query. It may name the kind itself, to cost more than 1 of it.
        least: what a price that is a function never falls below; the price list states it.
        slope_of: the kind that this one is the derivative of, for :func:`optenvs.check`. Its shape is that
            of the other followed by that of the place (a number has none of its own).
        by: the place that the derivative is by; the first of ``at``.
        times: the place of the vector that the derivative is multiplied with, or of a block of vectors
            (then their number comes first); the shape is that of the other kind.
        dear: whether an answer costs more than a copy of what the function reads. Where the host may look and
            some rows do not pay, the function is then given those that do: a query with them alone, and of
            the state its fields, to read and for nothing else.
        fresh: whether the function makes its answer anew, in memory that is nobody else's: nothing of the
            instance, of the query, or of another answer. Then it is told as it is, and else copied.
    """

    shape: Shape | spaces.Box
    fn: Function
    at: tuple[str, ...] = ()
    bill: Mapping[str, int | Function] | None = None
    least: int = 1
    slope_of: str | None = None
    by: str | None = None
    times: str | None = None
    dear: bool = False
    fresh: bool = False


class Judgement(NamedTuple):
    """What an environment says of a query beside its answers; see :class:`~optenvs.core.env.Answer`."""

    merit: Float[Tensor, "B"]
    metrics: dict[str, Tensor]
    solved: Bool[Tensor, "B"] | None = None
    hidden: Any = None
    ended: Bool[Tensor, "B"] | None = None
    infeasible: Bool[Tensor, "B"] | None = None


@dataclass(frozen=True)
class Offer:
    """What can be asked, as agents know it: ``problem.menu``.

    Attributes:
        places: name, shape and dtype of each place; a floating one has the problem's.
        kinds: the kinds, in the order of ``want`` and ``answered``.
        at: the places that each kind depends on.
    """

    places: tuple[tuple[str, Shape, str], ...]
    kinds: tuple[str, ...]
    at: tuple[tuple[str, ...], ...]

    def query(self, wanted: Mapping[str, bool | Bool[Tensor, "B"]], **places: Tensor) -> dict[str, Tensor]:
        """The action that wants some kinds at some places.

        Args:
            wanted: by kind for all rows, or row by row; a kind that is not named is not wanted.
            **places: those that matter, ``(B, *shape)``, one at least; another one is zeros.
        """
        self.check_places(places)
        whole = self.whole(places)
        return whole | {WANT: self.want(wanted, next(iter(places.values())))}

    def whole(self, places: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All places, those that are not given zeros."""
        if not places:
            raise ValueError(f"places: expected one at least of {', '.join(n for n, *_ in self.places)}")
        like = next(iter(places.values()))
        real = next((x.dtype for x in places.values() if x.is_floating_point()), torch.get_default_dtype())
        parts, batch = {}, like.shape[0]
        for name, shape, dtype in self.places:
            if name in places:
                parts[name] = places[name]
            else:
                kept = real if dtype.startswith("float") else getattr(torch, dtype)
                parts[name] = zeros((batch, *shape), kept, like.device)
        return parts

    def want(self, wanted: Mapping[str, bool | Bool[Tensor, "B"]], like: Tensor) -> Tensor:
        """The column of each kind, ``(B, kinds)``: 1 where it is wanted; ``like`` is ``(B, ...)``."""
        for name in wanted:
            if name not in self.kinds:
                raise ValueError(f"wanted: no kind {name!r}{suggest(name, self.kinds)}")
        if like.is_cpu and set(map(type, wanted.values())) <= {bool} and not tracing():
            same = _row(tuple(map(wanted.get, self.kinds)))
            return same.expand(like.shape[0], -1).clone()  # `repeat` takes five times as long
        none = torch.zeros(len(like), dtype=torch.bool, device=like.device)
        columns = [wanted.get(kind, none) for kind in self.kinds]
        return torch.stack([c if isinstance(c, Tensor) else none + c for c in columns], -1).long()

    def check_places(self, given: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` for a place that is not on offer, or is no tensor of its shape."""
        shapes = _shapes(self.places)
        for name, place in given.items():
            if name not in shapes:
                raise ValueError(f"places: no place {name!r}{suggest(name, shapes)}")
            if not isinstance(place, Tensor) or place.shape[1:] != shapes[name]:
                came = tuple(place.shape) if isinstance(place, Tensor) else type(place).__name__
                wanted = ", ".join(map(str, ("B", *shapes[name])))
                raise ValueError(f"{name}: expected a tensor ({wanted}), got {came}")


@functools.lru_cache(maxsize=256)
def _shapes(places: tuple[tuple[str, Shape, str], ...]) -> dict[str, Shape]:
    """The shape of each place."""
    return {name: tuple(shape) for name, shape, _ in places}


@functools.lru_cache(maxsize=256)
def _row(wanted: tuple[bool | None, ...]) -> Tensor:
    """What all rows want, on the CPU; made once, outside inference mode, so that everybody may use it."""
    with torch.inference_mode(False):
        return torch.tensor([[int(bool(kind)) for kind in wanted]])
