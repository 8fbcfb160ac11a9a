"""Constants of the Laplacian against definitions that share no code with them."""

from __future__ import annotations

import numpy as np
import pytest

from optenvs.envs.network.graphs import Graph, make_graph, make_network
from optenvs.envs.network.spectra import (
    chi1,
    chi2,
    communications,
    condition,
    laplacian,
    metropolis,
    resistances,
    uniform_total_rate,
    worst,
)

GRAPHS = [make_graph("grid", 9), make_graph("barbell", 10), make_graph("exponential", 7)]


def some_rates(graph: Graph) -> np.ndarray:
    return 0.5 + np.arange(len(graph.edges)) % 5


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_laplacian_chi1_chi2_by_definition(graph: Graph) -> None:
    rates, matrix = some_rates(graph), np.zeros((graph.nodes, graph.nodes))
    for (i, j), rate in zip(graph.edges, rates, strict=True):
        matrix[[i, j], [i, j]] += rate
        matrix[[i, j], [j, i]] -= rate
    assert np.allclose(laplacian(graph, rates), matrix, atol=1e-12)
    values = np.sort(np.linalg.eigvals(matrix).real)
    assert chi1(graph, rates) == pytest.approx(1 / values[1], rel=1e-10)
    inverse = np.linalg.pinv(matrix)
    expected = [inverse[i, i] + inverse[j, j] - 2 * inverse[i, j] for i, j in graph.edges]
    assert resistances(graph, rates) == pytest.approx(expected, rel=1e-10)
    assert chi2(graph, rates) == pytest.approx(max(expected) / 2, rel=1e-10)
    assert chi2(graph, rates) <= chi1(graph, rates)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_equal_rates_of_sum_one_and_scaling(graph: Graph) -> None:
    equal = np.full(len(graph.edges), 1 / len(graph.edges))
    assert np.trace(laplacian(graph)) == pytest.approx(2)
    assert chi1(graph) == pytest.approx(chi1(graph, equal)) == pytest.approx(3 * chi1(graph, 3 * equal))
    assert chi2(graph) == pytest.approx(chi2(graph, equal)) == pytest.approx(3 * chi2(graph, 3 * equal))
    # Foster: sum of lambda_e R_e = n - 1
    rates = some_rates(graph)
    assert rates @ resistances(graph, rates) == pytest.approx(graph.nodes - 1, rel=1e-10)


def test_extreme_rates_keep_their_digits() -> None:
    path = make_graph("path", 3)
    assert chi2(path, np.array([1e-9, 1e-9])) == pytest.approx(5e8, rel=1e-9)
    assert chi2(path, np.array([1e9, 1e9])) == pytest.approx(5e-10, rel=1e-9)


def test_the_worst_of_several_graphs() -> None:
    graphs = (make_graph("path", 10), make_graph("barbell", 10))
    assert worst(graphs) == (chi1(graphs[0]), chi2(graphs[1]))  # each from the other graph
    assert uniform_total_rate(graphs) == pytest.approx(np.sqrt(2 * chi1(graphs[0]) * chi2(graphs[1])))
    rates = (np.full(9, 2.0), np.full(21, 3.0))
    firsts, seconds = zip(*map(worst, graphs, ((rate,) for rate in rates)), strict=True)
    assert worst(graphs, rates) == (max(firsts), max(seconds))
    assert condition(graphs) == max(condition(graph) for graph in graphs)
    assert communications(graphs)["adom_plus"] == 15
    with pytest.raises(ValueError, match="network: expected at least one graph, got none"):
        worst(())


def test_one_node_and_two() -> None:
    one, two = make_graph("path", 1), make_graph("path", 2)
    assert worst(one) == (0.0, 0.0) and uniform_total_rate(one) == 0 and condition(one) == 1
    assert set(communications(one).values()) == {0.0}
    assert metropolis(one).tolist() == [[1.0]]
    assert worst(two) == pytest.approx((0.5, 0.5)) and condition(two) == 1
    assert uniform_total_rate(two) == pytest.approx(np.sqrt(0.5))


def test_the_root_in_msda_is_not_rounded_down() -> None:
    # chi of a star is n, and the square roots of 4, 9, 16, ... are whole
    for root in range(2, 8):
        star = make_graph("star", root**2)
        assert communications(star)["msda"] == (root**2 - 1) * root


@pytest.mark.parametrize("graph", [*GRAPHS, *make_network("random_geometric", 12, count=2)], ids=str)
def test_metropolis(graph: Graph) -> None:
    weights = metropolis(graph)
    for i in range(graph.nodes):
        for j in range(graph.nodes):
            if i != j:
                linked = (min(i, j), max(i, j)) in graph.edges
                assert weights[i, j] == (linked and 1 / (1 + max(graph.degree[i], graph.degree[j])))
    assert weights.sum(0) == pytest.approx(np.ones(graph.nodes))
    assert (weights == weights.T).all()
    assert np.linalg.eigvalsh(weights)[[0, -2]] == pytest.approx([0, 0], abs=1 - 1e-3)
