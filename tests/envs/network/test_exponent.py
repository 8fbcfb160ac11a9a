"""The exact exponent against the whole generator of the second moment."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optenvs.envs.network import exponent
from optenvs.envs.network.exponent import (
    Jumps,
    averaging_exponent,
    centred,
    dadao_jumps,
    growth_rate,
    mean_square_exponent,
)
from optenvs.envs.network.graphs import make_graph
from optenvs.envs.network.rates import edge_rates


def by_generator(system: Jumps) -> float:
    """The largest real part of the generator on all matrices: A (+) A + sum r (J (+) J + J (x) J)."""
    one = np.eye(len(system.drift))
    total = np.kron(system.drift, one) + np.kron(one, system.drift)
    for u, v, rate in zip(system.out, system.seen, system.rates, strict=True):
        jump = np.outer(u, v)
        total += rate * (np.kron(jump, one) + np.kron(one, jump) + np.kron(jump, jump))
    return float(np.linalg.eigvals(total).real.max())


@pytest.mark.parametrize("kappa", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize(("family", "nodes"), [("path", 1), ("path", 2), ("star", 4), ("complete", 3)])
@pytest.mark.parametrize("share", [1.0, 0.8, 0.4])
def test_dadao_by_the_generator(family: str, nodes: int, kappa: float, share: float) -> None:
    graph = make_graph(family, nodes)
    rates = share * edge_rates(graph).rates[0]
    system = dadao_jumps(graph, rates, np.geomspace(1, kappa, nodes), 1.0, kappa)
    assert growth_rate(system) == pytest.approx(by_generator(system), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_system_by_the_generator(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(10):
        drift, out, seen = (rng.normal(size=(rows, 5)) for rows in (5, count, count))
        system = Jumps(drift, out, seen, rng.uniform(0.1, 2, count))
        assert growth_rate(system) == pytest.approx(by_generator(system), rel=1e-8, abs=1e-8)


def test_the_square_of_the_mean_when_no_jump_reaches_the_slowest_variable() -> None:
    system = Jumps(np.diag([-0.1, -3.0]), np.array([[0.0, 1.0]]), np.array([[0.0, -1.0]]), np.ones(1))
    assert growth_rate(system) == pytest.approx(-0.2)
    # alone, s' = a s and s -> (1 + j) s at rate r: exponent 2 a + r ((1 + j)^2 - 1)
    alone = Jumps(np.array([[-0.3]]), np.array([[0.5]]), np.array([[1.0]]), np.array([2.0]))
    assert growth_rate(alone) == pytest.approx(-0.6 + 2 * 1.25)
    assert growth_rate(Jumps(np.zeros((0, 0)), np.zeros((1, 0)), np.zeros((1, 0)), np.ones(1))) == -math.inf


@pytest.mark.parametrize("momentum", [False, True])
def test_averaging_by_the_generator(momentum: bool) -> None:
    graph = make_graph("lollipop", 6)
    rates = np.linspace(0.3, 1.0, len(graph.edges))
    edges, basis = graph.incidence.T, centred(6)
    matrix = (edges.T * rates) @ edges
    first = 1 / np.linalg.eigvalsh(matrix)[1]
    second = (edges @ np.linalg.pinv(matrix) * edges).sum(1).max() / 2
    eta, extra = 0.5 / math.sqrt(first * second), 0.5 * math.sqrt(first / second)
    drift = eta * np.array([[-1, 1], [1, -1]]) if momentum else np.zeros((1, 1))
    u, v = (np.array([-0.5, -extra]), np.array([1, 0])) if momentum else (np.array([-0.5]), np.ones(1))
    whole = Jumps(np.kron(np.eye(6), drift), np.kron(edges, u), np.kron(edges, v), rates)
    expected = by_generator(whole.on(np.kron(basis, np.eye(len(drift)))))
    assert averaging_exponent(graph, rates, momentum) == pytest.approx(expected, rel=1e-8)


def test_averaging_on_two_nodes_is_over_at_the_first_event() -> None:
    assert averaging_exponent(make_graph("path", 2), np.array([0.7])) == pytest.approx(-0.7)
    assert averaging_exponent(make_graph("path", 1), np.zeros(0)) == -math.inf


def test_a_root_that_does_not_solve_its_equation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph("path", 2)
    monkeypatch.setattr(exponent, "_root", lambda function, low, high, tolerance: (low + high) / 2)
    with pytest.raises(ArithmeticError, match="the exponent solves its equation to"):
        mean_square_exponent(graph, np.ones(1), np.array([1.0, 10.0]), 1.0, 10.0)


def test_the_basis_is_orthonormal_and_of_sum_zero() -> None:
    basis = centred(7)
    assert basis.T @ basis == pytest.approx(np.eye(6), abs=1e-12)
    assert basis.sum(0) == pytest.approx(np.zeros(6), abs=1e-12)
