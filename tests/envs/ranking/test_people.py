"""Rankings of a person as configuration: they are the answers, and a mistake in them is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.env import State
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import replace, tensors

SAID = ((3, 1), (), (0, 2))


def oracle(**keywords: Any) -> Any:
    return optenvs.make("optenvs/Ranking-v0", shown=4, ranked=2, dim=3, **keywords)


def ask(env: Any, state: State, count: int = 4, keep: int = 2) -> State:
    batch = len(state.k)
    query = torch.arange(batch * 12.0).reshape(batch, 4, 3) / 10
    fields = {"count": torch.full((batch, 1), count), "keep": torch.full((batch, 1), keep)}
    return env.step(state, {"query": query, "recommendation": query[:, 0]} | fields)


def test_what_was_said_is_the_answer() -> None:
    env = oracle(rankings=SAID)
    state = env.reset(keys_from_seed(0, 2))
    assert state.observation["order"].tolist() == [[0, -1]] * 2
    for expected in ([3, 1], [-1, -1], [0, 2]):
        state = ask(env, state)
        assert state.observation["order"].tolist() == [expected] * 2
        assert not state.done.any()
    assert state.calls["points"].tolist() == [13, 13]
    assert state.calls["ranking"].tolist() == [4, 4]


def test_the_hidden_function_says_otherwise_and_is_still_measured() -> None:
    person, judge = oracle(rankings=SAID), oracle()
    keys = keys_from_seed(0, 2)
    told, exact = ask(person, person.reset(keys)), ask(judge, judge.reset(keys))
    assert not torch.equal(told.observation["order"], exact.observation["order"])
    assert torch.equal(told.metrics["value"], exact.metrics["value"])


def test_after_the_last_ranking_nobody_answers_and_the_episode_ends() -> None:
    env = oracle(rankings=SAID, budget=None)
    run = optenvs.rollout(env, agents.GLDFast(), batch=2, seed=0, record=("order",))
    assert run.state.k.tolist() == [4, 4]
    assert run.state.truncated.all()
    assert run.recorded["order"][-1].tolist() == [[-1, -1]] * 2
    assert not oracle(budget=None).ends


def test_a_query_may_ask_for_less() -> None:
    env = oracle(rankings=((3, 1), (2, 0), (1,)))
    state = env.reset(keys_from_seed(0, 1))
    state = ask(env, state, keep=1)
    assert state.observation["order"].tolist() == [[3, -1]]
    state = ask(env, state, count=2)  # the third point was not shown
    assert state.observation["order"].tolist() == [[-1, 0]]
    assert ask(env, state).observation["order"].tolist() == [[1, -1]]


def test_more_rankings_change_nothing_before_them() -> None:
    short, long = oracle(rankings=SAID[:2]), oracle(rankings=SAID)
    states = [env.reset(keys_from_seed(0, 1)) for env in (short, long)]
    for _ in range(2):
        states = [ask(env, state) for env, state in zip((short, long), states, strict=True)]
        one, other = (tensors(state) for state in states)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_query_of_points_alone_counts_its_first_where_none_is_named() -> None:
    env = oracle(rankings=((2,), ()), recommend="top")
    state = env.reset(keys_from_seed(0, 1))
    query = torch.arange(12.0).reshape(1, 4, 3)
    values = env.values(state, query)[0]
    for expected in (2, 0):
        state = env.step(state, query)
        assert state.metrics["value"].item() == values[expected]


def test_the_contract_holds_with_a_person() -> None:
    assert "checks passed" in str(optenvs.check(oracle(rankings=SAID * 20)))


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        (((0, 4),), r"^rankings: query 1: expected points 0 .. 3, got 4$"),
        (((0,), (-1,)), r"^rankings: query 2: expected points 0 .. 3, got -1$"),
        (((1, 1),), r"^rankings: query 1: expected different points, got \[1, 1\]$"),
        (((0, 1, 2),), r"^rankings: query 1: expected at most 2 of 4 points, got 3: \[0, 1, 2\]$"),
    ],
)
def test_a_wrong_ranking_is_named(rankings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oracle(rankings=rankings)


def test_other_mistakes() -> None:
    with pytest.raises(TypeError, match=r"^rankings: query 1: expected whole numbers, got 1.0$"):
        oracle(rankings=((1.0,),))
    with pytest.raises(ValueError, match="^noise: expected 'none' beside rankings of a person, got 'flips'"):
        oracle(rankings=(), noise="flips")
    env = oracle(rankings=())
    state = env.reset(keys_from_seed(0, 1))
    assert ask(env, replace(state, k=state.k)).observation["order"].tolist() == [[-1, -1]]
