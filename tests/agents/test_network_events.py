"""Agents of asynchronous networks: what a node does does not depend on how it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
from agents.core import Agent, Observation
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import rollout
from optenvs.core.struct import tensors, tree_map
from optenvs.envs.network.base import Network
from optenvs.envs.network.events import EXCHANGE, GRADIENT, IDLE, REPORT
from optenvs.envs.network.quadratic import NetworkQuadratic

AGENTS = {
    "dadao": agents.make("dadao"),
    "dadao, running average": agents.make("dadao", running_average=True),
    "a2cid2": agents.make("a2cid2", lr=0.05, momentum=0.5),
    "ad_psgd": agents.make("ad_psgd", lr=0.05, momentum=0.5),
    "continuized": agents.make("continuized"),
}
ANNOUNCED, REPLIED = ("event", "peer", "time", "elapsed"), ("answered", "gradient", "message")
KEYS = keys_from_seed(4, 2)


def network(agent: Agent, **keywords: Any) -> Network:
    dual = "conjugate" in agent.needs
    settings = {"clock": "edges", "oracle": "conjugate"} if dual else {"noise": 0.1}
    return NetworkQuadratic(nodes=5, graph="cycle", t_max=12.0 if dual else 6.0, **(settings | keywords))


def without(observation: Observation, names: tuple[str, ...]) -> Observation:
    return {k: torch.zeros_like(v) if k in names else v for k, v in observation.items()}


@dataclass(frozen=True, eq=False)
class InTurns(Agent):
    """The agent, which is first handed the answer and then asked, in two turns."""

    agent: Agent

    def init(self, problem: Any, observation: Observation, keys: Tensor) -> Any:
        return self.agent.init(problem, observation, keys)

    def act(self, state: Any, observation: Observation) -> tuple[Any, Any]:
        first, state = self.agent.act(state, without(observation, ANNOUNCED))
        second, state = self.agent.act(state, without(observation, REPLIED))
        event, answered = observation["event"], observation["answered"]
        # the iterate that is published in the answer's turn stands, but at a report
        published = torch.where(
            (answered > 0) & (event != REPORT), first["recommendation"], second["recommendation"]
        )
        return second | {"recommendation": published}, state


@dataclass(frozen=True, eq=False)
class NodeByNode(Agent):
    """A copy of the agent for each node, which sees that node's rows only."""

    agent: Agent
    env: Network

    def init(self, problem: Any, observation: Observation, keys: Tensor) -> tuple[Any, ...]:
        return tuple(
            self.agent.init(self.env.local(problem, i), self.rows(observation, i), keys)
            for i in range(self.env.agents)
        )

    def act(self, state: tuple[Any, ...], observation: Observation) -> tuple[Any, Any]:
        pairs = [self.agent.act(own, self.rows(observation, i)) for i, own in enumerate(state)]
        actions = [action for action, _ in pairs]
        return {name: torch.cat([a[name] for a in actions], 1) for name in actions[0]}, tuple(
            own for _, own in pairs
        )

    def rows(self, observation: Observation, index: int) -> Observation:
        shared = ("k", "N")
        return {k: v if k in shared else v[:, index : index + 1] for k, v in observation.items()}


@pytest.mark.parametrize("name", AGENTS)
def test_an_answer_and_a_question_in_two_turns_are_those_in_one(name: str) -> None:
    agent = AGENTS[name]
    env = network(agent)
    one = rollout(env, agent, keys=KEYS, record=("point", "message"))
    two = rollout(env, InTurns(agent), keys=KEYS, record=("point", "message"))
    assert len(one.merit) > 20
    for field in ("point", "message"):
        assert torch.equal(one.recorded[field], two.recorded[field]), field
    for path, value in tensors(one.agent_state).items():
        assert torch.equal(value, tensors(two.agent_state)[path]), path
    if not getattr(agent, "running_average", False):  # which publishes the mean with its newest entry
        assert torch.equal(one.merit, two.merit)


@pytest.mark.parametrize("name", AGENTS)
def test_nodes_alone_do_what_they_do_together(name: str) -> None:
    agent = AGENTS[name]
    env = network(agent)
    together = rollout(env, agent, keys=KEYS, record=("point", "message"))
    alone = rollout(env, NodeByNode(agent, env), keys=KEYS, record=("point", "message"))
    for field in ("point", "message"):
        found, expected = alone.recorded[field], together.recorded[field]
        assert (found - expected).abs().max() < 1e-12 * expected.abs().max(), field
    assert torch.allclose(alone.merit, together.merit, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", AGENTS)
def test_idle_nodes_stay_bit_for_bit(name: str) -> None:
    agent = AGENTS[name]
    env = network(agent)
    state = env.reset(KEYS)
    memory = agent.init(state.problem, state.observation, KEYS)
    still = 0
    for _ in range(40):
        action, memory = agent.act(memory, state.observation)
        idle = (state.observation["event"] == IDLE) & (state.observation["answered"] == 0)
        again, _ = agent.act(memory, without(state.observation, ANNOUNCED + REPLIED))
        for field in ("query", "message", "recommendation"):
            kept = (action[field] == again[field]).flatten(2).all(-1, keepdim=True)
            assert kept[idle].all(), field
        still += int(idle.sum())
        state = env.step(state, action)
    assert still > 20


def test_the_running_average_is_that_of_the_iterates_when_events_come() -> None:
    """One node by hand: the iterates behind its last events, at each gradient and exchange."""
    env = network(AGENTS["dadao"], report_every=2.0)
    state = env.reset(KEYS)
    plain = memory = AGENTS["dadao"].init(state.problem, state.observation, KEYS)
    averaging = AGENTS["dadao, running average"]
    memory = averaging.init(state.problem, state.observation, KEYS)
    total, count = torch.zeros(2, 5, 2, dtype=torch.float64), torch.zeros(2, 5, 1, dtype=torch.float64)
    while not bool(state.done.all()):
        event = state.observation["event"]
        counted = (event == GRADIENT) | (event == EXCHANGE)
        # without an announcement the agent publishes the iterate behind the last event
        behind, _ = AGENTS["dadao"].act(plain, without(state.observation, ANNOUNCED))
        action, plain = AGENTS["dadao"].act(plain, state.observation)
        total = total + torch.where(counted, behind["recommendation"], 0.0)
        count = count + counted
        mean, memory = averaging.act(memory, state.observation)
        for field in ("query", "message"):
            assert torch.equal(mean[field], action[field])
        some = (count > 0).squeeze(-1)
        assert torch.allclose(mean["recommendation"][some], (total / count)[some], rtol=1e-12, atol=1e-14)
        state = env.step(state, action)
    assert count.min() > 3


@pytest.mark.parametrize("name", ["dadao", "a2cid2", "ad_psgd"])
def test_a_hyperparameter_may_be_one_for_each_instance(name: str) -> None:
    field = "gamma" if name == "dadao" else "lr"
    env = network(AGENTS[name])
    values = torch.tensor([0.07, 0.03], dtype=torch.float64)
    both = rollout(env, agents.make(name, **{field: values}), keys=KEYS)
    for row, value in enumerate(values.tolist()):
        alone = rollout(env, agents.make(name, **{field: value}), keys=KEYS[row : row + 1])
        last = len(alone.merit) - 1
        assert torch.allclose(both.merit[last, row], alone.merit[last, 0], rtol=1e-10, atol=0)
    assert both.merit[-1, 0] != both.merit[-1, 1]


@pytest.mark.parametrize(
    ("name", "keyword", "value"),
    [
        ("dadao", "gamma", 0.0),
        ("dadao", "beta_t", float("inf")),
        ("dadao", "alpha", 16.0),
        ("a2cid2", "lr", -1.0),
        ("ad_psgd", "momentum", 1.0),
        ("continuized", "eta", torch.tensor([1.0, 0.0])),
    ],
)
def test_bad_hyperparameters(name: str, keyword: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{keyword}: expected"):
        agents.make(name, **{keyword: value})


@pytest.mark.parametrize("name", ["dadao", "a2cid2", "ad_psgd"])
def test_a_single_node_descends_alone(name: str) -> None:
    env = NetworkQuadratic(nodes=1, graph="path", t_max=150.0, mu=2.0, L=2.0)
    run = rollout(env, agents.make(name), batch=2)
    assert not run.calls["exchange"].any()
    assert (run.merit[-1] < 1e-6 * run.merit[0]).all()


def test_memory_has_no_nodes_in_common() -> None:
    """What one node is told changes nothing at another."""
    for agent in AGENTS.values():
        env = network(agent)
        state = env.reset(KEYS)
        memory = agent.init(state.problem, state.observation, KEYS)
        for _ in range(9):
            action, memory = agent.act(memory, state.observation)
            state = env.step(state, action)

        def moved(leaf: Tensor) -> Tensor:
            if leaf.ndim < 3 or not leaf.is_floating_point():
                return leaf
            return torch.cat((leaf[:, :1] + 7.0, leaf[:, 1:]), 1)

        answered = torch.cat(
            (torch.ones_like(state.observation["answered"][:, :1]), state.observation["answered"][:, 1:]), 1
        )
        other = tree_map(moved, state.observation) | {"answered": answered}
        one, _ = agent.act(memory, state.observation)
        two, _ = agent.act(memory, other)
        for field in ("query", "message", "recommendation"):
            assert torch.equal(one[field][:, 1:], two[field][:, 1:])
            assert not torch.equal(one[field][:, :1], two[field][:, :1])
