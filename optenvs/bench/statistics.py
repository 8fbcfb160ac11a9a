"""Statistics of runs: curves on a common cost axis, robust centres, seeded bootstrap intervals.

Lower is better everywhere. A failed run is not dropped: its value is +inf, so that an agent which
diverges on half of its seeds has an infinite median rather than the median of its lucky half.
Nothing here turns an infinity into NaN.

Sources: interquartile mean and stratified bootstrap as in Agarwal et al., "Deep Reinforcement
    Learning at the Edge of
the Statistical Precipice" (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from optenvs.bench.results import RunRecord


class Interval(NamedTuple):
    """An estimate and the ends of its interval, NaN where one value says nothing of spread."""

    estimate: float
    low: float
    high: float


def best_so_far(values: ArrayLike) -> np.ndarray:
    """Returns the running minimum of a curve, (T,); NaN counts as +inf, never as an improvement."""
    curve = np.asarray(values, dtype=np.float64)
    return np.minimum.accumulate(np.where(np.isnan(curve), np.inf, curve))


def resample(
    cost: ArrayLike,
    values: ArrayLike,
    grid: ArrayLike,
    *,
    best: bool = True,
    failed: bool = False,
) -> np.ndarray:
    """Reads a curve at given costs, as the step function that it is.

    The value at cost c is that of the last row whose cost is at most c: what the agent held once it
    had paid c. A row that overshoots c is not seen at c, so agents with large steps gain nothing.
    After the last row its value is carried on, because a run ends early only when it has solved its
    problem or its agent has finished, unless it failed. Before the first row there is no value yet: +inf.
    The caller's grid ends at the budget; nothing is extrapolated by a slope.

    Args:
        cost: (T,) non-decreasing ledger column.
        values: (T,) metric.
        grid: (G,) costs at which to read.
        best: Whether to read the best value so far.
        failed: Whether the run failed; it then has value +inf from its last row on.

    Returns:
        (G,) float64; NaN in ``values`` reads as +inf.
    """
    cost, grid = np.asarray(cost, dtype=np.float64), np.asarray(grid, dtype=np.float64)
    curve = np.asarray(values, dtype=np.float64)
    if not len(cost):
        return np.full(grid.shape, np.inf)
    curve = best_so_far(curve) if best else np.where(np.isnan(curve), np.inf, curve)
    row = np.searchsorted(cost, grid, side="right") - 1
    read = np.where(row < 0, np.inf, curve[np.maximum(row, 0)])
    return np.where(failed & (grid >= cost[-1]), np.inf, read)


def record_curve(record: RunRecord, grid: ArrayLike, axis: str | None = None) -> np.ndarray:
    """Reads a run's metric at given costs, (G,), by default along the axis of its budget."""
    axis = axis or record.spec.cost
    cost, values = (record.curves.get(name, np.empty(0)) for name in (axis, record.measure.metric))
    if len(values) != len(cost):  # a failed run may lack a column
        cost = values = np.empty(0)
    return resample(cost, values, grid, best=record.measure.best_so_far, failed=not record.ok)


def final_value(record: RunRecord) -> float:
    """Returns the metric at exactly the budget, the same for every agent; +inf for a failed run."""
    return float(record_curve(record, [record.spec.budget])[0])


def area(record: RunRecord) -> float:
    """Returns the mean of the metric over [first cost, budget]; +inf for a failed run."""
    if not record.ok:
        return np.inf
    cost = np.asarray(record.curves[record.spec.cost], dtype=np.float64)
    budget = float(record.spec.budget)
    knots = np.unique(np.append(cost[cost < budget], budget))
    if len(knots) < 2:
        return final_value(record)
    return float(np.average(record_curve(record, knots[:-1]), weights=np.diff(knots)))


def select(scores: Sequence[ArrayLike]) -> int:
    """Chooses a hyperparameter candidate by its tuning runs.

    Args:
        scores: For each candidate, its values on the tuning seeds, lower is better.

    Returns:
        Index of the lowest median; ties go to the fewer failures, then to the earlier
        candidate, so that a rerun always chooses the same.
    """
    values = [np.asarray(candidate, dtype=np.float64) for candidate in scores]
    keys = [(float(median(value)), int(np.sum(~np.isfinite(value))), i) for i, value in enumerate(values)]
    return min(keys)[2]


def median(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Returns the median, over all values or along an axis; +inf values take part."""
    return np.median(np.asarray(values, dtype=np.float64), axis=axis)


def iqm(values: ArrayLike, axis: int | None = None) -> np.ndarray:
    """Returns the mean without the lowest and the highest quarter (floor(n / 4) values each)."""
    values = np.asarray(values, dtype=np.float64)
    if axis is None:
        values, axis = values.ravel(), 0
    return stats.trim_mean(values, 0.25, axis=axis)


def quantile(values: ArrayLike, q: float, axis: int = 0) -> np.ndarray:
    """Returns a quantile that is one of the values: interpolated infinities would be NaN."""
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=axis)
    n = ordered.shape[axis]
    # Inverse of the empirical distribution function (type 1 of Hyndman and Fan 1996).
    return np.take(ordered, min(max(int(np.ceil(q * n)) - 1, 0), n - 1), axis=axis)


def bootstrap(
    strata: Sequence[ArrayLike],
    statistic: Callable[..., np.ndarray] = iqm,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic of all runs, resampled within each stratum.

    With one stratum this is the plain bootstrap of Efron (1979). With an environment a stratum it
    keeps every environment's number of runs, the only randomness being which seeds were drawn
    (Agarwal et al. 2021).

    Args:
        strata: For each environment its runs' values, (n_e,).
        statistic: ``iqm``, ``median`` or the like, with an argument ``axis``; it sees the values
            of all strata pooled.
        confidence: Coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed of the generator; the same seed gives the same interval.

    Returns:
        The estimate and the interval; its ends are NaN where every stratum has fewer than two runs.
    """
    groups = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    estimate = float(statistic(np.concatenate(groups)))
    if max(len(group) for group in groups) < 2:
        return Interval(estimate, np.nan, np.nan)
    # A stratum of one run has nothing to resample: doubled it stays constant, and SciPy accepts it;
    # it is cut back before the statistic sees it, so that its weight is kept.
    sizes = [len(group) for group in groups]
    padded = [np.repeat(group, 2) if len(group) == 1 else group for group in groups]

    def pooled(*samples: np.ndarray, axis: int) -> np.ndarray:
        kept = [s[..., :n] for s, n in zip(samples, sizes, strict=True)]  # SciPy's axis is the last
        return statistic(np.concatenate(kept, axis=-1), axis=-1)

    with np.errstate(invalid="ignore"):  # SciPy's own interval and error subtract infinities; ours does not
        draws = stats.bootstrap(
            padded,
            pooled,
            n_resamples=resamples,
            confidence_level=confidence,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    tail = (1 - confidence) / 2
    return Interval(estimate, float(quantile(draws, tail)), float(quantile(draws, 1 - tail)))


def bootstrap_band(
    curves: ArrayLike, *, confidence: float = 0.95, resamples: int = 500, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap band of the median curve.

    Args:
        curves: (runs, G), one curve a run on a common grid; whole curves are resampled, so the
            band respects the dependence along the axis.
        confidence: Pointwise coverage, in (0, 1).
        resamples: Number of bootstrap samples.
        seed: Seed of the generator.

    Returns:
        Lower and upper end, (G,) each.
    """
    values = np.asarray(curves, dtype=np.float64)
    rows = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    medians = np.median(values[rows], axis=1)
    tail = (1 - confidence) / 2
    return quantile(medians, tail), quantile(medians, 1 - tail)
