"""Agents of synchronous networks: turns by masks, what they keep, what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
from optenvs.core.env import State
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import rollout
from optenvs.core.struct import tree_map
from optenvs.envs.network.base import Network
from optenvs.envs.network.quadratic import NetworkQuadratic
from optenvs.envs.network.spectra import condition, consensus_rounds

AGENTS: dict[str, agents.Agent] = {
    "dgd": agents.make("dgd"),
    "extra": agents.make("extra"),
    "gradient_tracking": agents.make("gradient_tracking"),
    "adom_plus": agents.make("adom_plus"),
    "multi_consensus": agents.make("adom_plus", multi_consensus=True),
    "msda": agents.make("msda"),
}


def made(agent: agents.Agent, **keywords: Any) -> NetworkQuadratic:
    oracle = "conjugate" if "conjugate" in agent.needs else "gradient"
    return NetworkQuadratic(**({"clock": "rounds", "oracle": oracle, "t_max": 30.0} | keywords))


@pytest.mark.parametrize("name", AGENTS)
def test_instances_in_different_turns_do_not_mix(name: str) -> None:
    """One batch of a path and a complete graph, whose rounds have different lengths."""
    agent = AGENTS[name]
    envs: list[Network] = [made(agent, nodes=6, graph=graph) for graph in ("path", "complete")]
    states: list[State] = [env.reset(keys_from_seed(row, 2)) for row, env in enumerate(envs)]
    keys = keys_from_seed(9, 4)
    alone = [agent.init(s.problem, s.observation, keys[:2]) for s in states]

    def both(*parts: Any) -> Any:
        return tree_map(lambda one, other: torch.cat((one, other)), *parts)

    together = agent.init(
        both(*(state.problem for state in states)), both(*(state.observation for state in states)), keys
    )
    for _ in range(40):
        action, together = agent.act(together, both(*(state.observation for state in states)))
        assert isinstance(action, dict)
        apart = [agent.act(memory, state.observation) for memory, state in zip(alone, states, strict=True)]
        alone = [memory for _, memory in apart]
        for field, value in both(*(said for said, _ in apart)).items():
            assert torch.equal(action[field], value), field
        states = [env.step(state, said) for env, state, (said, _) in zip(envs, states, apart, strict=True)]
    computed = [int(state.calls["round"][0]) for state in states]
    assert (computed[0] < computed[1]) == (name in ("multi_consensus", "msda"))


@pytest.mark.parametrize("name", AGENTS)
def test_a_node_without_neighbours_solves_its_own_problem(name: str) -> None:
    agent = AGENTS[name]
    run = rollout(made(agent, nodes=1, graph="complete", curvatures=(3.0,), t_max=100.0), agent, batch=3)
    assert (run.merit[-1] < 1e-6 * run.merit[0].clamp_min(1e-3)).all(), run.merit[-1]
    assert not run.calls["exchange"].any()
    assert not run.calls["message"].any()


# What stays ------------------------------------------------------------------------------------------


def test_tracking_keeps_the_mean_gradient() -> None:
    agent = AGENTS["gradient_tracking"]
    env = made(agent, nodes=6, graph="lollipop")
    for steps in (1, 3, 21):  # after an odd number the direction is known
        memory = rollout(env, agent, batch=3, steps=steps).agent_state
        assert torch.allclose(memory.direction.mean(1), memory.gradient.mean(1), atol=1e-13)
        assert memory.gradient.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["adom_plus", "multi_consensus", "msda"])
def test_what_gossip_changes_keeps_its_sum(name: str) -> None:
    agent = AGENTS[name]
    memory = rollout(made(agent, nodes=6, graph="lollipop"), agent, batch=3).agent_state
    parts = {"x": memory.x, "y": memory.y} if name == "msda" else {"z": memory.z, "zf": memory.zf}
    for field, value in parts.items():
        assert value.sum(1).abs().max() < 1e-12 * value.abs().max(), field
        assert value.abs().max() > 1e-2


# Constants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dgd", "extra", "gradient_tracking"])
def test_step_sizes(name: str) -> None:
    env = made(AGENTS[name])
    keys = keys_from_seed(0, 1).repeat(3)
    rates = torch.tensor([0.03, 0.01, AGENTS[name].portion / 10.0], dtype=torch.float64)  # type: ignore[attr-defined]
    grid = rollout(env, agents.make(name, lr=rates), keys=keys, steps=20).merit
    for column, lr in enumerate((0.03, 0.01, None)):
        one = rollout(env, agents.make(name, lr=lr), keys=keys[:1], steps=20).merit[:, 0]
        assert torch.allclose(grid[:, column], one, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("nodes", "gossips"), [(4, 2), (9, 3), (25, 5), (26, 5), (100, 10)])
def test_rounding_takes_no_gossip_off_a_round(nodes: int, gossips: int, dtype: str) -> None:
    """gam is 1 / n on a star."""
    agent = AGENTS["msda"]
    run = rollout(made(agent, nodes=nodes, graph="star", dtype=dtype), agent, steps=2 * (gossips + 1))
    assert run.calls["gossip"][-1].item() == 2 * gossips
    assert run.calls["round"][-1].item() == 3


def test_multi_consensus_is_plain_where_one_gossip_will_do() -> None:
    plain, several = AGENTS["adom_plus"], AGENTS["multi_consensus"]
    for graph, equal in (("complete", True), ("cycle", False)):
        env = made(plain, nodes=6, graph=graph)
        rounds = consensus_rounds(condition(env.graphs))
        one, other = (rollout(env, agent, batch=2, steps=12 * rounds) for agent in (plain, several))
        assert (rounds == 1) == equal
        assert torch.equal(one.merit[-1], other.merit[-1]) == equal


# Refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adom_plus", "gradient_tracking"])
def test_two_vectors_need_two_channels(name: str) -> None:
    with pytest.raises(
        ValueError, match="channels: expected at least 2, which the agent sends at once, got 1"
    ):
        rollout(made(AGENTS[name], channels=1), AGENTS[name], steps=2)


def test_msda_needs_a_graph_that_stays() -> None:
    agent = AGENTS["msda"]
    with pytest.raises(ValueError, match="graph: MSDA expects one that stays, got 2"):
        rollout(made(agent, nodes=4, graph=["star", "cycle"]), agent, steps=1)


@pytest.mark.parametrize("name", AGENTS)
def test_other_clocks_and_oracles(name: str) -> None:
    agent = AGENTS[name]
    with pytest.raises(OracleMismatch, match="gossip"):
        rollout(made(agent, clock="poisson"), agent, steps=1)
    missing = agent.needs[0]
    with pytest.raises(OracleMismatch, match=missing):
        rollout(made(agent, oracle="gradient" if missing == "conjugate" else "conjugate"), agent, steps=1)


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf"), torch.tensor([0.1, 0.0])])
@pytest.mark.parametrize("name", ["dgd", "extra", "gradient_tracking"])
def test_step_sizes_out_of_range(name: str, lr: Any) -> None:
    with pytest.raises(ValueError, match="lr: expected a finite number > 0, or None"):
        agents.make(name, lr=lr)
