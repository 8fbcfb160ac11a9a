"""The slopes that the kinds of a menu declare, against central differences."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from optenvs.core.env import Action, State
from optenvs.core.menu import Kind, Menu

from .calculus import TRIES, Line, agree
from .menu import menu_of
from .probe import NotApplicable, Probe, part


def slopes(probe: Probe) -> Iterator[str]:
    """A kind that declares ``slope_of`` is the derivative of that other kind, in float64."""
    card = menu_of(probe.env)
    declared = {} if card is None else {n: k for n, k in card.kinds.items() if k.slope_of is not None}
    if card is None or not declared:
        raise NotApplicable("no kind of a menu declares slope_of")
    line = probe.once(Line)
    unsure = []
    for name, kind in declared.items():
        place = _place(card, kind)
        shape, expected = tuple(card.answers[name].shape), _shape(card, kind, place)
        if math.prod(shape) != math.prod(expected):
            yield f"{name}: expected shape {expected}, of a slope of {kind.slope_of} by {place}, got {shape}"
            continue
        told = None
        for number in range(TRIES):
            told = _compare(line, name, kind, place, number)
            if told is not None:
                break
        if told is None:
            unsure.append(name)
        elif told:
            yield f"{name}: expected the slope of {kind.slope_of} by {place} (by differences), got others"
    if unsure:
        probe.remark(f"slopes: differences for {', '.join(unsure)} are not smooth enough to judge")


def _place(card: Menu, kind: Kind) -> str:
    return kind.by or (kind.at or tuple(card.places))[0]


def _shape(card: Menu, kind: Kind, place: str) -> tuple[int, ...]:
    size = tuple(card.places[place].shape)
    other = tuple(card.answers[kind.slope_of or ""].shape)
    if kind.times is None:
        return (*other, *size)
    vectors = tuple(card.places[kind.times].shape)
    return (*vectors[: len(vectors) - len(size)], *other)


def _compare(line: Line, name: str, kind: Kind, place: str, number: int) -> bool | None:
    """Whether the answer and differences disagree at the point of this number; ``None``: not smooth there."""
    action: Action = line.point(number)
    assert isinstance(action, dict)
    other, batch = kind.slope_of or "", len(line.keys)
    size = part(action, place)[0].numel()
    if kind.times is None:
        along = line.direction(number, only=(place,))[place].reshape(batch, 1, size)
    else:  # along the vectors of the query
        vectors = line.direction(number, only=(kind.times,))[kind.times]
        action = action | {kind.times: vectors}
        along = vectors.reshape(batch, -1, size)
    found = line.env.step(line.state, action).observation[name].reshape(batch, -1)
    if kind.times is None:
        found = (found.reshape(batch, -1, size) @ along.mT).squeeze(-1)
    found = found.reshape(batch, along.shape[1], -1)

    def read(state: State) -> dict[str, Tensor]:
        return {other: state.observation[other]}

    for i in range(along.shape[1]):
        direction = along[:, i].reshape(part(action, place).shape)
        slope, sure, error = line.slopes(action, {place: direction}, read)
        if not sure[other]:
            return None
        if not agree(slope[other].reshape(batch, -1), found[:, i], error[other]):
            return True
    return False
