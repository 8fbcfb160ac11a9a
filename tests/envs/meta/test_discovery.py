"""Discovery: populations and pairs, what is billed, learners that are lost or replaced, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.core.struct import rows, tensors
from optenvs.dynamics.grid_levels import LEVELS
from optenvs.envs.meta.discovery import life
from optenvs.envs.meta.discovery.life import live
from optenvs.models.tabular.rulebook import make_rule
from optenvs.models.tabular.rules import Optimiser

DOUBLE = torch.float64
SMALL: dict[str, Any] = {
    "rule": {"name": "lpg", "timed": True, "categories": 2, "embedding": 2, "hidden": 3},
    "particles": 4,
    "workers": 3,
    "rollout": 4,
    "lifetime": (2, 5),
    "held_out_levels": 3,
}


def make(**changes: Any) -> Any:
    return optenvs.make("Discovery", **(SMALL | changes))


def test_members_of_a_pair_meet_one_task() -> None:
    keys = keys_from_seed(0, 3)
    state = make(common_luck=True).reset(keys, evaluate=False)
    value = state.observation["value"].squeeze(-1)
    assert torch.equal(value[:, ::2], value[:, 1::2]), "the start has the same weights everywhere"
    assert (value[:, 0] != value[:, 2]).any()
    own = make().reset(keys, evaluate=False).observation["value"].squeeze(-1)
    assert (own[:, ::2] != own[:, 1::2]).any(), "each has its own luck"


def test_what_lives_cost_is_billed() -> None:
    env = make(lifetime=3)
    state = env.reset(keys_from_seed(0, 2))
    assert state.calls["lifetimes"].tolist() == [4, 4]
    least, most = 4 * 3 * 12, 4 * (3 * 12 + 3 * 20)
    assert ((state.calls["interactions"] > least) & (state.calls["interactions"] <= most)).all()
    assert env.bill["interactions"] == most
    assert 0 <= float(state.merit[0]) <= 1.5
    assert torch.allclose(state.merit, 1 - state.metrics["share"])


def test_lives_that_are_over_leave_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = make_rule(SMALL["rule"])
    keys = keys_from_seed(1, 6)
    level = LEVELS["tiny"].draw(keys, DOUBLE)
    whole = torch.tensor([1, 5, 2, 5, 1, 3])
    weights = rule.draw(keys_from_seed(2, 3), DOUBLE)
    given: Any = {"workers": 3, "steps": 4, "most": 5, "longest": 20, "optimiser": Optimiser()}
    left = live(rule, weights, level, whole, keys, **given)
    monkeypatch.setattr(life, "_SHARE", -1.0)
    stayed = live(rule, weights, level, whole, keys, **given)
    for path, value in tensors(stayed).items():
        torch.testing.assert_close(tensors(left)[path], value, rtol=1e-9, atol=1e-9, msg=path)
    assert len(set(left.steps.tolist())) > 2


def test_lost_numbers_are_the_worst_and_are_counted() -> None:
    env = make()
    state = env.reset(keys_from_seed(0, 2), evaluate=False)
    start = env.sample(keys_from_seed(0, 2)).start
    query = start["query"].clone()
    query[0, 1] = 1e200
    after = env.step(state, {"query": query, "recommendation": query[:, 1]})
    value = after.observation["value"].squeeze(-1)
    assert value.isfinite().all()
    assert float(value[0, 1]) == float(value[0].max()) and float(value[0, 1]) >= 1
    assert float(after.metrics["broken"][0]) == 0.25 and float(after.metrics["broken"][1]) == 0
    judged = env.evaluate(after)
    assert judged.merit.isfinite().all() and float(judged.merit[0]) > float(judged.merit[1])


def test_learners_whose_life_is_over_are_replaced() -> None:
    env = make(oracle="gradient", lifetime=4, updates=3)
    state = env.reset(keys_from_seed(0, 2), evaluate=False)
    assert state.calls["lifetimes"].tolist() == [4, 4]
    born = [int(state.calls["lifetimes"][0])]
    weights = state.hidden.weights
    for _ in range(3):
        state = env.step(state, weights)
        born.append(int(state.calls["lifetimes"][0]))
    assert born == [4, 4, 8, 8], "three updates, then one more, and a new life with the next query"
    assert (state.hidden.learners.episode == 1).all()
    assert state.calls["interactions"].tolist() == [4 * 4 * 4 * 12] * 2
    assert state.observation["gradient"].abs().max() > 0


def test_a_search_improves_its_rule_and_resumes(tmp_path: Path) -> None:
    env = make(evaluation_period=2)
    agent = agents.make("open_es", std=0.1, shaping="pair_rank")
    run = optenvs.rollout(env, agent, seed=0, batch=2, steps=4)
    half = optenvs.rollout(env, agent, seed=0, batch=2, steps=2)
    resumed = optenvs.rollout(env, agent, steps=2, resume=load(save(tmp_path / "run", half)))
    for path, value in tensors((run.state, run.agent_state)).items():
        assert torch.equal(value, tensors((resumed.state, resumed.agent_state))[path]), path
    alone = optenvs.rollout(env, agent, keys=keys_from_seed(0, 2)[1:], steps=4)
    torch.testing.assert_close(
        rows(run.state, slice(1, 2)).observation["value"], alone.state.observation["value"]
    )


@pytest.mark.parametrize("name", ["dpo", "ppo", "a2c", "reinforce"])
def test_rules_by_hand_learn(name: str) -> None:
    keys = keys_from_seed(1, 64)
    level = LEVELS["tiny"].draw(keys, torch.float32)
    rule = make_rule(name)
    given: Any = {"workers": 8, "steps": 10, "most": 12, "longest": 20, "optimiser": Optimiser()}
    outcome = live(rule, torch.zeros(64, 0), level, torch.full((64,), 12), keys, **given)
    assert float(outcome.fitness.mean()) > 0.35, "a random policy earns 0.21"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rule": "lpgg"}, "did you mean 'lpg'"),
        ({"rule": "ppo"}, "rule: expected one with weights"),
        ({"rule": {"name": "lpg", "epochs": 3}}, "epochs"),
        ({"rule": {"name": "lpg", "raw_time": True}}, "raw_time"),
        ({"rule": {"hidden": 3}}, "rule"),
        ({"level": "rand_small"}, "level: tables need"),
        ({"level": "nowhere"}, "level: no 'nowhere'"),
        ({"particles": 3}, "even number for pairs"),
        ({"common_luck": True, "paired": False}, "common_luck"),
        ({"oracle": "gradient", "lives": 2}, "lives"),
        ({"oracle": "value"}, "oracle"),
        ({"lifetime": (3, 2)}, "lifetime"),
        ({"held_out": -1}, "held_out"),
        ({"actor_rate": 0.0}, "actor_rate"),
        ({"rule": {"name": "lpo", "minibatches": 5}}, "minibatches"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises((ValueError, TypeError), match=named):
        make(**changes)


def test_weights_of_another_architecture_are_refused() -> None:
    keys = keys_from_seed(0, 2)
    rule, other = make_rule(SMALL["rule"]), make_rule({"name": "lpg", "hidden": 4, "categories": 2})
    level = LEVELS["tiny"].draw(keys, DOUBLE)
    given: Any = {"workers": 3, "steps": 4, "most": 1, "longest": 20, "optimiser": Optimiser()}
    with pytest.raises(ValueError, match=f"weights: expected {rule.size} numbers a row"):
        live(rule, other.draw(keys, DOUBLE), level, torch.tensor([1, 1]), keys, **given)
