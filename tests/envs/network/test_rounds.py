"""Synchronous traffic against loops over nodes and edges, and what rounds refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction

import optenvs
from optenvs.core.env import State
from optenvs.core.random import Keys, integers, keys_from_seed, normal
from optenvs.core.rollout import rollout
from optenvs.core.struct import tree_map
from optenvs.envs.network.graphs import Graph
from optenvs.envs.network.quadratic import NetworkQuadratic
from optenvs.envs.network.traffic import PATIENCE

KEYS = keys_from_seed(4, 3)
GRAPHS: dict[str, dict[str, Any]] = {
    "one": {"graph": "lollipop", "nodes": 6},
    "several": {"graph": ["star", "path", "complete"], "nodes": 6},
    "pair": {"graph": "path", "nodes": 2},
    "alone": {"graph": "complete", "nodes": 1},
}


def made(**keywords: Any) -> NetworkQuadratic:
    return NetworkQuadratic(**({"clock": "rounds", "t_max": 1e4, "channels": 3} | keywords))


def said(env: NetworkQuadratic, keys: Keys, step: int) -> dict[str, torch.Tensor]:
    """An action at random. Every third step nobody sends, every fourth nobody computes."""
    n, d, c = env.agents, env.dim, env.channels or 2
    shape = {"query": (n, d), "message": (n, c, d), "recommendation": (n, d)}
    action = {
        name: normal(keys, name, size, counter=step, dtype=env.torch_dtype) for name, size in shape.items()
    }
    send = integers(keys, f"send {step}", (n, 1), c + 1)
    compute = integers(keys, f"compute {step}", (n, 1), 2)
    return action | {"send": send * (step % 3 > 0), "compute": compute * (step % 4 > 0)}


class Slow:
    """One instance of the traffic, by loops."""

    def __init__(self, env: NetworkQuadratic) -> None:
        self.graphs: tuple[Graph, ...] = env.graphs
        self.computed, self.gossiped = 1, 0
        kinds = ("gradient", "exchange", "message", "round", "gossip")
        self.bill = dict.fromkeys(kinds, 0) | {"gradient": env.agents, "round": 1}

    def neighbours(self, graph: Graph, node: int) -> list[int]:
        return [sum(edge) - node for edge in graph.edges if node in edge]

    def step(self, action: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        graph = self.graphs[self.gossiped % len(self.graphs)]
        nodes, send = range(graph.nodes), action["send"][:, 0]
        sent = np.zeros_like(action["message"])
        for node in nodes:
            for channel in range(send[node]):
                sent[node, channel] = action["message"][node, channel]
        total, mixed = np.zeros_like(sent), np.zeros_like(sent)
        for node in nodes:
            near = self.neighbours(graph, node)
            rest = 1.0
            for other in near:
                weight = 1 / (1 + max(len(near), len(self.neighbours(graph, other))))
                total[node] += sent[other]
                mixed[node] += weight * sent[other]
                rest -= weight
            mixed[node] += rest * sent[node]
        for i, j in graph.edges:
            self.bill["exchange"] += max(send[i], send[j]) > 0
            self.bill["message"] += max(send[i], send[j])
        compute = action["compute"][:, 0]
        self.bill["gradient"] += int(compute.sum())
        self.bill["round"] += bool(compute.any())
        self.bill["gossip"] += bool((send > 0).any())
        self.computed += bool(compute.any())
        self.gossiped += bool((send > 0).any())
        coming = self.graphs[self.gossiped % len(self.graphs)]
        degree = np.array([[len(self.neighbours(coming, node))] for node in nodes], dtype=float)
        time = np.full((graph.nodes, 1), self.computed - 1.0)
        return {"total": total, "mixed": mixed, "degree": degree, "time": time}


@pytest.mark.parametrize("name", GRAPHS)
def test_it_is_the_loop_over_nodes_and_edges(name: str) -> None:
    env = made(**GRAPHS[name])
    state = env.reset(KEYS)
    slow = [Slow(env) for _ in KEYS]
    data = state.hidden.functions.data
    for step in range(24):
        # the instances of the batch are at different places: each is silent in its own steps
        parts = [said(env, KEYS[row : row + 1], step + row) for row in range(3)]
        action = {field: torch.cat([part[field] for part in parts]) for field in parts[0]}
        state = env.step(state, action)
        exact = data.curvature.unsqueeze(-1) * (action["query"] - data.centre) * action["compute"]
        assert torch.equal(state.observation["gradient"], exact)
        for row, one in enumerate(slow):
            expected = one.step({field: value[row].numpy() for field, value in action.items()})
            for field, value in expected.items():
                found = state.observation[field][row].numpy()
                assert np.abs(found - value).max() < 1e-14, (field, step)
            assert {kind: int(count[row]) for kind, count in state.calls.items()} == one.bill
    assert not state.done.any()


def test_the_graphs_take_turns_by_the_gossips_not_by_the_steps() -> None:
    env = made(**GRAPHS["several"])
    state, ones = env.reset(KEYS), torch.ones(3, 6, 1, dtype=torch.int64)
    degrees = []
    for step in range(8):
        action = said(env, KEYS, 1)
        silent = step % 2 == 0
        state = env.step(state, action | {"send": 0 * ones if silent else ones, "compute": ones})
        degrees.append(int(state.observation["degree"][0, 0]))
    # of node 0, ahead of the next gossip: the star's centre, the path's end, the complete graph
    assert degrees == [5, 1, 1, 5, 5, 5, 5, 1]
    assert state.calls["exchange"][0] == 5 + 5 + 15 + 5


def test_what_is_not_sent_reaches_nobody() -> None:
    env = made(graph="complete", nodes=4)
    state, action = env.reset(KEYS), said(env, KEYS, 1)
    action["send"] = torch.tensor([[[0], [1], [2], [3]]]).expand(3, -1, -1)
    one = env.step(state, action)
    held = torch.arange(3) >= action["send"]  # (B, N, channels)
    other = env.step(state, action | {"message": torch.where(held.unsqueeze(-1), 1e9, action["message"])})
    for field, value in one.observation.items():
        assert torch.equal(value, other.observation[field]), field
    assert one.observation["total"].abs().max() < 1e3
    assert one.observation["total"][..., 2, :].any(), "node 3 sends all"


# The end ---------------------------------------------------------------------------------------------


def walk(env: NetworkQuadratic, compute: int, send: int) -> State:
    """The last state of an episode in which all nodes do the same in each step."""
    state = env.reset(KEYS)
    action = env.traffic.start(state.observation["point"])
    action = tree_map(torch.clone, action) | {
        "compute": torch.full_like(action["compute"], compute),
        "send": torch.full_like(action["send"], send),
    }
    while not state.done.all():
        assert not state.done.any()
        state = env.step(state, action)
    return state


@pytest.mark.parametrize("send", [0, 1])
def test_time_is_up_after_so_many_computations(send: int) -> None:
    state = walk(made(nodes=4, t_max=5.0), compute=1, send=send)
    assert state.truncated.all()
    assert not state.terminated.any()
    assert state.k.tolist() == [5, 5, 5]
    assert state.metrics["time"].tolist() == [5.0, 5.0, 5.0]
    assert state.calls["round"].tolist() == [6, 6, 6]  # and the one of reset


@pytest.mark.parametrize("send", [0, 1])
def test_nodes_that_never_compute_come_to_an_end(send: int) -> None:
    assert walk(made(nodes=3), compute=0, send=send).k.tolist() == [PATIENCE + 1] * 3


def test_patience_grows_with_the_graph() -> None:
    """Multi-consensus on a path of 100 gossips 2,809 times to a gradient: ceil(chi ln 2)."""
    env = made(graph="path", nodes=100)
    assert env.traffic.patience > 2809  # type: ignore[union-attr]
    waiting = replace(env.reset(KEYS).hidden.traffic, waited=torch.tensor([2809, 8103, 8106]))
    action = env.traffic.start(torch.zeros(3, 100, 2, dtype=torch.float64))
    silent = action | {"compute": torch.zeros_like(action["compute"])}
    assert env.traffic.serve(waiting, silent, {}).ended.tolist() == [False, False, True]
    assert not env.traffic.serve(waiting, action, {}).ended.any(), "a computation starts the count anew"


def test_a_solved_episode_terminates() -> None:
    env = made(nodes=4, tolerance=1e-12)
    state = env.reset(KEYS)
    solution = state.hidden.functions.solution.unsqueeze(1).expand(-1, 4, -1)
    action = env.traffic.start(state.observation["point"]) | {"recommendation": solution}
    assert env.step(state, action).terminated.all()


def test_a_budget_of_communications_ends_it() -> None:
    env = made(graph="cycle", nodes=5, budget={"exchange": 20})
    state = walk(env, compute=1, send=1)
    assert state.calls["exchange"].tolist() == [20, 20, 20]
    assert state.truncated.all()


# Bad actions -----------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, Any]] = {
    "a number that is none": ("message", lambda value: np.where(np.arange(2) == 0, np.nan, value)),
    "a wrong shape": ("message", lambda value: value[:, :1]),
    "too many vectors": ("send", lambda value: value + 4),
    "less than nothing sent": ("send", lambda value: value * 0 - 1),
    "more than one gradient": ("compute", lambda value: value * 0 + 2),
    "half a gradient": ("compute", lambda value: value + 0.5),
    "an infinite query": ("query", lambda value: value * np.inf),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_action_is_named_and_leaves_the_episode_as_it_was(case: str) -> None:
    field, spoil = BAD[case]
    core = made(nodes=4)
    env: Any = optenvs.GymEnv(core)
    env.reset(seed=0)
    before = env.get_state()
    good = {name: value[0].numpy() for name, value in said(core, KEYS[:1], 1).items()}
    with pytest.raises(InvalidAction, match=field):
        env.step(good | {field: spoil(good[field])})
    state = env.get_state().state
    assert state.k.tolist() == before.state.k.tolist()
    assert torch.equal(state.calls.counts, before.state.calls.counts)
    env.step(good)


@pytest.mark.parametrize("channels", [0, -1, 1.5, True])
def test_channels_are_counted_in_whole_vectors(channels: Any) -> None:
    with pytest.raises(ValueError, match="channels: expected"):
        made(channels=channels)


def test_a_run_is_told_by_its_instances_alone() -> None:
    """A row of a batch is the run of its key, whatever the others do."""

    class Mean:
        def init(self, problem: Any, observation: dict[str, torch.Tensor], keys: Keys) -> torch.Tensor:
            return keys

        def act(self, state: torch.Tensor, observation: dict[str, torch.Tensor]) -> Any:
            x = (observation["mixed"][:, :, 0] + observation["gradient"]) / 2
            some = (state % 2).view(-1, 1, 1).expand(-1, 6, 1)
            message = torch.stack((x, x, x), 2)
            action = {"query": x, "message": message, "recommendation": x, "compute": some, "send": 1 + some}
            return action, state // 2

    env = made(**GRAPHS["several"])
    many = rollout(env, Mean(), keys=KEYS, steps=12)
    for row in range(3):
        alone = rollout(env, Mean(), keys=KEYS[row : row + 1], steps=12)
        assert torch.allclose(alone.merit[:, 0], many.merit[:, row], rtol=1e-12)
        assert torch.equal(alone.calls.counts[:, 0], many.calls.counts[:, row])
    assert len({tuple(row) for row in many.calls.counts[-1].tolist()}) > 1
