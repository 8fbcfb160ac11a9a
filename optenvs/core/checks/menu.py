"""Menus: whether each kind is what it is with all others, and is billed by itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from optenvs.core.env import OptimizationEnv, State
from optenvs.core.menu import ANSWERED, WANT, Menu

from .probe import NotApplicable, Probe, differences, near, same


def menu_of(env: OptimizationEnv) -> Menu | None:
    """The menu by which ``env`` answers, if it does."""
    found = getattr(env, "card", None)
    return found if isinstance(found, Menu) else None


def everything(action: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same places, and all kinds wanted."""
    return action | {WANT: torch.ones_like(action[WANT])}


def menu(probe: Probe) -> Iterator[str]:
    """Each kind is the same alone as with all others, and to one row as to all; it is billed alone.

    Agents are told what there is, and Hessians are symmetric.
    """
    card = menu_of(probe.env)
    if card is None:
        raise NotApplicable("the environment answers by no menu")
    env, first = probe.env.replace(budget=None), probe.states[0]
    if getattr(first.problem, "menu", None) != card.offer:
        yield "problem.menu: expected card.offer, which tells agents what they can ask"
    action = near(env, probe.keys, probe.start, 1)
    assert isinstance(action, dict)
    whole = env.step(first, everything(action))
    none = torch.zeros_like(action[WANT])
    nothing = env.step(first, action | {WANT: none})
    yield from _silent("nothing", nothing, set(card.kinds))
    if not same(nothing.calls.counts, first.calls.counts):
        yield "a query that wants nothing: expected no bill"
    bills = torch.zeros_like(first.calls.counts)
    for column, kind in enumerate(card.kinds):
        want = none.clone()
        want[:, column] = 1
        alone = env.step(first, action | {WANT: want})
        bills = bills + alone.calls.counts - first.calls.counts
        yield from _silent(f"{kind} alone", alone, set(card.kinds) - {kind})
        if not bool((alone.observation[ANSWERED][:, column] == 1).all()):
            yield f"{kind}: expected an answer where there is no budget"
        if not bool((alone.calls[kind] > first.calls[kind]).all()):
            yield f"{kind}: expected a bill of at least 1 of its own name"
        expected, shown = ({kind: state.observation[kind]} for state in (whole, alone))
        if told := differences(expected, shown, rounding=True, scale=whole.merit):
            yield f"asked alone, {told[0]} (as with all others)"
    yield from _apart(env, first, action, whole)
    yield from _lopsided(card, whole)
    if not same(bills, whole.calls.counts - first.calls.counts):
        yield "bill: expected that of all kinds together to be the sum of theirs"


def _apart(env: OptimizationEnv, first: State, action: dict[str, Tensor], whole: State) -> Iterator[str]:
    """What is dear, wanted by one row alone: it is then computed for this row."""
    card = menu_of(env)
    assert card is not None  # it has been asked
    dear = [name for name, kind in card.kinds.items() if kind.dear]
    if not dear or len(first.k) < 2:
        return
    want = torch.zeros_like(action[WANT])
    want[0, [list(card.kinds).index(name) for name in dear]] = 1
    apart = env.step(first, action | {WANT: want})
    expected, shown = ({name: state.observation[name][:1] for name in dear} for state in (whole, apart))
    if told := differences(expected, shown, rounding=True, scale=whole.merit[:1]):
        yield f"asked by one row, {told[0]} (as by all rows)"
    for name in dear:
        if bool(apart.observation[name][1:].any()):
            yield f"a row that does not want {name} is answered it"


def _lopsided(card: Menu, whole: State) -> Iterator[str]:
    """Hessians, and what stands for them, that are not symmetric; no difference quotient tells."""
    for name, space in card.answers.items():
        shape = space.shape or ()
        if "hessian" not in name or len(shape) != 2 or shape[0] != shape[1]:
            continue
        matrix = whole.observation[name]
        if told := differences({name: matrix}, {name: matrix.mT}, rounding=True, scale=whole.merit):
            yield f"expected a symmetric matrix: transposed, {told[0]}"


def _silent(wanted: str, state: State, kinds: set[str]) -> Iterator[str]:
    for kind in sorted(kinds):
        if bool(state.observation[kind].any()):
            yield f"a query that wants {wanted} is answered {kind}"
