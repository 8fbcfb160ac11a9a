"""A learner's life as an episode: rates and targets, what is billed, the end, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.error import InvalidAction

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.meta.discovery.life import conceive, grow
from optenvs.models.lpg import LPG
from optenvs.models.tabular.rules import LearnedGradient, Optimiser

DOUBLE = torch.float64


def make(**changes: Any) -> Any:
    return optenvs.make("GridWorldLifetime", **({"workers": 3, "rollout": 4, "tolerance": None} | changes))


def test_targets_of_a_rule_lead_where_the_rule_leads() -> None:
    """An agent that asks for what a learned policy gradient says brings its learner up as the rule does."""
    env, keys = make(query="targets", lifetime=5), keys_from_seed(0, 2)
    rule = LearnedGradient(LPG(4, 4, 8))
    weights = rule.draw(keys_from_seed(1, 2), DOUBLE)
    state = env.reset(keys)
    level = state.hidden.level
    life = conceive(4, level, torch.full((2,), 5), 3)
    for _ in range(5):
        seen = state.observation
        push, wanted = rule.net(weights, *(seen[name] for name in ("reward", "over", "chosen", "critic")))
        state = env.step(state, {"push": push, "target": wanted.log()})
        life, _, _ = grow(rule, weights, level, life, keys, 4, Optimiser())
        learner = state.hidden.life.learner
        torch.testing.assert_close(learner.actor, life.learner.actor, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(learner.critic, life.learner.critic, rtol=1e-9, atol=1e-9)
    assert learner.actor.abs().max() > 0.1
    assert state.truncated.all() and not state.terminated.any()


def test_what_it_costs_and_when_it_ends() -> None:
    env = make(rule="reinforce", lifetime=(2, 6))
    state = env.reset(keys_from_seed(0, 8))
    whole = state.hidden.life.whole
    ended = []
    for k in range(1, 8):
        state = env.step(state, torch.zeros(8, 1, dtype=DOUBLE))
        ended.append(state.truncated)
        assert state.calls["interactions"].tolist() == [12 * (k + 1)] * 8
    first = torch.stack(ended).int().argmax(0) + 1
    assert torch.equal(first, whole) and len(set(whole.tolist())) > 2
    share = state.observation["features"][:, 0]
    assert (share == 1).all()
    assert torch.allclose(state.observation["features"][:, 1], (12.0 * whole.double()).log())


def test_rates_matter_and_the_untrained_policy_is_the_start() -> None:
    env, keys = make(rule="a2c", lifetime=9), keys_from_seed(0, 16)
    state = env.reset(keys)
    assert not state.hidden.life.learner.actor.any()
    action = torch.zeros(16, 3, dtype=DOUBLE)
    for i in range(3):
        changed = action.clone()
        changed[:, i] = 1.0
        one, other = (env.step(env.step(state, a), a).hidden.life.learner for a in (action, changed))
        assert any((getattr(one, n) != getattr(other, n)).any() for n in ("actor", "critic"))
    small = env.step(state, action - 2).hidden.life.learner.actor
    large = env.step(state, action).hidden.life.learner.actor
    torch.testing.assert_close(100 * small, large, rtol=1e-6, atol=1e-9)


def test_a_level_without_a_path_is_worth_1_and_lost_by_losses_alone() -> None:
    env = make(
        level={"base": "tiny", "grid": (4, 4), "walls": 13}, lifetime=2, query="policy", tolerance=1e-3
    )
    state = env.reset(keys_from_seed(0, 12))
    stuck = state.metrics["optimum"] == 0
    assert 3 < int(stuck.sum()) < 12
    assert (state.metrics["share"][stuck] == 1 + state.metrics["value"][stuck]).all()
    assert torch.equal(state.terminated[stuck], state.metrics["value"][stuck] >= -1e-3)
    moved = env.step(state, torch.randn(12, 5, 65, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)))
    assert moved.merit.isfinite().all() and moved.reward.isfinite().all() and not moved.diverged.any()


def test_a_policy_is_told_what_it_did() -> None:
    env, keys = make(query="policy", lifetime=3), keys_from_seed(0, 2)
    state = env.reset(keys)
    table = torch.zeros(2, 5, 65, dtype=DOUBLE)
    table[:, 1] = 50.0  # down, always
    for k in range(1, 5):
        before, state = state, env.step(state, table)
        seen = state.observation
        assert (seen["done"] == 1).all() or k > 3
        assert seen["state"].shape == seen["time"].shape == (2, 5, 3)
        assert state.calls["policy"].tolist() == [k + 1] * 2
        if 1 < k <= 3:  # windows follow each other
            assert torch.equal(seen["state"][:, 0], before.observation["state"][:, -1])
        if k <= 3:
            assert torch.equal(state.hidden.life.learner.actor, table)
    assert torch.equal(state.hidden.life.done, torch.tensor([3, 3])), "after its end nothing changes"
    for name in ("actor_rate", "critic_rate", "clip"):
        with pytest.raises(ValueError, match=f"{name}: 7.0 would have no effect on query='policy'"):
            make(query="policy", **{name: 7.0})


def test_actions_for_another_rule_are_refused() -> None:
    """A policy that was trained on three rates is none for one, although its first rate would do."""
    three = agents.from_function(lambda seen: torch.zeros(len(seen["k"]), 3, dtype=DOUBLE))
    optenvs.rollout(make(rule="ppo"), three, batch=2, steps=1)
    with pytest.raises(InvalidAction, match=r"GridWorldLifetime takes shape \(2, 1\).* gave \(2, 3\)"):
        optenvs.rollout(make(rule="reinforce"), three, batch=2, steps=1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"query": "weights"}, "query"),
        ({"query": "targets", "rule": "ppo"}, "rule: targets"),
        ({"categories": 3}, "categories"),
        ({"rule": "lpg"}, "rule: expected one by hand"),
        ({"level": "rand_small"}, "level: tables"),
        ({"lifetime": 0}, "lifetime"),
        ({"workers": 0}, "workers"),
        ({"clip": 0.0}, "clip"),
        ({"rule": {"name": "ppo", "minibatches": 5}}, "minibatches"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make(**changes)
