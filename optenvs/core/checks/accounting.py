"""The ledger, the budget, the reward and the unbilled evaluation."""

from __future__ import annotations

import copy as copying
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..env import Action, Answer, OptimizationEnv, State
from ..ledger import Ledger
from .probe import ROUNDING, Probe, near, same


def _watched(env: OptimizationEnv, bills: list[Any]) -> OptimizationEnv:
    """A copy of ``env`` that notes the bill of every answer it gives."""
    watched = copying.copy(env)
    answer = env.answer

    def noting(state: State, action: Action) -> Answer:
        given = answer(state, action)
        bills.append(env.bill if given.calls is None else given.calls)
        return given

    object.__setattr__(watched, "answer", noting)  # the instance is frozen, this copy is ours
    return watched


def ledger(probe: Probe) -> Iterator[str]:
    """The ledger holds the bill of every answer given, once, and no answer is free."""
    env = probe.env
    shown = probe.states[0].observation
    for name in env.oracles:
        if name in shown and env.bill.get(name, 0) < 1:
            yield f"bill: the observation answers {name!r}, expected a cost of at least 1, got none"
    bills: list[Any] = []
    watched = _watched(env, bills)
    state = watched.reset(probe.keys)
    expected = Ledger.empty(tuple(env.bill), probe.batch, env.torch_device)
    before = expected.counts
    for number in range(len(probe.actions) + 1):
        if number:
            state = watched.step(state, probe.actions[number - 1])
        if len(bills) != 1:
            yield f"query {number}: expected 1 call of answer, got {len(bills)}"
        for bill in bills:
            expected = expected.bill(bill)
        bills.clear()
        if state.calls.kinds != expected.kinds:
            yield f"query {number}: the ledger counts {state.calls.kinds}, expected {expected.kinds}"
            return
        if not same(expected.counts, state.calls.counts):
            wanted, came = (dict(zip(expected.kinds, x[0].tolist(), strict=True)) for x in (expected.counts, state.calls.counts))
            yield f"query {number}: the ledger: expected {wanted}, got {came} (instance 0)"
            return
        if bool((state.calls.counts < before).any()):
            yield f"query {number}: the ledger decreased"
        before = state.calls.counts


def budget(probe: Probe) -> Iterator[str]:
    """An episode is truncated when its budget is spent, not before and not later."""
    env = probe.env
    main, cost = next(iter(env.bill.items()))
    tight = env.replace(budget={main: 3 * cost})
    if tight.horizon != 2:
        yield f"horizon: expected 2 for a budget of three queries, got {tight.horizon}"
    yield from _truncation(tight, probe, {main: 3 * cost}, "with a budget of three queries")
    if isinstance(env.budget, int | Mapping):
        given = env.budget if isinstance(env.budget, Mapping) else {main: env.budget}
        if dict(env.limits) != dict(given):
            yield f"limits: expected the budget {dict(given)}, got {dict(env.limits)}"
        steps = min(-(-n // env.bill[kind]) - 1 for kind, n in given.items() if env.bill[kind])
        if env.horizon != steps:
            yield f"horizon: expected {steps} for the budget {dict(given)}, got {env.horizon}"


def _truncation(
    env: OptimizationEnv, probe: Probe, limits: dict[str, int], when: str
) -> Iterator[str]:
    state = env.reset(probe.keys)
    for number in range(4):
        if number:
            state = env.step(state, near(env, probe.keys, probe.start, number))
        spent = torch.stack([state.calls[kind] >= limit for kind, limit in limits.items()]).any(0)
        expected = spent | state.diverged
        if not same(expected, state.truncated):
            yield (
                f"{when}, after query {number}: truncated: expected {expected.tolist()} with the ledger "
                f"{ {kind: state.calls[kind].tolist() for kind in limits} }, got {state.truncated.tolist()}"
            )
            return


def reward(probe: Probe) -> Iterator[str]:
    """The default reward sums to the total progress; nothing is paid for the first query."""
    env = probe.env.replace(reward="improvement")
    states = [env.reset(probe.keys)]
    for action in probe.actions:
        states.append(env.step(states[-1], action))
    if bool((states[0].reward != 0).any()):
        yield f"reset: reward: expected 0, got {states[0].reward.tolist()}"
    best = states[0].merit
    for number, state in enumerate(states[1:], 1):
        best = torch.minimum(best, state.merit)
        if not same(best, state.best):
            yield f"query {number}: best: expected {best.tolist()}, got {state.best.tolist()}"
            return
        if bool((state.reward < 0).any()):
            yield f"query {number}: improvement is never negative, got {state.reward.tolist()}"
    total = torch.stack([s.reward for s in states[1:]]).sum(0)
    progress = states[0].best - states[-1].best
    allowed = ROUNDING[total.dtype] * (states[0].best.abs() + states[-1].best.abs())
    if bool(((total - progress).abs() > allowed).any()):
        yield f"rewards: expected a sum of {progress.tolist()} (total progress), got {total.tolist()}"


def evaluation(probe: Probe) -> Iterator[str]:
    """``evaluate`` measures: it bills nothing and changes nothing but metrics and hidden memory."""
    env, state = probe.env, probe.states[-1]
    period = env.evaluation_period
    if period is not None and (isinstance(period, bool) or period < 1):
        yield f"evaluation_period: expected a whole number >= 1 or None, got {period!r}"
    after = env.evaluate(state)
    if not same(state.calls.counts, after.calls.counts):
        yield "evaluate: expected an unchanged ledger, it billed calls"
    for name in ("key", "k", "reward", "terminated", "truncated", "diverged", "merit", "best"):
        if not same(getattr(state, name), getattr(after, name)):
            yield f"evaluate: {name}: expected it unchanged"
    for name, value in state.observation.items():
        if name not in after.observation or not same(value, after.observation[name]):
            yield f"evaluate: observation {name!r}: expected it unchanged"
