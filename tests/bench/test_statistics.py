"""Statistics: step-wise reading of curves, infinities that stay infinities, seeded intervals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from optenvs.bench.statistics import (
    area,
    best_so_far,
    bootstrap,
    bootstrap_band,
    final_value,
    iqm,
    median,
    quantile,
    resample,
    select,
)

INF = np.inf


def test_best_so_far_ignores_nan():
    assert_array_equal(best_so_far([np.nan, 3, np.nan, 4, 2]), [INF, 3, 3, 3, 2])


def test_resample_reads_a_step_function():
    cost, values = [1, 3, 3, 6], [5.0, 4.0, 2.0, 7.0]
    grid = [0, 1, 2.9, 3, 5, 6, 8]
    assert_array_equal(resample(cost, values, grid), [INF, 5, 5, 2, 2, 2, 2])
    assert_array_equal(resample(cost, values, grid, best=False), [INF, 5, 5, 2, 2, 7, 7])
    failed = resample(cost, values, grid, failed=True)
    assert_array_equal(failed, [INF, 5, 5, 2, 2, INF, INF])
    assert_array_equal(resample([], [], [0, 1]), [INF, INF])


def test_a_step_over_the_budget_is_not_seen(make_record):
    record = make_record(budget=10, rows=14)
    assert final_value(record) == record.curves["metrics/gap"][10]


def test_an_early_end_carries_on_and_a_failure_is_infinite(make_record):
    solved = make_record(rows=50)
    assert final_value(solved) == solved.curves["metrics/gap"][-1]
    for status in ("diverged", "error: x"):
        assert final_value(make_record(rows=50, status=status)) == INF
        assert final_value(make_record(status=status)) == INF  # even where it fails at the budget
        assert area(make_record(rows=50, status=status)) == INF
    nothing = dataclasses.replace(make_record(), status="error: x", curves={})
    assert final_value(nothing) == INF


def test_area_is_the_mean_of_the_step_function(make_record):
    record = make_record(budget=4, rows=5)
    curves = {
        "calls/gradient": [0, 1, 3, 3, 6],
        "metrics/gap": [8.0, 4.0, 5.0, 2.0, 0.0],
    }
    record = dataclasses.replace(record, curves=curves)
    assert area(record) == (8 * 1 + 4 * 2 + 2 * 1) / 4


def test_median_and_iqm_take_infinities():
    assert iqm([1, 2, 3, 4, 100, 6, 7, -50]) == np.mean([2, 3, 4, 6])
    assert iqm([1, 2, 3, 4, 5, 6, INF, INF]) == 4.5
    assert iqm([1, 2, 3, 4, 5, INF, INF, INF]) == INF
    assert median([1, 2, INF]) == 2
    assert median([1, INF]) == INF
    assert median([INF, INF]) == INF
    assert_array_equal(quantile([3, INF, 1, INF], 0.25), 1)
    assert_array_equal(quantile([3, INF, 1, INF], 0.75), INF)
    assert_array_equal(quantile([[1, 5], [2, INF]], 0.5), [1, 5])


def test_selection_takes_the_lowest_median_then_fewer_failures_then_the_first():
    assert select([[3, 3, 3], [1, 2, 9], [2, 2, 8]]) == 1
    assert select([[2, 2, INF], [2, 2, 2]]) == 1
    assert select([[2, 1, 3], [2, 2, 2]]) == 0
    assert select([[INF, INF, INF], [INF, INF, 1]]) == 1
    assert select([[INF], [INF]]) == 0


def test_bootstrap_is_reproducible_and_covers():
    rng = np.random.default_rng(0)
    draws = [bootstrap([rng.normal(size=30)], median, resamples=300, seed=i) for i in range(200)]
    hits = np.mean([interval.low <= 0 <= interval.high for interval in draws])
    assert 0.88 <= hits <= 0.99
    values = rng.normal(size=20)
    assert bootstrap([values], seed=3) == bootstrap([values], seed=3)
    assert bootstrap([values], seed=3) != bootstrap([values], seed=4)
    assert bootstrap([values]).estimate == iqm(values)


def test_bootstrap_keeps_the_strata():
    # Between the strata lies everything, within them nothing: a stratified interval is a point.
    strata = [np.zeros(10), np.full(10, 100.0), np.full(10, 1000.0)]
    interval = bootstrap(strata)
    assert interval == (iqm(np.concatenate(strata)),) * 3
    pooled = bootstrap([np.concatenate(strata)])
    assert pooled.low < interval.estimate < pooled.high


def test_bootstrap_takes_infinities_and_single_runs():
    interval = bootstrap([[1.0, 2.0, 3.0, INF, INF, INF]])
    assert interval.high == INF
    assert np.isfinite(interval.low)
    assert bootstrap([[INF, INF, INF]]) == (INF, INF, INF)
    estimate, low, high = bootstrap([[4.0]])
    assert estimate == 4
    assert np.isnan(low)
    assert np.isnan(high)
    mixed = bootstrap([[4.0], [1.0, 2.0, 3.0]], median)
    assert 1 <= mixed.low <= mixed.estimate <= mixed.high <= 4


def test_band_surrounds_the_median_curve():
    curves = np.random.default_rng(0).normal(size=(25, 7))
    curves[:5, -1] = INF
    low, high = bootstrap_band(curves, resamples=200)
    assert np.all(low <= np.median(curves, axis=0))
    assert np.all(np.median(curves, axis=0) <= high)
    assert_array_equal(bootstrap_band(curves, resamples=200)[0], low)


@pytest.mark.parametrize("n", range(1, 12))
def test_iqm_cuts_floor_of_a_quarter(n):
    values = np.sort(np.random.default_rng(n).normal(size=n))
    cut = n // 4
    assert iqm(values) == pytest.approx(np.mean(values[cut : n - cut]))
