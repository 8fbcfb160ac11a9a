"""Pictures of networks: errors of the nodes, who is active, and where the nodes are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from network_gossip import episode

from optenvs.envs.network import picture
from optenvs.envs.network.graphs import Graph, make_graph
from optenvs.envs.network.quadratic import NetworkQuadratic

CORE = NetworkQuadratic(nodes=6, t_max=3.0)


def test_errors_are_those_of_the_last_published_iterates() -> None:
    states, _ = episode(CORE, batch=1)
    assert picture.errors(CORE, states[-1]).mean() == pytest.approx(float(states[-1].merit[0]))
    assert not np.allclose(picture.errors(CORE, states[0]), picture.errors(CORE, states[-1]))


def test_active_edges_are_those_asked_to_exchange() -> None:
    states, _ = episode(CORE, batch=1)
    exchanges = gradients = 0
    for place, state in enumerate(states[:-1]):
        edges, computes = picture.activity(CORE, states[: place + 1])
        assert {tuple(edge) for edge in edges.tolist()} <= set(CORE.graphs[0].edges)
        following = states[place + 1].calls
        assert len(edges) == int(following["exchange"][0] - state.calls["exchange"][0])
        assert computes.sum() == int(following["gradient"][0] - state.calls["gradient"][0])
        exchanges, gradients = exchanges + len(edges), gradients + int(computes.sum())
    assert min(exchanges, gradients) > 5


def test_all_edges_are_active_in_a_round() -> None:
    core = NetworkQuadratic(nodes=6, t_max=3.0, clock="rounds", graph=["cycle", "star"])
    states, _ = episode(core, batch=1)
    assert len(picture.activity(core, states[:1])[0]) == 0, "reset sends nothing"
    assert [len(picture.activity(core, states[:n])[0]) for n in (2, 3)] == [6, 5]
    assert picture.activity(core, states)[1].all()


def test_the_drawn_graph_is_the_active_one() -> None:
    core = NetworkQuadratic(nodes=6, t_max=3.0, graph=["cycle", "star"])
    states, _ = episode(core, batch=1)
    names = {picture.active_graph(core, state).name for state in states}
    assert names == {"cycle", "star"}


@pytest.mark.parametrize(
    "graph", ["star", "cycle", "grid", "path", "barbell", "random_geometric", "exponential"]
)
def test_no_two_nodes_are_drawn_in_one_place(graph: str) -> None:
    place = picture.layout(make_graph(graph, 16))
    gap = np.linalg.norm(place[:, None] - place[None], axis=-1) + np.eye(16)
    assert gap.min() > 1e-3


def test_layouts() -> None:
    grid = picture.layout(make_graph("grid", 9))
    for i, j in make_graph("grid", 9).edges:
        assert np.linalg.norm(grid[i] - grid[j]) == pytest.approx(1.0)
    star = picture.layout(make_graph("star", 5))
    assert np.allclose(np.linalg.norm(star, axis=1), [0, 1, 1, 1, 1])
    given = Graph(2, ((0, 1),), positions=((0.1, 0.2), (0.3, 0.4)))
    assert picture.layout(given).tolist() == [[0.1, 0.2], [0.3, 0.4]]
    assert picture.layout(make_graph("cycle", 1)).shape == (1, 2)


@pytest.mark.parametrize(
    "keywords",
    [{}, {"clock": "rounds"}, {"clock": "edges"}, {"nodes": 1, "graph": "path"}, {"nodes": 70}],
)
def test_it_draws(keywords: dict[str, Any]) -> None:
    core = NetworkQuadratic(**({"nodes": 5, "t_max": 0.5} | keywords))
    states, _ = episode(core, batch=1)
    image = core.picture(states[:10])
    assert image.dtype == np.uint8
    assert image.shape == (440, 1000, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_the_curves_are_the_errors_against_both_costs() -> None:
    states, _ = episode(CORE, batch=1)
    axes = Figure().subplots()
    picture.draw_progress(axes, CORE, states)
    for line, kind in zip(axes.get_lines(), ("gradient", "exchange"), strict=True):
        x, y = (np.asarray(part) for part in line.get_data())
        assert x.tolist() == [int(state.calls[kind][0]) for state in states]
        assert np.allclose(y, [float(state.metrics["error"][0]) for state in states])
