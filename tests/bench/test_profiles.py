"""Profiles against hand-computed examples and against their definitions, written out as loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from optenvs.bench.profiles import (
    data_profile,
    performance_profile,
    performance_ratios,
    runtime_ecdf,
    runtimes,
    target_values,
)

INF = np.inf

# Three problems, two solvers: A is twice as cheap on the first, B solves the second alone.
COSTS = np.array([[10, 20], [INF, 5], [8, 8]])


def test_performance_profile_by_hand():
    assert_array_equal(performance_ratios(COSTS), [[1, 2], [INF, 1], [1, 1]])
    profile = performance_profile(COSTS, [1, 1.9, 2, 100])
    assert_allclose(profile, np.array([[2, 2, 2, 2], [2, 2, 3, 3]]) / 3)


def test_data_profile_by_hand():
    profile = data_profile(COSTS, [2, 5, 4], [0.9, 1, 2, 5, 10])
    # A: 5, never, 2 units. B: 10, 1, 2 units.
    assert_allclose(profile, np.array([[0, 0, 1, 2, 2], [0, 1, 2, 2, 3]]) / 3)


def test_ecdf_by_hand():
    costs = np.array([[[1, 4, INF]], [[2, 2, 3]]])  # two runs, one solver, three targets
    assert_allclose(runtime_ecdf(costs, [0, 1, 2, 3, 9]), [np.array([0, 1, 3, 4, 5]) / 6])


def test_runtimes_by_hand():
    cost, values = [0, 2, 4, 6], [9.0, 5.0, 7.0, 1.0]
    assert_array_equal(runtimes(cost, values, [10, 9, 6, 5, 4, 1, 0]), [0, 0, 2, 2, 6, 6, INF])
    assert_array_equal(runtimes(cost, [9, np.nan, 3, np.nan], [5, 2]), [4, INF])
    assert_array_equal(runtimes([], [], [1.0]), [INF])


def test_targets_by_hand():
    assert_allclose(target_values(11, 1, [0.5, 0.1, 0]), [6, 2, 1])
    # Nobody improved, or there is no start: no target that anyone reaches.
    for start, best in [(3, 3), (3, 4), (INF, 1), (3, INF), (np.nan, 1)]:
        assert_array_equal(target_values(start, best, [0.1]), [-INF])


def test_problems_that_nobody_solves_and_costs_of_zero():
    costs = np.array([[INF, INF], [0, 5], [0, 0]])
    assert_array_equal(performance_ratios(costs), [[INF, INF], [1, INF], [1, 1]])
    assert_allclose(performance_profile(costs, [1, 1e9]), np.array([[2, 2], [1, 1]]) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_profiles_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    problems, solvers = 12, 4
    costs = rng.integers(1, 40, (problems, solvers)).astype(float)
    costs[rng.random(costs.shape) < 0.3] = INF
    units, grid = rng.integers(2, 20, problems), np.linspace(1, 12, 17)
    performance = performance_profile(costs, grid)
    data = data_profile(costs, units, grid)
    for s in range(solvers):
        for k, limit in enumerate(grid):
            close = [t[s] < INF and t[s] / min(t) <= limit for t in costs]
            assert performance[s, k] == pytest.approx(sum(close) / problems)
            within = [t[s] / u <= limit for t, u in zip(costs, units, strict=True)]
            assert data[s, k] == pytest.approx(sum(within) / problems)


@pytest.mark.parametrize("seed", range(5))
def test_runtimes_equal_the_convergence_test(seed):
    rng = np.random.default_rng(seed)
    values = 10 + np.cumsum(rng.normal(-0.2, 1, 60))
    cost = np.cumsum(rng.integers(0, 4, 60))
    start, best = values[0], values.min() - 0.5
    for tau in (0.9, 0.5, 0.1, 0.01):
        passed = [c for c, f in zip(cost, values, strict=True) if start - f >= (1 - tau) * (start - best)]
        found = runtimes(cost, values, target_values(start, best, [tau]))[0]
        assert found == (passed[0] if passed else INF)


def test_ecdf_is_the_mean_of_the_data_profiles_over_targets():
    rng = np.random.default_rng(0)
    costs = rng.exponential(size=(9, 3, 6))
    grid = np.linspace(0, 3, 11)
    profiles = [data_profile(costs[:, :, k], np.ones(9), grid) for k in range(6)]
    assert_allclose(runtime_ecdf(costs, grid), np.mean(profiles, axis=0))
