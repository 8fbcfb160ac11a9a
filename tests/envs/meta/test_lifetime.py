"""A learner's life as an episode: rates and targets, what is billed, the end, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
