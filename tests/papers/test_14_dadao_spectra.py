"""Acceptance checks of DADAO (Nabli, Oyallon 2023) without events: constants, exponents, optimal rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from optenvs.envs.network.exponent import averaging_exponent, centred, dadao_jumps, mean_square_exponent
from optenvs.envs.network.graphs import make_graph
from optenvs.envs.network.rates import edge_rates
from optenvs.envs.network.spectra import chi1, chi2, communications, uniform_total_rate

pytestmark = pytest.mark.paper

N = 10
TURN, HALF = 2 * (1 - math.cos(2 * math.pi / N)), 2 * (1 - math.cos(math.pi / N))
# chi_1, chi_2 and the total rate of equal rates
CLOSED = {
    "complete": ((N - 1) / 2, (N - 1) / 2, (N - 1) / math.sqrt(2)),
    "star": (N - 1, (N - 1) / 2, N - 1),
    "cycle": (N / TURN, (N - 1) / 2, math.sqrt(N * (N - 1) / TURN)),
    "path": ((N - 1) / HALF, (N - 1) / 2, math.sqrt((N - 1) ** 2 / HALF)),
}
# edge activations in 200 rounds of ADOM+ and of ADOM+ with multi-consensus, by the paper's code
ROUNDS = {
    "complete": (9000, 9000),
    "cycle": (2000, 16000),
    "star": (1800, 12600),
    "path": (1800, 50400),
    "grid": (2400, 12000),
    "barbell": (4200, 67200),
}
# a_i and L (mu = 1); the exponents at the uniform total rate and at half of it
EXPONENTS = {
    "path": ((1, 10), 10, -0.054201, 0.403156),
    "cycle": ((1, 10, 4, 7), 10, -0.043325, 0.480605),
    "star": ((1, 10, 4, 7), 10, -0.043305, 0.568028),
    "complete": ((1, 2, 3), 3, -0.081798, 0.334078),
}
# nodes, the total of the optimal rates, that of equal rates
OPTIMAL = [
    ("star", 10, 9.0, 9.0),
    ("complete", 6, 3.5355, 3.5355),
    ("cycle", 10, 15.35, 15.35),
    ("path", 10, 28.7660, 28.7660),
    ("grid", 9, 9.8337, 10.0995),
    ("barbell", 6, 8.2210, 10.5716),
    ("barbell", 10, 18.2151, 38.4408),
    ("lollipop", 10, 25.1032, 40.5189),
]


@pytest.mark.parametrize("family", CLOSED)
def test_1_closed_forms(family: str) -> None:
    graph = make_graph(family, N)
    found = (chi1(graph), chi2(graph), uniform_total_rate(graph))
    assert found == pytest.approx(CLOSED[family], abs=1e-8, rel=0)


def test_1_any_tree_has_one_chi2() -> None:
    tree = make_graph([(0, 1), (0, 2), (1, 3), (1, 4), (4, 5), (2, 6), (6, 7), (6, 8), (8, 9)])
    assert chi2(tree) == pytest.approx((N - 1) / 2, abs=1e-8)


def test_1_communications_on_a_star_of_300() -> None:
    found = communications(make_graph("star", 300))
    order = ("adom_plus", "adom_plus_mc", "continuized", "msda", "dadao")
    assert [int(found[name] + 1e-9) for name in order] == [299, 62192, 299, 5083, 299]


@pytest.mark.parametrize("family", ROUNDS)
def test_1_communications_of_200_rounds(family: str) -> None:
    found = communications(make_graph(family, 9 if family == "grid" else N))
    assert (200 * found["adom_plus"], 200 * found["adom_plus_mc"]) == ROUNDS[family]


def test_1_grid_and_barbell() -> None:
    grid, barbell = make_graph("grid", 9), make_graph("barbell", N)
    assert (chi1(grid), chi2(grid), uniform_total_rate(grid)) == pytest.approx((12, 4.25, 10.10), abs=5e-3)
    found = (chi1(barbell), chi2(barbell), uniform_total_rate(barbell))
    assert found == pytest.approx((70.37, 10.50, 38.44), abs=5e-3)


def exponent_at(family: str, share: float) -> float:
    a, L, *_ = EXPONENTS[family]
    graph = make_graph(family, len(a))
    return mean_square_exponent(graph, share * edge_rates(graph).rates[0], np.array(a, float), 1.0, L)


@pytest.mark.parametrize("family", EXPONENTS)
def test_2_exact_exponent(family: str) -> None:
    _, L, exponent, _ = EXPONENTS[family]
    found = exponent_at(family, 1.0)
    assert found == pytest.approx(exponent, abs=1e-5)
    assert found <= -math.sqrt(1 / L) / (8 * math.sqrt(2))


@pytest.mark.parametrize("kappa", [1, 2, 10, 100])
@pytest.mark.parametrize(
    ("family", "nodes"), [("path", 2), ("path", 4), ("cycle", 4), ("star", 4), ("complete", 4)]
)
def test_2_ratio_to_the_bound(family: str, nodes: int, kappa: float) -> None:
    graph = make_graph(family, nodes)
    a = np.geomspace(1, kappa, nodes)
    found = mean_square_exponent(graph, edge_rates(graph).rates[0], a, 1.0, kappa)
    assert 1.47 < -found * math.sqrt(kappa) * 8 * math.sqrt(2) < 2.0


@pytest.mark.parametrize("family", EXPONENTS)
def test_3_the_rate_condition_is_sharp(family: str) -> None:
    assert exponent_at(family, 0.5) == pytest.approx(EXPONENTS[family][3], abs=1e-5)
    assert exponent_at(family, 2.0) == pytest.approx(exponent_at(family, 1.0), rel=0.002)


def test_4_exact_law_of_the_mean_square() -> None:
    # on path2 with b = (0, 1), from x = (1, -1) and zeros: what a simulator of the events must meet
    graph, a, b = make_graph("path", 2), np.array([1.0, 10.0]), np.array([0.0, 1.0])
    system = dadao_jumps(graph, edge_rates(graph).rates[0], a, 1.0, 10.0)
    best, start = a @ b / a.sum(), np.zeros((2, 6))
    gradient = a * (best - b)
    start[:, 0] = np.array([1.0, -1.0]) - best
    start[:, 1] = -best
    start[:, [2, 3]] = (0.5 * best - gradient)[:, None]
    start[:, [4, 5]] = gradient[:, None]
    state = np.concatenate((start[:, :4].ravel(), (centred(2).T @ start[:, 4:]).ravel()))
    one = np.eye(len(state))
    mean = system.drift + (system.out.T * system.rates) @ system.seen
    generator = np.kron(mean, one) + np.kron(one, mean)
    for u, v, rate in zip(system.out, system.seen, system.rates, strict=True):
        generator += rate * np.outer(np.kron(u, u), np.kron(v, v))
    for time, expected in ((5, 0.831226), (20, 0.535239), (60, 0.078511)):
        flow = torch.linalg.matrix_exp(torch.from_numpy(generator * time)).numpy()
        moment = (flow @ np.outer(state, state).ravel()).reshape(len(state), -1)
        assert moment[[0, 4], [0, 4]].mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("family", "nodes", "optimal", "equal"), OPTIMAL)
def test_7_optimal_rates(family: str, nodes: int, optimal: float, equal: float) -> None:
    graph = make_graph(family, nodes)
    found = edge_rates(graph, "optimal")
    assert found.total == pytest.approx(optimal, abs=1e-3)
    assert edge_rates(graph).total == pytest.approx(equal, abs=1e-3)
    assert found.chi1 * found.chi2 == pytest.approx(0.5, abs=1e-12)
    assert found.total >= (nodes - 1) / math.sqrt(2) - 1e-6


def test_7_same_speed_with_a_fifth_fewer_communications() -> None:
    graph, a = make_graph("barbell", 6), np.array([1.0, 10, 4, 7, 2, 9])
    equal, optimal = edge_rates(graph), edge_rates(graph, "optimal")
    bridge = graph.edges.index((2, 3))
    assert optimal.rates[0][bridge] == pytest.approx(1.859, abs=1e-3)
    assert np.delete(optimal.rates[0], bridge) == pytest.approx(np.full(6, 1.060), abs=1e-3)
    found = [mean_square_exponent(graph, rates.rates[0], a, 1.0, 10.0) for rates in (equal, optimal)]
    assert found == pytest.approx([-0.043365, -0.043230], abs=1e-5)
    assert 1 - optimal.total / equal.total == pytest.approx(0.22, abs=5e-3)


@pytest.mark.parametrize(("nodes", "plain", "momentum"), [(8, -0.26806, -0.35986), (12, -0.13068, -0.25526)])
def test_10_gossip_alone(nodes: int, plain: float, momentum: float) -> None:
    graph, rates = make_graph("cycle", nodes), np.full(nodes, 0.5)
    found = averaging_exponent(graph, rates), averaging_exponent(graph, rates, momentum=True)
    assert found == pytest.approx((plain, momentum), abs=1e-5)
    first, second = chi1(graph, rates), chi2(graph, rates)
    assert found[0] <= -0.5 / first
    assert found[1] <= -0.5 / math.sqrt(first * second)
