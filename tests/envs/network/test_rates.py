"""Edge rates: equal, given, optimal; and what is said when they are too low."""

from __future__ import annotations

import builtins
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from optenvs.envs.network import optimal
from optenvs.envs.network.exponent import centred
from optenvs.envs.network.graphs import make_graph, make_network, random_geometric
from optenvs.envs.network.rates import EdgeRates, edge_rates, optimal_rates
from optenvs.envs.network.spectra import chi1, chi2, uniform_total_rate, worst
from optenvs.envs.network.verdict import RateWarning

STAR = make_graph("star", 4)  # edges 3, total rate 3


def test_uniform() -> None:
    rates = edge_rates(STAR)
    assert rates.rates[0] == pytest.approx([1.0, 1.0, 1.0])
    assert rates.total == pytest.approx(3)
    assert (rates.chi1, rates.chi2) == pytest.approx((1.0, 0.5))
    assert rates.switch_rate == pytest.approx(3)


def test_uniform_over_a_list_is_for_the_worst_constants() -> None:
    graphs = (make_graph("path", 10), make_graph("barbell", 10))
    rates = edge_rates(graphs)
    total = uniform_total_rate(graphs)
    assert [rate.sum() for rate in rates.rates] == pytest.approx([total, total])
    assert rates.chi1 == pytest.approx(chi1(graphs[0]) / total)
    assert rates.chi2 == pytest.approx(chi2(graphs[1]) / total)
    assert rates.chi1 * rates.chi2 == pytest.approx(0.5)
    assert rates.switch_rate == pytest.approx(worst(graphs)[0])


def test_table() -> None:
    rates = edge_rates((make_graph("path", 3), make_graph("complete", 3)))
    edges, chances = rates.table
    assert edges.tolist() == [[[0, 1], [1, 2], [0, 0]], [[0, 1], [0, 2], [1, 2]]]
    assert chances == pytest.approx(np.array([[1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]))


@pytest.mark.parametrize("spec", ["uniform", "optimal"])
def test_one_node(spec: str) -> None:
    rates = edge_rates(make_graph("path", 1), spec)
    assert (rates.total, rates.chi1, rates.chi2) == (0.0, 0.0, 0.0)
    assert rates.table[0].shape == (1, 0, 2)


def test_given_rates() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in ([1.0, 2.0, 3.0], np.array([1, 2, 3]), [[1.0, 2.0, 3.0]]):
            assert edge_rates(STAR, given).rates[0].tolist() == [1, 2, 3]
        assert edge_rates(STAR, 6).rates[0].tolist() == [2, 2, 2]
        pair = edge_rates((STAR, make_graph("path", 4)), ([4.0, 4.0, 4.0], [5.0, 2.0, 5.0]))
    assert pair.total == 12 and pair.rates[1].tolist() == [5, 2, 5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0, 2.0], r"rates: expected one for each of 3 edges, got \(2,\)"),
        ([1.0, 0.0, 1.0], r"expected finite numbers > 0, got 0.0 on the edge \(0, 2\)"),
        ([1.0, 1.0, -2.0], r"expected finite numbers > 0, got -2.0 on the edge \(0, 3\)"),
        ([np.nan, 1.0, 1.0], r"expected finite numbers > 0, got nan on the edge \(0, 1\)"),
        ([np.inf, 1.0, 1.0], r"expected finite numbers > 0, got inf on the edge \(0, 1\)"),
        ("fast", "expected 'uniform', 'optimal' or numbers > 0, got 'fast'"),
        (0, "expected a finite total rate > 0, got 0"),
        (float("inf"), "expected a finite total rate > 0, got inf"),
    ],
)
def test_bad_rates(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edge_rates(STAR, given)


def test_bad_rates_of_a_list() -> None:
    with pytest.raises(ValueError, match="expected one array for each of 2 graphs, got 1"):
        edge_rates((STAR, STAR), [[1.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="expected the same total in every graph, got 3 to 6"):
        edge_rates((STAR, STAR), [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    with pytest.raises(TypeError, match="expected 'uniform', 'optimal' or numbers > 0, got True"):
        edge_rates(STAR, True)


def test_rates_a_little_too_low_are_warned_of() -> None:
    with pytest.warns(RateWarning, match=r"chi_1 chi_2 = 0.617284 .* still converges.*-0.04\d+ \(negative\)"):
        rates = edge_rates(STAR, [0.9, 0.9, 0.9])
    assert rates.total == pytest.approx(2.7)
    assert issubclass(RateWarning, UserWarning)


def test_rates_with_which_it_diverges_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"chi_1 chi_2 = 2 is above .* diverges: .* mu = 1, L = 10 .* is \+0.5"
    ):
        edge_rates(STAR, [0.5, 0.5, 0.5])


def test_the_factor_in_the_message_is_enough() -> None:
    with pytest.raises(ValueError, match="multiply the rates by") as error:
        edge_rates(STAR, [0.5, 0.6, 0.7])
    factor = float(str(error.value).rsplit(" ", 1)[1])
    rates = edge_rates(STAR, 1.001 * factor * np.array([0.5, 0.6, 0.7]))
    assert rates.chi1 * rates.chi2 <= 0.5


def test_the_verdict_depends_on_the_functions() -> None:
    # the same rates converge for L = mu and diverge for L = 100 mu
    with pytest.warns(RateWarning, match="L = 1 "):
        edge_rates(STAR, [0.8, 0.8, 0.8], mu=1.0, L=1.0)
    with pytest.raises(ValueError, match="mu = 0.5, L = 50 "):
        edge_rates(STAR, [0.8, 0.8, 0.8], mu=0.5, L=50.0)


def test_optimal_on_one_edge_and_on_a_large_enough_star() -> None:
    assert optimal_rates(make_graph("path", 2)).total == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert optimal_rates(make_graph("star", 12)).total == pytest.approx(11, abs=1e-5)


def test_no_rates_near_the_optimal_ones_are_better() -> None:
    graph = make_graph("lollipop", 6)
    best = optimal_rates(graph)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(50):
            other = best.rates[0] * np.exp(size * rng.normal(size=len(graph.edges)))
            first, second = worst(graph, (other,))
            assert other.sum() * np.sqrt(2 * first * second) >= best.total - 1e-5


def test_optimal_for_a_list_shares_its_total() -> None:
    graphs = random_geometric(6, 0.5, 1, count=4)
    best = edge_rates(graphs, "optimal")
    assert best.chi1 * best.chi2 == pytest.approx(0.5, rel=1e-12)
    assert [rate.sum() for rate in best.rates] == pytest.approx([best.total] * 4, rel=1e-12)
    alone = [optimal_rates(graph).total for graph in graphs]
    assert max(alone) - 1e-5 <= best.total < 0.9 * uniform_total_rate(graphs)


def test_without_cvxpy(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cvxpy":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cvxpy", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"install optenvs\[sdp\]"):
        edge_rates(STAR, "optimal")


@pytest.mark.parametrize("steps", [1, 4])
def test_a_solver_that_stops_early_is_an_error(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import cvxpy

    solve = cvxpy.Problem.solve
    monkeypatch.setattr(cvxpy.Problem, "solve", lambda self, **rest: solve(self, max_iter=steps, **rest))
    with pytest.raises(RuntimeError, match="optimal rates: the solver "):
        edge_rates(make_graph("grid", 9), "optimal")


def test_rates_far_from_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "GAP", 1e-12)
    with pytest.raises(RuntimeError, match="above the lower bound; expected at most 1e-12"):
        edge_rates(make_graph("path", 10), "optimal")


def test_the_lower_bound_holds_for_any_multipliers() -> None:
    graph, rng = make_graph("barbell", 6), np.random.default_rng(0)
    ends = centred(6).T @ graph.incidence
    best = optimal_rates(graph).total
    for _ in range(100):
        whole, single = rng.normal(size=(5, 5)), list(rng.normal(size=(7, 5, 5)))
        assert 0 <= optimal._bound([(ends, whole, single)]) < best


def test_edge_rates_keep_what_they_are_given() -> None:
    rates = EdgeRates((STAR,), (np.array([1.0, 2.0, 3.0]),))
    assert rates.total == 6
    assert rates.chi1 == pytest.approx(chi1(STAR, rates.rates[0]))
    assert make_network(STAR) == rates.graphs
