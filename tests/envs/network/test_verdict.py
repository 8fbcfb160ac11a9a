"""Exponents of large graphs and of lists against the dense ones, and what is said of slow rates."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from optenvs.envs.network import alike, verdict
from optenvs.envs.network.alike import alike_exponent
from optenvs.envs.network.exponent import Jumps, dadao_jumps, mean_square_exponent
from optenvs.envs.network.graphs import make_graph
from optenvs.envs.network.krylov import largest
from optenvs.envs.network.rates import edge_rates
from optenvs.envs.network.switching import generator, period_exponent, switching_exponent
from optenvs.envs.network.verdict import RateWarning, worst_exponent

STAR = make_graph("star", 4)


@pytest.mark.parametrize("kappa", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize(
    ("family", "nodes"), [("path", 2), ("star", 6), ("cycle", 7), ("complete", 5), ("lollipop", 6)]
)
def test_equal_nodes_by_the_dense_equation(family: str, nodes: int, kappa: float) -> None:
    graph = make_graph(family, nodes)
    for share in (1.0, 0.8, 0.5):
        rates = share * edge_rates(graph).rates[0] * np.linspace(0.8, 1.2, len(graph.edges))
        for a in (1.0, kappa):
            expected = mean_square_exponent(graph, rates, np.full(nodes, a), 1.0, kappa)
            assert alike_exponent(graph, rates, a, 1.0, kappa) == pytest.approx(expected, rel=1e-7, abs=1e-8)


def test_a_large_graph_has_a_sign() -> None:
    graph = make_graph("star", 100)
    uniform = edge_rates(graph).rates
    assert worst_exponent((graph,), uniform, 1.0, 10.0) == pytest.approx(-0.041375, abs=1e-6)
    with pytest.warns(RateWarning, match=r"still converges.* is -0.04\d+ \(negative\)"):
        edge_rates(graph, 0.95 * 99)
    with pytest.raises(
        ValueError, match=r"chi_1 chi_2 = 2 .*it diverges: .* is \+0.35.*multiply the rates by 2$"
    ):
        edge_rates(graph, 99 / 2)


def test_an_exponent_that_does_not_solve_its_equation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "crossing", lambda radius, start, tolerance: start + 1.0)
    with pytest.raises(ArithmeticError, match="the exponent solves its equation to"):
        alike_exponent(STAR, np.ones(3), 1.0, 1.0, 10.0)


def test_the_largest_eigenvalue_of_a_matrix() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 3, 200):
        matrix = rng.uniform(size=(size, size))
        value, vector = largest(lambda v, m=matrix: m @ v, np.ones(size))
        assert value == pytest.approx(np.linalg.eigvals(matrix).real.max(), rel=1e-9)
        assert matrix @ vector == pytest.approx(value * vector, abs=1e-7 * value) and vector.min() >= 0
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    rotations = np.kron(np.eye(100), turn) * np.repeat(np.linspace(1, 2, 100), 2)  # keeps no cone
    with pytest.raises(ArithmeticError, match="spectral radius is not found"):
        largest(lambda v: rotations @ v, np.ones(200))


def test_the_generator_is_that_of_the_second_moment() -> None:
    rng = np.random.default_rng(0)
    system = Jumps(
        rng.normal(size=(4, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), np.arange(1.0, 4)
    )
    root = rng.normal(size=(4, 4))
    moment, upper = root @ root.T, np.triu_indices(4)
    slope = system.drift @ moment + moment @ system.drift.T
    for u, v, rate in zip(system.out, system.seen, system.rates, strict=True):
        jump = np.eye(4) + np.outer(u, v)
        slope += rate * (jump @ moment @ jump.T - moment)
    assert generator(system) @ moment[upper] == pytest.approx(slope[upper])


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_one_graph_twice_is_that_graph(share: float) -> None:
    rates, a = share * edge_rates(STAR).rates[0], np.array([1.0, 3.0, 5.0, 10.0])
    expected = mean_square_exponent(STAR, rates, a, 1.0, 10.0)
    assert switching_exponent((STAR, STAR), (rates, rates), a, 1.0, 10.0) == pytest.approx(expected, rel=1e-7)


def test_turns_by_two_systems_of_one_variable() -> None:
    # each alone: 2 a + r ((1 + j)^2 - 1); in turn, the mean of the two
    first = Jumps(np.array([[-0.3]]), np.array([[0.5]]), np.array([[1.0]]), np.array([2.0]))
    second = Jumps(np.array([[-2.0]]), np.array([[-0.5]]), np.array([[1.0]]), np.array([1.0]))
    assert period_exponent((first, second), 0.7) == pytest.approx((1.9 - 4.75) / 2)


def test_a_list_has_a_sign() -> None:
    graphs = (make_graph("path", 3), make_graph("complete", 3))
    total = edge_rates(graphs).total
    with pytest.warns(RateWarning, match=r"still converges.* \(negative\)"):
        edge_rates(graphs, 0.95 * total)
    with pytest.raises(ValueError, match=r"it diverges: .* is \+"):
        edge_rates(graphs, 0.5 * total)


def test_a_list_by_the_whole_generators() -> None:
    graphs, a = (make_graph("path", 3), make_graph("complete", 3)), np.array([1.0, 3.0, 10.0])
    rates = edge_rates(graphs)
    one, whole = np.eye(16), np.eye(256)
    for graph, rate in zip(graphs, rates.rates, strict=True):
        system = dadao_jumps(graph, rate, a, 1.0, 10.0, rates.chi1)
        total = np.kron(system.drift, one) + np.kron(one, system.drift)
        for u, v, each in zip(system.out, system.seen, system.rates, strict=True):
            jump = np.outer(u, v)
            total += each * (np.kron(jump, one) + np.kron(one, jump) + np.kron(jump, jump))
        factor = torch.linalg.matrix_exp(torch.from_numpy(total / rates.switch_rate))
        whole = factor.numpy() @ whole
    expected = np.log(np.abs(np.linalg.eigvals(whole)).max()) * rates.switch_rate / 2
    assert expected == pytest.approx(-0.04959828, abs=1e-7)
    assert switching_exponent(graphs, rates.rates, a, 1.0, 10.0) == pytest.approx(expected, rel=1e-7)


def test_the_worst_exponent_is_the_largest_of_three() -> None:
    graph = make_graph("cycle", 5)
    rates = 0.9 * edge_rates(graph).rates[0]
    families = (np.ones(5), np.full(5, 8.0), np.geomspace(1, 8, 5))
    each = [mean_square_exponent(graph, rates, a, 1.0, 8.0) for a in families]
    assert worst_exponent((graph,), (rates,), 1.0, 8.0) == max(each)


def test_what_is_too_large_is_warned_of_without_a_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(RateWarning, match="chi_1 chi_2 = 2 .*not known: the graph is too large"):
        edge_rates(make_graph("star", 301), 150)
    monkeypatch.setattr(verdict, "LARGEST_PERIOD", 1000)
    with pytest.warns(RateWarning, match="chi_1 chi_2 = 2 .*not known: the graphs are too large"):
        edge_rates((STAR, STAR), 1.5)


def test_an_exponent_that_is_not_found_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> float:
        raise ArithmeticError("found to 1e-3 only")

    monkeypatch.setattr(verdict, "mean_square_exponent", fail)
    with pytest.warns(RateWarning, match="chi_1 chi_2 = 2 .*not known: found to 1e-3 only"):
        edge_rates(STAR, 1.5)


def test_the_check_can_be_less_strict() -> None:
    with pytest.warns(RateWarning, match=r"it diverges: .* is \+0.5"):
        assert edge_rates(STAR, 1.5, check="warn").total == 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert edge_rates(STAR, 1.5, check="off").total == 1.5
    with pytest.raises(ValueError, match="rates_check: expected one of refuse, warn, off, got 'maybe'"):
        edge_rates(STAR, check="maybe")
