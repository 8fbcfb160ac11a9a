"""The ledger, the budget, the reward and the unbilled evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from optenvs.core.env import OptimizationEnv
from optenvs.core.evaluations import check_evaluations
from optenvs.core.ledger import Ledger
from optenvs.core.stepper import freeze

from .probe import ROUNDING, Probe, near, same


def ledger(probe: Probe) -> Iterator[str]:
    """The ledger holds the bill of every answer given, once; every oracle kind is a unit of it, none is free.

    What the fields of an observation are called is the environment's business.
    """
    env = probe.env
    for name in env.oracles:
        if env.bill.get(name, 0) < 1:
            known = ", ".join(env.bill)
            yield f"bill: the oracle {name!r} is answered, expected a cost of at least 1, got none in {known}"
    expected = Ledger.empty(tuple(env.bill), probe.batch, env.torch_device)
    before = expected.counts
    for number, (state, bills) in enumerate(zip(probe.states, probe.bills, strict=True)):
        if len(bills) != 1:
            yield f"query {number}: expected 1 call of answer, got {len(bills)}"
        for bill in bills:
            expected = expected.bill(bill)
        if state.calls.kinds != expected.kinds:
            yield f"query {number}: the ledger counts {state.calls.kinds}, expected {expected.kinds}"
            return
        if not same(expected.counts, state.calls.counts):
            wanted, came = expected.counts.tolist(), state.calls.counts.tolist()
            yield f"query {number}: the ledger of {expected.kinds}: expected {wanted}, got {came}"
            return
        if bool((state.calls.counts < before).any()):
            yield f"query {number}: the ledger decreased"
        before = state.calls.counts


def budget(probe: Probe) -> Iterator[str]:
    """A budget is never exceeded; an episode is truncated when the next answer cannot be paid, not before."""
    env = probe.env
    main, cost = next(iter(env.bill.items()))
    tight = env.replace(budget={main: 3 * cost})
    if env.fixed_cost and tight.horizon != (steps := _steps(probe, {main: 3 * cost})):
        yield f"horizon: expected {steps} for a budget of three queries, got {tight.horizon}"
    yield from _truncation(tight, probe, {main: 3 * cost}, "with a budget of three queries")
    if isinstance(env.budget, int | Mapping):
        given = env.budget if isinstance(env.budget, Mapping) else {main: env.budget}
        if dict(env.limits) != dict(given):
            yield f"limits: expected the budget {dict(given)}, got {dict(env.limits)}"
        if env.fixed_cost and env.horizon != (steps := _steps(probe, given)):
            yield f"horizon: expected {steps} for the budget {dict(given)}, got {env.horizon}"


def _steps(probe: Probe, budget: Mapping[str, int]) -> int:
    """The steps that ``budget`` pays for after the first query."""
    first, bill = probe.states[0].calls, probe.env.bill
    rest = {kind: limit - int(first[kind].max()) for kind, limit in budget.items() if bill[kind]}
    return min(max(left, 0) // bill[kind] for kind, left in rest.items())


def _truncation(env: OptimizationEnv, probe: Probe, limits: dict[str, int], when: str) -> Iterator[str]:
    state = env.reset(probe.keys)
    for number in range(4):
        if number:
            state = freeze(state, env.step(state, near(env, probe.keys, probe.start, number)))
        left = {kind: limit - state.calls[kind] for kind, limit in limits.items()}
        if any(bool((rest < 0).any()) for rest in left.values()):
            counts = {kind: state.calls[kind].tolist() for kind in limits}
            yield f"{when}, after query {number}: the budget {limits} is exceeded: the ledger has {counts}"
            return
        least = env.least_bill
        over = [left[kind] < least[kind] for kind in limits if kind in least]
        expected = torch.stack([state.diverged, *over]).any(0)
        # where cost varies, a query that the rest does not pay may end an episode too
        if not same(expected, state.truncated & expected if not env.fixed_cost else state.truncated):
            yield (
                f"{when}, after query {number}: truncated: expected {expected.tolist()} with the ledger "
                f"{ {kind: state.calls[kind].tolist() for kind in limits} }, got {state.truncated.tolist()}"
            )
            return


def reward(probe: Probe) -> Iterator[str]:
    """The default reward sums to the total progress; nothing is paid for the first query."""
    states = probe.states
    if probe.env.reward != "improvement":
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
    state, after = probe.states[-1], probe.measured
    try:
        check_evaluations(probe.env.evaluations)
    except ValueError as error:
        yield str(error)
    if not same(state.calls.counts, after.calls.counts):
        yield "evaluate: expected an unchanged ledger, it billed calls"
    fixed = ["key", "k", "terminated", "truncated", "diverged"]
    for name in fixed if probe.env.measures_merit else [*fixed, "reward", "merit", "best"]:
        if not same(getattr(state, name), getattr(after, name)):
            yield f"evaluate: {name}: expected it unchanged"
    for name, value in state.observation.items():
        if name not in after.observation or not same(value, after.observation[name]):
            yield f"evaluate: observation {name!r}: expected it unchanged"
