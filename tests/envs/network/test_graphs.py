"""Graphs: what they hold, which are refused, and the families against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from optenvs.core.errors import UnknownKeyword, UnknownName
from optenvs.envs.network.graphs import (
    FAMILIES,
    Graph,
    components,
    make_graph,
    make_network,
    random_geometric,
)

EXPECTED = {
    "complete": nx.complete_graph(16),
    "star": nx.star_graph(15),
    "cycle": nx.cycle_graph(16),
    "path": nx.path_graph(16),
    "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4), ordering="sorted"),
    "barbell": nx.barbell_graph(8, 0),
    "lollipop": nx.lollipop_graph(8, 8),
    "exponential": nx.circulant_graph(16, [1, 2, 4, 8]),
}


@pytest.mark.parametrize("family", EXPECTED)
def test_families_are_those_of_networkx(family: str) -> None:
    graph = make_graph(family, 16)
    assert graph.nodes == 16
    assert set(graph.edges) == {(min(edge), max(edge)) for edge in EXPECTED[family].edges}
    assert graph.name == family


def test_the_exponential_graph_has_all_powers_below_n() -> None:
    assert set(make_graph("exponential", 7).edges) == {
        (min(i, j), max(i, j)) for i in range(7) for s in (1, 2, 4) for j in [(i + s) % 7]
    }
    assert len(make_graph("exponential", 8).edges) == 8 + 8 + 4  # i + 4 and i - 4 are one node


@pytest.mark.parametrize("family", FAMILIES)
def test_small_graphs(family: str) -> None:
    if family not in ("barbell", "lollipop"):
        assert make_graph(family, 1).edges == ()
    if family != "grid":
        assert make_graph(family, 2).edges == ((0, 1),)


def test_matrices() -> None:
    graph = Graph(4, ((2, 0), (0, 1), (3, 2)))
    assert graph.edges == ((0, 1), (0, 2), (2, 3))
    assert graph.degree.tolist() == [2, 1, 2, 1]
    assert graph.adjacency.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]]
    assert graph.incidence.tolist() == [[1, 1, 0], [-1, 0, 0], [0, -1, 1], [0, 0, -1]]
    for array in (graph.degree, graph.adjacency, graph.incidence):
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
    assert graph.adjacency is graph.adjacency


def test_graphs_are_equal_by_nodes_and_edges() -> None:
    assert Graph(3, ((1, 0), (2, 1)), "one") == Graph(3, ((1, 2), (0, 1)), "other")
    assert hash(Graph(3, ((1, 0), (2, 1)), "one")) == hash(Graph(3, ((1, 2), (0, 1)), "other"))


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        (5, ((0, 1), (1, 2), (4, 3)), r"one of 2 components; no edge joins the node\(s\) 3, 4 to"),
        (3, ((0, 1),), r"no edge joins the node\(s\) 2 to"),
        (2, ((0, 1), (1, 1)), "expected no loop, got one at node 1"),
        (2, ((0, 2),), r"expected nodes 0 to 1, got the edge \(0, 2\)"),
        (2, ((-1, 0),), r"expected nodes 0 to 1, got the edge \(-1, 0\)"),
        (2, ((0, 1), (1, 0)), r"expected each edge once, got \(0, 1\) again"),
        (3, ((0, 1, 2),), r"expected pairs of nodes, got \(0, 1, 2\)"),
        (0, (), "nodes: expected at least 1, got 0"),
    ],
)
def test_bad_graphs(nodes: int, edges: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(nodes, edges)


def test_bad_types() -> None:
    with pytest.raises(TypeError, match="edges: expected an integer, got 1.5"):
        Graph(2, ((0, 1.5),))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nodes: expected an integer, got 2.0"):
        make_graph("path", 2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="graph: expected a name, a Graph"):
        make_graph(3)
    with pytest.raises(TypeError, match="nodes: expected how many nodes the star graph has"):
        make_graph("star")
    with pytest.raises(ValueError, match="positions: expected 2 points, got 1"):
        Graph(2, ((0, 1),), positions=((0.0, 0.0),))


def test_bad_names_and_options() -> None:
    with pytest.raises(UnknownName, match="no graph is called 'cycel'; did you mean 'cycle'"):
        make_graph("cycel", 4)
    with pytest.raises(UnknownKeyword, match="path got an unexpected keyword argument 'radius'"):
        make_graph("path", 4, radius=0.5)
    with pytest.raises(UnknownKeyword, match="got an unexpected keyword argument 'seed'"):
        make_graph([(0, 1)], 2, seed=0)
    with pytest.raises(ValueError, match=r"a grid expects a square number, got 10 \(next: 9, 16\)"):
        make_graph("grid", 10)
    with pytest.raises(ValueError, match="a barbell expects an even number, got 5"):
        make_graph("barbell", 5)
    with pytest.raises(ValueError, match="a lollipop expects an even number, got 7"):
        make_graph("lollipop", 7)
    with pytest.raises(ValueError, match="nodes: expected at least 1, got 0"):
        make_graph("complete", 0)
    for radius in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="radius: expected a number > 0"):
            make_graph("random_geometric", 4, radius=radius)
    with pytest.raises(ValueError, match="count: expected at least 1 graph, got 0"):
        make_network("random_geometric", 4, count=0)
    with pytest.raises(ValueError, match="expected one graph, got 3"):
        make_graph("random_geometric", 4, count=3)


def test_given_graphs() -> None:
    square = make_graph("cycle", 4)
    assert make_graph(square) is square
    assert make_graph([(0, 1), (1, 2), (2, 3), (3, 0)]) == square
    assert make_graph(np.array([[0, 1], [1, 2], [2, 3], [3, 0]])) == square
    named = nx.Graph([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")], name="town")
    assert make_graph(named) == square and make_graph(named).name == "town"
    assert make_network([square, "path", named], 4) == (square, make_graph("path", 4), square)
    assert make_network([[(0, 1)], make_graph("path", 2)]) == (make_graph("path", 2),) * 2
    assert make_graph([], 1).edges == ()
    with pytest.raises(ValueError, match="nodes: expected 5 in every graph, got 4 in cycle"):
        make_graph(square, 5)
    with pytest.raises(ValueError, match="nodes: expected 4 in every graph, got 3 in path"):
        make_network([square, make_graph("path", 3)])
    with pytest.raises(ValueError, match="expected a connected graph"):
        make_graph([(0, 1)], 3)
    for wrong in (nx.DiGraph([(0, 1)]), nx.MultiGraph([(0, 1)])):
        with pytest.raises(ValueError, match="expected an undirected networkx.Graph without parallel edges"):
            make_graph(wrong)
    with pytest.raises(ValueError, match="expected no loop"):
        make_graph(nx.Graph([(0, 1), (1, 1)]))


def test_components() -> None:
    assert components(6, [(4, 2), (5, 0), (2, 3)]) == [[0, 5], [1], [2, 3, 4]]


def test_random_geometric_joins_the_near_points() -> None:
    (graph,) = random_geometric(30, 0.3, 3)
    assert graph.positions is not None
    points = np.array(graph.positions)
    assert points.min() >= 0 and points.max() < 1 and len(np.unique(points)) == 60
    near = {(i, j) for i in range(30) for j in range(i) if np.hypot(*(points[i] - points[j])) <= 0.3}
    parts = components(30, near)
    assert {(j, i) for i, j in near} <= set(graph.edges)
    assert len(graph.edges) == len(near) + len(parts) - 1


def test_random_geometric_bridges_consecutive_components() -> None:
    for graph in random_geometric(12, 0.1, 0, count=20):
        points = np.array(graph.positions)
        near = [(i, j) for i, j in graph.edges if np.hypot(*(points[i] - points[j])) <= 0.1]
        parts = components(12, near)
        assert len(parts) > 2
        place = {node: number for number, part in enumerate(parts) for node in part}
        bridges = [sorted((place[i], place[j])) for i, j in set(graph.edges) - set(near)]
        assert sorted(bridges) == [[k, k + 1] for k in range(len(parts) - 1)]


def test_random_geometric_is_a_function_of_its_seed() -> None:
    five, three = random_geometric(10, 0.4, 7, count=5), random_geometric(10, 0.4, 7, count=3)
    assert five[:3] == three and five[0].positions == three[0].positions
    assert len(set(five)) == 5
    assert random_geometric(10, 0.4, 8) != random_geometric(10, 0.4, 7)
    assert make_network("random_geometric", 10, seed=7, count=5) == five
