"""Profiles of costs: who solves what share of the problems, and at what price.

All functions are pure NumPy. ``costs`` is always (problems, solvers): the oracle calls that a
solver needed to pass a convergence test on a problem, +inf where it never did. Sources:

- Dolan and Moré, "Benchmarking optimization software with performance profiles" (2002).
- Moré and Wild, "Benchmarking derivative-free optimization algorithms" (2009).
- Hansen et al., "COCO: a platform for comparing continuous optimizers in a black-box setting"
  (2021).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optenvs.bench.statistics import best_so_far


def runtimes(cost: ArrayLike, values: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Cost at which a curve first is at or below each target.

    Args:
        cost: (T,) non-decreasing ledger column.
        values: (T,) metric, lower is better; NaN reaches no target.
        targets: (K,) target values.

    Returns:
        (K,) costs, +inf for a target never reached.
    """
    targets = np.asarray(targets, dtype=np.float64)
    cost = np.append(np.asarray(cost, dtype=np.float64), np.inf)
    # The running minimum never rises, so its negative is sorted and one binary search finds the
    # first hit.
    best = best_so_far(values) if np.size(values) else np.empty(0)
    return cost[np.searchsorted(-best, -targets, side="left")]


def target_values(start: float, best: float, tolerances: ArrayLike) -> np.ndarray:
    """Targets of the convergence test of Moré and Wild (2009).

    A point x passes at tolerance tau if f(x0) - f(x) >= (1 - tau) (f(x0) - f_L), that is if f(x) <=
    f_L + tau (f(x0) - f_L), with f_L the best value that any solver found within the budget.

    Args:
        start: f(x0).
        best: f_L.
        tolerances: (K,) tau, each in [0, 1).

    Returns:
        (K,) targets; -inf, which nothing reaches, where no solver improved on the start: such
        a problem tells the solvers apart no better than one that none solves, and it must not count
        as solved by all.
    """
    tolerances = np.asarray(tolerances, dtype=np.float64)
    if not (np.isfinite(start) and np.isfinite(best) and best < start):
        return np.full(tolerances.shape, -np.inf)
    return best + tolerances * (start - best)


def _share(values: np.ndarray, grid: ArrayLike) -> np.ndarray:
    """Share of problems with a value at most each grid point, (solvers, G)."""
    return np.mean(values[:, :, None] <= np.asarray(grid, dtype=np.float64), axis=0)


def performance_ratios(costs: ArrayLike) -> np.ndarray:
    """Ratios r[p, s] = t[p, s] / min_s t[p, s] (Dolan and Moré 2002), +inf where unsolved."""
    costs = np.asarray(costs, dtype=np.float64)
    best = costs.min(axis=1, keepdims=True)
    ratios = np.full(costs.shape, np.inf)
    np.divide(costs, best, out=ratios, where=np.isfinite(costs) & (best > 0))
    # A test passed at no cost at all: the best has ratio 1 as always, anyone who paid is infinitely
    # worse.
    return np.where((best == 0) & (costs == 0), 1.0, ratios)


def performance_profile(costs: ArrayLike, ratios: ArrayLike) -> np.ndarray:
    """Performance profile rho_s(alpha) = |{p : r[p, s] <= alpha}| / |P| (Dolan and Moré 2002).

    Args:
        costs: (problems, solvers).
        ratios: (G,) alpha, each at least 1.

    Returns:
        (solvers, G) shares in [0, 1]. At alpha = 1: how often a solver is the cheapest; at its
        right end: how many problems it solves at all. With three or more solvers it ranks only the
        first, as its authors' critics note (Gould and Scott 2016): read the others' order from the
        data profile.
    """
    return _share(performance_ratios(costs), ratios)


def data_profile(costs: ArrayLike, units: ArrayLike, grid: ArrayLike) -> np.ndarray:
    """Data profile d_s(kappa) = |{p : t[p, s] / u[p] <= kappa}| / |P| (Moré and Wild 2009).

    Args:
        costs: (problems, solvers).
        units: (problems,) unit of cost: n_p + 1 of a problem with n_p variables is theirs, in
            simplex gradients; the problem's budget is the unit that also makes first-order and
            other oracles comparable.
        grid: (G,) kappa.

    Returns:
        (solvers, G) shares in [0, 1]. A solver's line does not depend on which other solvers
        are there.
    """
    return _share(
        np.asarray(costs, dtype=np.float64) / np.asarray(units, dtype=np.float64)[:, None],
        grid,
    )


def runtime_ecdf(costs: ArrayLike, grid: ArrayLike) -> np.ndarray:
    """Empirical distribution of runtimes over pairs of a run and a target (Hansen et al. 2021).

    Args:
        costs: (runs, solvers, targets) costs to reach each target, +inf where never reached.
        grid: (G,) costs, in the same unit.

    Returns:
        (solvers, G) share of pairs (run, target) reached within that cost. Mean over targets
        of data profiles.
    """
    costs = np.asarray(costs, dtype=np.float64)
    pairs = np.swapaxes(costs, 1, 2).reshape(-1, costs.shape[1])
    return _share(pairs, grid)
