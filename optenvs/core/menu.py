"""A menu: a query names places and the kinds of answers that are wanted at them, and pays for these alone.

* Query: the places by name, and ``want``: 0 or 1 for each kind, in the menu's order.
* Answer: each kind at the places, ``answered`` (0 or 1, in the same order), and the places. What was not
  wanted, and what the rest of the row's budget does not pay, is zeros with ``answered`` 0; a row that is
  answered nothing keeps its metrics and its merit.
* Bill: of what is answered, by row: one of the kind's own name, and what else the kind says.

Eagerly on the CPU, what no row pays is not computed, and what is dear (see :class:`Kind`) is computed for the
rows that pay, where others do not. Under autograd or a transform, recorded, or on an
accelerator, where looking would wait or is refused, everything is computed and masked. Under autograd a kind
must then have finite slopes wherever it may be masked, also where places are zeros (a quotient by a norm has
none at 0; one by a norm that is clamped from below has): 0 times infinity is no number.

:class:`MenuEnv` is an environment of nothing else; an environment that answers by a menu in one of its forms
holds a :class:`Menu` (see the landscapes).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Int64
from torch import Tensor

from .apart import dear_kinds
from .env import Action, Answer, OptimizationEnv, State
from .errors import parts, suggest
from .offer import ANSWERED, WANT, Judgement, Kind, Offer, Query, Shape
from .oracles import inside_transform
from .spaces import box
from .struct import Part
from .zeros import zeros

__all__ = ["ANSWERED", "WANT", "Judgement", "Kind", "Menu", "MenuEnv", "Offer", "Query"]

_TAKEN = (WANT, ANSWERED, "k", "N", "spent")
_USUAL = ("value", "gradient")


class Menu:
    """Places and kinds, and how they are asked, answered and billed.

    Args:
        places: the shape of each place, or its space.
        kinds: in the order in which a budget that does not pay all of them pays.
        dtype, device: of the environment.
        first: the kinds that ``reset`` asks; value and gradient by default, where the menu has them.
        unit: the budget's unit; the first kind by default.
        owner: the environment's name, for messages.
    """

    def __init__(
        self,
        places: Mapping[str, Shape | spaces.Box],
        kinds: Mapping[str, Kind],
        *,
        dtype: str,
        device: torch.device,
        first: tuple[str, ...] | None = None,
        unit: str | None = None,
        owner: str = "menu",
    ) -> None:
        self.kinds = dict(kinds)
        self.places = {name: _space(name, space, dtype) for name, space in places.items()}
        self.answers = {name: _space(name, kind.shape, dtype) for name, kind in kinds.items()}
        self.first = tuple(kind for kind in _USUAL if kind in kinds) if first is None else first
        self._owner, self._device = owner, device
        self._check()
        self._bills = {name: {name: 1} | dict(kind.bill or {}) for name, kind in kinds.items()}
        units = [unit, *(u for bill in self._bills.values() for u in bill)]
        self.units = tuple(dict.fromkeys(u for u in units if u is not None))
        if unit not in (None, *units[1:]):
            raise ValueError(f"{owner}: unit: nothing bills {unit!r}{suggest(str(unit), units[1:])}")
        self._varies = any(callable(price) for bill in self._bills.values() for price in bill.values())
        self._limits: dict[tuple[tuple[str, int], ...], Tensor] = {}
        self._dtypes = {name: getattr(torch, str(space.dtype)) for name, space in self.answers.items()}

    def _check(self) -> None:
        """Raise ``ValueError`` for the first thing that does not fit."""
        if not self.kinds or not self.places:
            raise ValueError(f"{self._owner}: a menu needs places and kinds")
        named = [*self.places, *self.kinds]
        for name in named:
            if name in _TAKEN or named.count(name) > 1:
                raise ValueError(f"{self._owner}: {name!r} names another field of a query or an answer")
        for name, kind in self.kinds.items():
            used = [*kind.at, *(place for place in (kind.by, kind.times) if place is not None)]
            for place in used:
                if place not in self.places:
                    raise ValueError(f"{name}: no place {place!r}{suggest(place, self.places)}")
            if kind.slope_of is not None and kind.slope_of not in self.kinds:
                raise ValueError(
                    f"{name}: slope_of: no kind {kind.slope_of!r}{suggest(kind.slope_of, self.kinds)}"
                )
            prices = [kind.least, *(kind.bill or {}).values()]
            for price in prices:
                if not callable(price) and (
                    isinstance(price, bool) or not isinstance(price, int) or price < 1
                ):
                    raise ValueError(f"{name}: bill: expected whole numbers >= 1 or functions, got {price!r}")
        if not self.first or not set(self.first) <= set(self.kinds):
            known = ", ".join(self.kinds)
            raise ValueError(f"{self._owner}: first: expected some of {known}, for reset, got {self.first}")

    # What an environment declares --------------------------------------------------------------

    @cached_property
    def offer(self) -> Offer:
        """What agents are told."""
        every = tuple(self.places)
        return Offer(
            places=tuple((n, tuple(s.shape), str(s.dtype)) for n, s in self.places.items()),
            kinds=tuple(self.kinds),
            at=tuple(kind.at or every for kind in self.kinds.values()),
        )

    @cached_property
    def bill(self) -> dict[str, int]:
        """What all kinds together cost."""
        return self._cost(self.kinds)

    @cached_property
    def first_bill(self) -> dict[str, int]:
        """What ``reset`` costs; a price that is a function, at its least."""
        return {unit: cost for unit, cost in self._cost(self.first).items() if cost}

    @cached_property
    def least_bill(self) -> dict[str, int]:
        """The least that an answer costs, by unit."""
        prices = self._listed.T.tolist()  # a row a unit
        return {unit: min(p for p in row if p) for unit, row in zip(self.units, prices, strict=True)}

    def _cost(self, kinds: Any) -> dict[str, int]:
        rows = [list(self.kinds).index(kind) for kind in kinds]
        return dict(zip(self.units, self._listed[rows].sum(0).tolist(), strict=True))

    @cached_property
    def _listed(self) -> Int64[Tensor, "kinds units"]:
        """The price list, on the host."""
        rows = []
        for name, bill in self._bills.items():
            prices = {unit: self.kinds[name].least if callable(p) else p for unit, p in bill.items()}
            rows.append([prices.get(unit, 0) for unit in self.units])
        return torch.tensor(rows, dtype=torch.int64)

    @cached_property
    def _fixed(self) -> Int64[Tensor, "1 kinds units"]:
        return self._listed.to(self._device).unsqueeze(0)

    def action_fields(self) -> dict[str, spaces.Space]:
        """The spaces of a query."""
        return {**self.places, WANT: box((len(self.kinds),), "int64", 0, 1)}

    def observation_fields(self) -> dict[str, spaces.Space]:
        """The spaces of an answer."""
        return {**self.places, **self.answers, ANSWERED: box((len(self.kinds),), "int64", 0, 1)}

    def start(self, **places: Tensor) -> Action:
        """The first query: the kinds of :attr:`first` at these places."""
        return self.offer.query(dict.fromkeys(self.first, True), **places)

    # How it answers ----------------------------------------------------------------------------

    def answer(
        self,
        limits: dict[str, int],
        state: State,
        action: Action,
        judge: Callable[[State, Query], tuple[Any, ...]],
    ) -> Answer:
        """Answer what is wanted and paid.

        A row of which nothing is answered earns nothing: merit and metrics stay, and it is not solved.

        Args:
            limits: the environment's budget by unit.
            state: the episodes, at this query.
            action: the query.
            judge: merit, metrics, and so on: see :class:`Judgement`.
        """
        action = parts(self._owner, action, (WANT, *self.places))
        query = Query({name: action[name] for name in self.places})
        eager = _may_look(action)
        paid, bill = self._pay(limits, state, query, action[WANT] > 0, eager)
        query.paid = dict(zip(self.kinds, paid.unbind(-1), strict=True))
        batch, counts = len(paid), paid.sum(0).tolist() if eager else None
        apart = {} if counts is None else dear_kinds(self.kinds, state, query, counts)
        asked = [True] * len(self.kinds) if counts is None else [count > 0 for count in counts]
        query.kinds = frozenset(
            kind for kind, some in zip(self.kinds, asked, strict=True) if some and kind not in apart
        )
        observation = dict(query.places)
        for i, (name, space) in enumerate(self.answers.items()):
            shape, every = tuple(space.shape), counts is not None and counts[i] == batch
            if name in apart:
                part = apart[name]
                observation[name] = part.spread(self._computed(name, shape, part.state, part.query), batch)
            else:
                observation[name] = self._told(name, shape, state, query, every)
        observation[ANSWERED] = paid.long()
        judged = Judgement(*judge(state, query))
        if counts is None or batch not in counts:
            judged = _of_told(state, judged, paid)
        return Answer(
            observation=observation,
            merit=judged.merit,
            metrics=judged.metrics,
            solved=judged.solved,
            hidden=judged.hidden,
            # the rows as they are, where the ledger has these columns alone
            calls=bill
            if state.calls.kinds == self.units
            else dict(zip(self.units, bill.unbind(-1), strict=True)),
            ended=judged.ended,
            infeasible=judged.infeasible,
        )

    def _told(self, name: str, shape: Shape, state: State, query: Query, every: bool) -> Tensor:
        """The answers of one kind, zeros in rows that do not pay for it; ``every``: all rows do."""
        like = next(iter(query.places.values()))
        if name not in query.kinds:
            # made anew: whoever is told it may write into it
            return zeros((len(like), *shape), self._dtypes[name], like.device)
        found = self._computed(name, shape, state, query)
        if every:  # a copy: an answer may be the instance's own data, and who is told it may write into it
            return found if self.kinds[name].fresh else found.clone()
        return torch.where(query.paid[name].reshape(-1, *[1] * len(shape)), found, torch.zeros_like(found))

    def _computed(self, name: str, shape: Shape, state: State | Part, query: Query) -> Tensor:
        """The answers of one kind to all rows of a query."""
        found = self.kinds[name].fn(state, query)  # type: ignore[arg-type]  # a part reads like a state
        whole = (len(next(iter(query.places.values()))), *shape)
        if found.shape != whole:  # ones may be left out, and nothing else: a transposed matrix has as many
            if [n for n in found.shape if n != 1] != [n for n in whole if n != 1]:
                raise ValueError(f"{name}: expected an answer of shape {whole}, got {tuple(found.shape)}")
            found = found.reshape(whole)
        return found

    def _pay(
        self, limits: dict[str, int], state: State, query: Query, want: Bool[Tensor, "B kinds"], eager: bool
    ) -> tuple[Bool[Tensor, "B kinds"], Int64[Tensor, "B units"]]:
        """What is paid of what is wanted, in the order of the menu, and the bill."""
        prices = self._fixed
        if self._varies:  # a price may take as long to find as what it is the price of
            some = want.any(0).tolist() if eager else [True] * len(self.kinds)
            prices = self._prices(state, query, some)
        bill = _billed(want, prices)
        if not limits:
            return want, bill
        left = self._limit(limits) - state.calls.counts
        if eager and bool((bill <= left).all()):  # the usual case
            return want, bill
        paid = []
        for wanted, price in zip(want.unbind(1), prices.unbind(1), strict=True):
            fits = wanted & (price <= left).all(-1)
            left = left - fits.unsqueeze(-1) * price
            paid.append(fits)
        settled = torch.stack(paid, -1)
        return settled, _billed(settled, prices)

    def _prices(self, state: State, query: Query, some: list[bool]) -> Int64[Tensor, "B kinds units"]:
        """The price of each kind in this query; of one that nobody wants, that on the list."""
        rows = []
        for (name, bill), listed, wanted in zip(self._bills.items(), self._fixed[0], some, strict=True):
            columns = [listed[i].expand(len(state.k)) for i in range(len(self.units))]
            for unit, price in bill.items():
                if callable(price) and wanted:
                    asked = price(state, query).to(torch.int64)
                    columns[self.units.index(unit)] = asked.clamp_min(self.kinds[name].least)
            rows.append(torch.stack(columns, -1))
        return torch.stack(rows, 1)

    def _limit(self, limits: dict[str, int]) -> Int64[Tensor, "units"]:
        key = tuple(limits.items())
        if key not in self._limits:
            most = torch.iinfo(torch.int64).max
            row = [limits.get(unit, most) for unit in self.units]
            self._limits[key] = torch.tensor(row, dtype=torch.int64, device=self._device)
        return self._limits[key]


def _of_told(state: State, judged: Judgement, paid: Bool[Tensor, "B kinds"]) -> Judgement:
    """What is judged of rows that are answered something; the others keep what they had."""
    told = paid.any(-1) | (state.k == 0)
    before = state.metrics
    return judged._replace(
        merit=torch.where(told, judged.merit, state.merit),
        metrics={n: torch.where(told, v, before.get(n, v)) for n, v in judged.metrics.items()},
        solved=None if judged.solved is None else judged.solved & told,
    )


def _billed(
    wanted: Bool[Tensor, "B kinds"], prices: Int64[Tensor, "rows kinds units"]
) -> Int64[Tensor, "B units"]:
    """What rows pay. Prices that are the same for all are summed as a product, which is exact below 2^53."""
    if len(prices) == 1 < len(wanted) and wanted.device.type in ("cpu", "cuda"):
        return (wanted.double() @ prices[0].double()).long()
    return (wanted.unsqueeze(-1) * prices).sum(1)


def _space(name: str, shape: Shape | spaces.Box, dtype: str) -> spaces.Box:
    if not isinstance(shape, spaces.Box | tuple | list):
        raise ValueError(f"{name}: shape: expected a tuple of whole numbers or a Box, got {shape!r}")
    return shape if isinstance(shape, spaces.Box) else box(tuple(shape) or (1,), dtype)


def _may_look(action: dict[str, Tensor]) -> bool:
    """Whether the host may read what is wanted: neither recorded, nor transformed, differentiated or far."""
    if any(part.device.type != "cpu" or inside_transform(part) for part in action.values()):
        return False
    return not (torch.is_grad_enabled() and any(part.requires_grad for part in action.values()))


@dataclass(frozen=True, eq=False, kw_only=True)
class MenuEnv(OptimizationEnv):
    """An environment that answers by a menu.

    An author writes :meth:`places`, :meth:`menu`, :meth:`judge`, and :meth:`sample`: its problem has a field
    ``menu: Offer = static()``, for ``self.card.offer``, and its start is ``self.card.start(x=...)``.
    """

    first: ClassVar[tuple[str, ...] | None] = None
    """The kinds that ``reset`` asks; ``None`` for value and gradient, where the menu has them."""
    unit: ClassVar[str | None] = None
    """What a ``budget`` that is a number counts; ``None`` for the first kind."""

    @abc.abstractmethod
    def places(self) -> Mapping[str, Shape | spaces.Box]:
        """The shape of each place, or its space where it has bounds or whole numbers."""

    @abc.abstractmethod
    def menu(self) -> Mapping[str, Kind]:
        """The kinds, in the order in which a budget that does not pay all of them pays."""

    @abc.abstractmethod
    def judge(self, state: State, query: Query) -> tuple[Any, ...]:
        """Merit, metrics, solved, and so on, as in :class:`Judgement`: unbilled, at the recommendation."""

    @cached_property
    def card(self) -> Menu:
        """The menu at work."""
        return Menu(
            self.places(),
            self.menu(),
            dtype=self.dtype,
            device=self.torch_device,
            first=self.first,
            unit=self.unit,
            owner=self.name,
        )

    @property
    def live(self) -> tuple[str, ...]:  # type: ignore[override]
        """The places are no answers."""
        return (*OptimizationEnv.live, *self.card.places, ANSWERED)

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def oracles(self) -> tuple[str, ...]:
        return tuple(self.card.kinds)

    @property
    def bill(self) -> dict[str, int]:
        return self.card.bill

    @property
    def first_bill(self) -> dict[str, int]:
        """What the query of ``reset`` costs."""
        return self.card.first_bill

    @property
    def least_bill(self) -> dict[str, int]:
        """The least an answer costs."""
        return self.card.least_bill

    def action_fields(self) -> dict[str, spaces.Space]:
        return self.card.action_fields()

    def observation_fields(self) -> dict[str, spaces.Space]:
        return self.card.observation_fields()

    def answer(self, state: State, action: Action) -> Answer:
        return self.card.answer(self.limits, state, action, self.judge)
