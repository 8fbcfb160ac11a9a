"""Learners with tables: agents lead where the rules of a discovery lead, and say what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.envs.meta.discovery.life import conceive, grow
from optenvs.models.tabular.rulebook import make_rule
from optenvs.models.tabular.rules import Optimiser

DOUBLE = torch.float64
SMALL: dict[str, Any] = {"workers": 3, "rollout": 4, "lifetime": 6, "tolerance": None}
LPG: dict[str, Any] = {"categories": 3, "embedding": 2, "hidden": 4}


def life(**changes: Any) -> Any:
    return optenvs.make("GridWorldLifetime", **(SMALL | changes))


def lived(env: Any, agent: Any, batch: int = 3, steps: int = 6) -> Tensor:
    """The policies at the end."""
    return optenvs.rollout(env, agent, batch=batch, steps=steps, record=("policy",)).recorded["policy"][-1]


class Usual:
    """Rates as they are."""

    def __call__(self, k: Tensor, N: Tensor) -> Tensor:
        return torch.ones_like(k)


@pytest.mark.parametrize("name", ["reinforce", "a2c", "ppo", "dpo"])
def test_an_agent_is_the_rule_of_its_name(name: str) -> None:
    """Its own tables, and those that the environment keeps and steers by the rates as they are."""
    own = lived(life(query="policy"), agents.make(f"tabular_{name}"))
    kept = lived(life(query="rates", rule=name), agents.make("annealed_rates", actor_rate=Usual()))
    assert own.abs().max() > 0.1
    torch.testing.assert_close(own, kept, rtol=1e-9, atol=1e-9)


def test_schedules_of_agents_and_of_rates_are_the_same() -> None:
    linear = agents.schedules.Linear()
    own = lived(life(query="policy"), agents.make("tabular_a2c", schedule=linear))
    rates = {"actor_rate": linear, "critic_rate": linear}
    kept = lived(life(query="rates", rule="a2c"), agents.make("annealed_rates", **rates))
    torch.testing.assert_close(own, kept, rtol=1e-9, atol=1e-9)
    usual = lived(life(query="policy"), agents.make("tabular_a2c"))
    assert (own - usual).abs().max() > 1e-3
    bonus = agents.make("annealed_rates", actor_rate=None, entropy=agents.schedules.Growth(10.0))
    far = lived(life(query="rates", rule="a2c"), bonus)
    assert (far - usual).abs().max() > 1e-3


def test_rates_may_differ_by_instance() -> None:
    env = life(query="policy")
    slow, quick = (lived(env, agents.make("tabular_ppo", actor_rate=rate)) for rate in (4.0, 40.0))
    both = lived(env, agents.make("tabular_ppo", actor_rate=torch.tensor([4.0, 40.0, 4.0])))
    torch.testing.assert_close(both, torch.stack((slow[0], quick[1], slow[2])))


@pytest.mark.parametrize("timed", [False, True])
def test_a_learned_gradient_leads_where_a_discovery_leads(timed: bool) -> None:
    agent = agents.make("lpg", **LPG, timed=timed, dtype="float64", seed=3)
    rule = make_rule({"name": "lpg", "timed": timed} | LPG)
    assert rule.size == agent.size
    keys = keys_from_seed(0, 3)
    env = life(query="policy")
    level = env.reset(keys).hidden.level
    found = conceive(3, level, torch.full((3,), 6), 3)
    with torch.no_grad():
        for _ in range(6):
            found, _, _ = grow(rule, agent.flat[None], level, found, keys, 4, Optimiser())
    own = lived(env, agent)
    torch.testing.assert_close(own, found.learner.actor, rtol=1e-9, atol=1e-9)
    told = lived(life(query="targets", categories=3), agent)
    torch.testing.assert_close(own, told, rtol=1e-6, atol=1e-6)
    assert own.abs().max() > 0.1


def test_a_learned_drift_leads_where_a_discovery_leads() -> None:
    agent = agents.make("lpo", hidden=5, timed=True, like_ppo=True, dtype="float64")
    with torch.no_grad():
        agent.net.flat.mul_(20.0)  # so that the drift is seen
    rule = make_rule({"name": "lpo", "hidden": 5, "timed": True, "like_ppo": True})
    keys = keys_from_seed(0, 3)
    env = life(query="policy")
    level = env.reset(keys).hidden.level
    found = conceive(1, level, torch.full((3,), 6), 3)
    with torch.no_grad():
        for _ in range(6):
            found, _, _ = grow(rule, agent.flat[None], level, found, keys, 4, Optimiser())
    own = lived(env, agent)
    torch.testing.assert_close(own, found.learner.actor, rtol=1e-9, atol=1e-9)
    assert (own - lived(env, agents.make("tabular_ppo"))).abs().max() > 1e-6


def test_rules_of_rows_are_those_of_single_runs() -> None:
    env = life(query="policy")
    singles = [agents.make("lpg", **LPG, dtype="float64", seed=seed) for seed in range(3)]
    rows = torch.stack([agent.flat.detach() for agent in singles])
    many = lived(env, singles[0].replace(weights=rows))
    keys = keys_from_seed(0, 3)
    for i, agent in enumerate(singles):
        run = optenvs.rollout(env, agent, keys=keys[i : i + 1], steps=6, record=("policy",))
        torch.testing.assert_close(run.recorded["policy"][-1][0], many[i], rtol=1e-9, atol=1e-9)


def test_a_rule_is_saved_and_what_is_no_rule_is_refused(tmp_path: Path) -> None:
    agent = agents.make("lpg", **LPG, seed=5)
    agent.save(tmp_path / "rule")
    again = agents.LPG.load(tmp_path / "rule")
    assert torch.equal(again.flat, agent.flat) and again.settings() == agent.settings()
    damaged = bytearray((tmp_path / "rule").read_bytes())
    damaged[-9] ^= 1
    (tmp_path / "damaged").write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="damaged: not a readable learned optimizer"):
        agents.LPG.load(tmp_path / "damaged")
    with pytest.raises(ValueError, match="expected the weights of LPO, got 'LPG'"):
        agents.LPO.load(tmp_path / "rule")
    other = agents.make("lpg", categories=3, embedding=2, hidden=5)
    with pytest.raises(ValueError, match="LPG: net: expected a network with the parameters"):
        agents.make("lpg", **LPG, net=other.net)
    with pytest.raises(ValueError, match=f"LPG: weights: expected a tensor .B, {agent.size}. or None"):
        agents.make("lpg", **LPG, weights=other.flat[None])


@pytest.mark.parametrize(
    ("env", "name", "options", "error", "message"),
    [
        ({"query": "rates"}, "tabular_ppo", {}, OracleMismatch, "TabularPPO needs the oracle.s. policy"),
        (
            {"query": "policy"},
            "annealed_rates",
            {},
            OracleMismatch,
            "AnnealedRates needs the oracle.s. rates",
        ),
        ({"query": "rates"}, "lpg", LPG, OracleMismatch, "LPG needs the oracle.s. policy or targets"),
        ({"query": "targets"}, "lpg", LPG, ValueError, "categories: expected 4, those of the problem"),
        (
            {"query": "rates", "rule": "reinforce"},
            "annealed_rates",
            {"entropy": Usual()},
            ValueError,
            "entropy: the problem's rule has actor_rate, expected None",
        ),
    ],
)
def test_lives_that_do_not_fit_are_refused(
    env: Any, name: str, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        optenvs.rollout(life(**env), agents.make(name, **options), steps=1)


def test_other_problems_are_refused() -> None:
    env = life(query="policy")
    state = env.reset(keys_from_seed(0, 1))
    with pytest.raises(TypeError, match="TabularA2C lives a learner's life, expected one, got object"):
        agents.make("tabular_a2c").init(object(), state.observation, agent_keys(state.key))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tabular_reinforce", {"gamma": 1.5}, "gamma: expected a number in .0, 1."),
        ("tabular_a2c", {"anneal": 2.0}, "anneal: expected a number in .0, 1."),
        ("tabular_a2c", {"critic_rate": 0.0}, "critic_rate: expected a number > 0"),
        ("tabular_ppo", {"eps": 1.0}, "eps: expected a number in .0, 1."),
        ("tabular_ppo", {"epochs": 0}, "epochs: expected a whole number >= 1"),
        ("tabular_dpo", {"beta": 0.0}, "beta: expected a number > 0"),
        ("lpg", {"hidden": 0}, "hidden: expected a whole number >= 1"),
        ("lpg", {"raw_time": True}, "raw_time: expected a rule that sees the time"),
        ("lpo", {"limit": 0.0}, "limit: expected a number > 0 or None"),
        ("lpo", {"clip": 0.0}, "clip: expected a number > 0"),
    ],
)
def test_bad_settings_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agents.make(name, **options)


def test_the_shipped_rule_has_learnt() -> None:
    """On 64 levels that its search has not met, after 30 updates: as recorded, and more than by chance."""
    rule = agents.make("lpg", pretrained="tiny-grids")
    (entry,) = agents.pretrained("lpg")
    assert entry.file.stat().st_size < 1_000_000 and rule.size == 406
    env = life(query="policy", lifetime=30, workers=8, rollout=10)
    run = optenvs.rollout(env, rule, keys=keys_from_seed(1_000_001, 64), steps=30)
    earned, best = (float(run.metrics[name][-1].mean()) for name in ("value", "optimum"))
    assert earned == pytest.approx(0.685, abs=0.02)
    chance = float(run.metrics["value"][0].mean())
    assert chance < 0.3 < earned < best
