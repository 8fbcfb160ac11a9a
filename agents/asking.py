"""Asking by a menu: an agent's notes of the last answer of each kind, so that nothing is bought twice.

A problem that is asked by a menu says so in ``problem.menu``. An agent keeps :class:`Notes` in its memory: it
reads each answer into them, looks up what it knows, and asks what is missing::

    notes = Notes.begin(self, problem, observation)               # in init
    notes = state.notes.read(observation)                         # in act
    ready = notes.holds("gradient", point=x)                      # (B,)
    action, notes = notes.ask({"value": ready, "gradient": ~ready}, point=torch.where(...))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from optenvs.core.errors import check_oracles
from optenvs.core.offer import ANSWERED, WANT, Offer
from optenvs.core.oracles import inside_transform
from optenvs.core.struct import replace, static, struct

from .core import Agent, Observation

Mask = bool | Bool[Tensor, "B"]
"""Rows, or one answer for all of them."""


@struct
class Notes:
    """What an agent knows by asking.

    Attributes:
        answers: the last answer of each kind, ``(B, *shape)``; zeros before there is one.
        places: by kind, the places that it was given at.
        known: by kind, whether there is one, ``(B,)``.
        refused: whether the rest of the budget did not pay something that the last query wanted, ``(B,)``.
        wanted: what that was, ``(B, kinds)``.
        offer: what can be asked.
    """

    answers: dict[str, Tensor]
    places: dict[str, dict[str, Tensor]]
    known: dict[str, Bool[Tensor, "B"]]
    refused: Bool[Tensor, "B"]
    wanted: Tensor
    offer: Offer = static()

    second_axis: ClassVar[dict[str, str]] = {"wanted": "whole"}

    @classmethod
    def begin(cls, agent: Agent, problem: Any, observation: Observation) -> Notes:
        """Notes of the kinds that ``agent`` needs, with the first answer.

        Raises:
            OracleMismatch: the menu has not all of them.
            TypeError: the problem is not asked by a menu.
        """
        name, offer = type(agent).__name__, getattr(problem, "menu", None)
        if not isinstance(offer, Offer):
            raise TypeError(
                f"agent {name} asks by a menu, and this problem has none (of landscapes, oracle='hessian')"
            )
        check_oracles(name, agent.needs, "the menu", offer.kinds)
        kinds = [kind for kind in offer.kinds if kind in "|".join(agent.needs).split("|")]
        nowhere = {kind: offer.at[offer.kinds.index(kind)] for kind in kinds}
        none = torch.zeros_like(observation[ANSWERED][:, 0], dtype=torch.bool)
        notes = cls(
            answers={kind: torch.zeros_like(observation[kind]) for kind in kinds},
            places={kind: {at: torch.zeros_like(observation[at]) for at in nowhere[kind]} for kind in kinds},
            known=dict.fromkeys(kinds, none),
            refused=none,
            wanted=torch.zeros_like(observation[ANSWERED]),
            offer=offer,
        )
        return notes.read(observation)

    def __getitem__(self, kind: str) -> Tensor:
        """The last answer of a kind."""
        self._check(kind)
        return self.answers[kind]

    def read(self, observation: Observation) -> Notes:
        """The notes with the answers of ``observation``."""
        answers, places, known, always = {}, {}, {}, None
        told = observation[ANSWERED]
        alike = _alike(told)
        for kind, before in self.answers.items():
            column = self.offer.kinds.index(kind)
            every = None if alike is None else alike[column]
            if every is None:
                new = told[:, column] > 0
                answers[kind] = _rows(new, observation[kind], before)
                places[kind] = {at: _rows(new, observation[at], x) for at, x in self.places[kind].items()}
                known[kind] = new | self.known[kind]
            elif every:
                # one tensor for all: `ask` compares it once
                always = torch.ones_like(self.refused) if always is None else always
                answers[kind], known[kind] = observation[kind], always
                places[kind] = {at: observation[at] for at in self.places[kind]}
            else:
                answers[kind], places[kind], known[kind] = before, self.places[kind], self.known[kind]
        if alike is not None and torch.equal(self.wanted, told):  # the usual case
            refused = torch.zeros_like(self.refused)
        else:
            refused = (self.wanted > told).any(-1)
        return replace(self, answers=answers, places=places, known=known, refused=refused)

    def holds(self, kind: str, **places: Tensor) -> Bool[Tensor, "B"]:
        """Whether the last answer of a kind was given at these very places."""
        held = self.held(kind, **places)
        return torch.zeros_like(self.known[kind]) if held is None else held

    def held(self, kind: str, **places: Tensor) -> Bool[Tensor, "B"] | None:
        """The same; ``None`` where the host sees that it holds in no row."""
        self._check(kind)
        self.offer.check_places(places)
        known = self.known[kind]
        held = self._held(kind, known, places, _looks(known))
        return None if isinstance(held, bool) else held

    def _held(self, kind: str, held: Mask, places: Mapping[str, Tensor], looks: bool) -> Mask:
        """Where, of the rows ``held``, the last answer of a kind was given at these places."""
        for at, place in self.places[kind].items():
            if held is False:
                break
            if at in places:
                held = _both(held, _same(place, places[at], looks))
        return held

    def ask(self, wanted: Mapping[str, Mask], **places: Tensor) -> tuple[dict[str, Tensor], Notes]:
        """The query that wants some kinds at some places, but for what is held there already.

        Args:
            wanted: by kind, for all rows or row by row.
            **places: ``(B, *shape)``; those not named are zeros.
        """
        self.offer.check_places(places)
        at = self.offer.whole(places)
        like = next(iter(at.values()))
        looks, seen = _looks(like), {}  # kinds that were answered together share their places
        missing = {kind: self._missing(kind, asked, at, looks, seen) for kind, asked in wanted.items()}
        want = self.offer.want(missing, like)
        return at | {WANT: want}, replace(self, wanted=want)

    def _missing(self, kind: str, asked: Mask, at: Mapping[str, Tensor], looks: bool, seen: Any) -> Mask:
        """Where a kind is asked, and not held at these places; ``seen`` keeps what was compared."""
        self._check(kind)
        if asked is False:
            return False
        known, places = self.known[kind], self.places[kind]
        told = (id(known), *places, *map(id, places.values()))
        if told not in seen:
            seen[told] = self._held(kind, _plain(known) if looks else known, at, looks)
        held = seen[told]
        return _both(not held if isinstance(held, bool) else ~held, asked)

    def _check(self, kind: str) -> None:
        if kind not in self.answers:
            known = ", ".join(self.answers)
            raise KeyError(f"notes: no kind {kind!r}; the agent's needs are {known}")


def _looks(x: Tensor) -> bool:
    """Whether the host may look at numbers."""
    return x.is_cpu and not inside_transform(x)


def _alike(told: Int64[Tensor, "B kinds"]) -> list[bool | None] | None:
    """By kind, what holds in all rows, ``None`` where they differ; ``None`` where nobody may look."""
    if not _looks(told):
        return None
    if told.shape[0] == 1:
        return [paid > 0 for paid in told.tolist()[0]]
    paid = told > 0
    pairs = zip(paid.all(0).tolist(), paid.any(0).tolist(), strict=True)
    return [every if every == some else None for every, some in pairs]


def _same(place: Tensor, other: Tensor, looks: bool) -> Mask:
    """Which rows are the same; a plain answer where the host has one for all rows."""
    if looks and torch.equal(place, other):
        return True
    if looks and place.shape[0] == 1:
        return False
    return (place == other).flatten(1).all(1)


def _plain(mask: Bool[Tensor, "B"]) -> Mask:
    """The mask as one answer, where all rows agree."""
    rows = mask.tolist()
    return rows[0] if rows and rows.count(rows[0]) == len(rows) else mask


def _both(one: Mask, other: Mask) -> Mask:
    """Their conjunction."""
    if isinstance(one, bool):
        return other if one else False
    if isinstance(other, bool):
        return one if other else False
    return one & other


def _rows(mask: Bool[Tensor, "B"], yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *[1] * (no.ndim - 1)), yes, no)
