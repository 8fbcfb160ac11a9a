"""What a network refuses, and that it says what came and what was expected."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import networkx as nx
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction

import optenvs
from optenvs.core.errors import UnknownKeyword, UnknownName
from optenvs.core.random import keys_from_seed
from optenvs.envs.network.graphs import Graph
from optenvs.envs.network.quadratic import NetworkQuadratic
from optenvs.envs.network.verdict import RateWarning

ID = "optenvs/NetworkQuadratic-v0"


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        # graphs
        (
            {"graph": [(0, 1), (2, 3)], "nodes": 4},
            ValueError,
            "edges: expected a connected graph, got one of 2 components; no edge joins the node(s) 0, 1",
        ),
        ({"graph": nx.Graph([(0, 1), (2, 3)]), "nodes": None}, ValueError, "expected a connected graph"),
        (
            {"graph": Graph(3, ((0, 1), (1, 2))), "nodes": 5},
            ValueError,
            "nodes: expected 5 in every graph",
        ),
        (
            {"graph": ["cycle", Graph(3, ((0, 1), (1, 2)))], "nodes": 4},
            ValueError,
            "nodes: expected 4 in",
        ),
        ({"graph": "cycel"}, UnknownName, "no graph is called 'cycel'"),
        ({"graph": "cycle", "nodes": 0}, ValueError, "nodes: expected at least 1, got 0"),
        ({"graph": 3}, TypeError, "graph: expected a name, a Graph, a networkx graph or edges, got 3"),
        ({"graph_options": {"radius": 0.3}}, UnknownKeyword, "radius"),
        # rates
        ({"rates": -1.0}, ValueError, "rates: expected a finite total rate > 0, got -1.0"),
        ({"rates": 0.0}, ValueError, "rates: expected a finite total rate > 0, got 0.0"),
        ({"nodes": 3, "graph": "path", "rates": [1.0, 0.0]}, ValueError, "got 0.0 on the edge (1, 2)"),
        (
            {"nodes": 3, "graph": "path", "rates": [1.0]},
            ValueError,
            "rates: expected one for each of 2",
        ),
        ({"rates": "fast"}, ValueError, "rates: expected 'uniform', 'optimal' or numbers > 0, got 'fast'"),
        ({"rates": -1.0, "clock": "rounds"}, ValueError, "rates: expected a finite total rate > 0, got -1.0"),
        # the rest
        ({"clock": "posson"}, ValueError, "clock: expected one of poisson, edges, rounds, got 'posson'"),
        ({"oracle": "value"}, ValueError, "oracle: expected one of gradient, conjugate, got 'value'"),
        ({"metric": "fresh"}, ValueError, "metric: expected one of synced, stale, got 'fresh'"),
        ({"order": "random"}, ValueError, "order: expected one of wavefront, sequential, got 'random'"),
        ({"t_max": 0.0}, ValueError, "t_max: expected a number > 0, got 0.0"),
        ({"report_every": -1.0}, ValueError, "report_every: expected a number > 0, got -1.0"),
        ({"start_std": -1.0}, ValueError, "start_std: expected a number >= 0, got -1.0"),
        ({"dim": 0}, ValueError, "dim: expected a whole number >= 1, got 0"),
        ({"channels": 0}, ValueError, "channels: expected a whole number >= 1, got 0"),
        ({"budget": {"exchanges": 3}}, ValueError, "bills no 'exchanges'; did you mean 'exchange'?"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        optenvs.make(ID, **keywords)


def test_unknown_keywords() -> None:
    with pytest.raises((TypeError, UnknownKeyword), match="node"):
        optenvs.make(ID, node=4)


def test_rates_at_which_dadao_diverges_are_refused() -> None:
    uniform = NetworkQuadratic(nodes=4).edge_rates.total
    with pytest.raises(ValueError, match=r"chi_1 chi_2 = 2 is above 1/2.*it diverges.* is \+0\.\d+"):
        NetworkQuadratic(nodes=4, rates=uniform / 2)


def test_rates_above_the_condition_at_which_it_still_converges_are_warned_of() -> None:
    uniform = NetworkQuadratic(nodes=4).edge_rates.total
    with pytest.warns(RateWarning, match=r"above 1/2.*it still converges.*is -0\.\d+ \(negative\)"):
        NetworkQuadratic(nodes=4, rates=0.95 * uniform)
    NetworkQuadratic(nodes=4, rates=1.05 * uniform)  # no word


def test_rates_at_which_only_dadao_diverges_can_be_had() -> None:
    uniform = NetworkQuadratic(nodes=4).edge_rates.total
    with pytest.warns(RateWarning, match=r"it diverges.* is \+0\.\d+"):
        slow = NetworkQuadratic(nodes=4, rates=uniform / 2, rates_check="warn")
    silent = NetworkQuadratic(nodes=4, rates=uniform / 2, rates_check="off")
    for core in (slow, silent):
        assert core.edge_rates.total == pytest.approx(uniform / 2)
    with pytest.raises(ValueError, match="rates_check: expected one of refuse, warn, off, got 'no'"):
        NetworkQuadratic(nodes=4, rates_check="no")


def test_other_methods_on_the_edges_clock_need_no_condition() -> None:
    assert NetworkQuadratic(nodes=4, clock="edges").edge_rates.total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("message", np.zeros((4, 2, 2)), r"message: expected shape \(4, 1, 2\), got \(4, 2, 2\)"),
        ("message", np.zeros((4, 2)), r"message: expected shape \(4, 1, 2\), got \(4, 2\)"),
        ("query", np.zeros((3, 2)), r"query: expected shape \(4, 2\), got \(3, 2\)"),
        ("query", np.full((4, 2), np.nan), "query"),
        ("recommendation", "here", "recommendation"),
        ("recommendation", None, "recommendation"),
    ],
)
def test_a_bad_action_is_refused_and_nothing_happens(field: str, value: Any, message: str) -> None:
    env, twin = (gym.make(ID, nodes=4, disable_env_checker=True) for _ in range(2))
    env.reset(seed=0)
    twin.reset(seed=0)
    good = {
        "query": np.ones((4, 2)),
        "message": np.ones((4, 1, 2)),
        "recommendation": np.ones((4, 2)),
    }
    bad = good | {field: value}
    if value is None:
        del bad[field]
    with pytest.raises(InvalidAction, match=message):
        env.step(bad)
    one, other = env.step(good), twin.step(good)
    assert one[1:4] == other[1:4]
    for name, shown in one[0].items():
        assert np.array_equal(shown, other[0][name])


def test_a_vector_of_networks_refuses_the_wrong_batch() -> None:
    env = gym.make_vec(ID, num_envs=2, nodes=4)
    env.reset(seed=0)
    action = {
        "query": torch.ones(3, 4, 2, dtype=torch.float64),
        "message": torch.ones(3, 4, 1, 2, dtype=torch.float64),
        "recommendation": torch.ones(3, 4, 2, dtype=torch.float64),
    }
    with pytest.raises(InvalidAction, match=r"\(2, 4, "):
        env.step(action)


def test_a_diverging_method_ends_its_own_episode_alone() -> None:
    """Infinite iterates of one instance are truncated; the other goes on."""
    core = NetworkQuadratic(nodes=3, metric="stale")
    state = core.reset(keys_from_seed(0, 2))
    point = torch.zeros(2, 3, 2, dtype=torch.float64)
    point[0] = torch.inf
    for _ in range(10):
        state = core.step(state, {"query": point, "message": point.unsqueeze(2), "recommendation": point})
        if state.diverged[0]:
            break
    assert state.diverged.tolist() == [True, False]
    assert state.truncated.tolist() == [True, False]
