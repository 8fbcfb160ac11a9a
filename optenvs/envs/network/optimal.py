"""The edge rates of fewest communications, by a semidefinite program.

With b_e = e_i - e_j, Lambda - c b_e b_e' is positive semidefinite just where b_e' Lambda^+ b_e <= 1/c. In the
vectors of sum 0, the following convex problem is therefore the least total rate with chi_1 chi_2 <= 1/2:

    minimise sum_e lambda_e   over lambda >= 0, a, c
    such that Lambda - a I >= 0,   Lambda - c b_e b_e' >= 0 for every edge e,   a c >= 1.

Any positive semidefinite Z and Y_e bound it from below. Let P = Z + sum_e Y_e, y = sum_e b_e' Y_e b_e; then

    total max_f b_f' P b_f >= tr(Lambda P) >= a tr Z + c y >= 2 sqrt(y tr Z),

which, with the multipliers that the solver returns, says how far from the optimum its rates are.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .exponent import centred
from .graphs import Graph
from .spectra import EachRates, worst

GAP = 1e-4


def least_rates(graphs: tuple[Graph, ...]) -> EachRates:
    """The rates of each graph, of one total, as low as chi_1 chi_2 <= 1/2 allows; needs the extra ``sdp``.

    Several graphs have a, c and the total in common, and the bounds of the module are summed over them. The
    solution is scaled so that chi_1 chi_2 = 1/2 to rounding. The rate of an edge may be 0.

    Raises:
        ImportError: when cvxpy is missing.
        RuntimeError: when the solver, Clarabel, fails, or its rates are not within 1e-4, relative, of the
            lower bound. It takes seconds for 20 nodes and a minute or two for 50.
    """
    if graphs[0].nodes == 1:
        return tuple(np.zeros(0) for _ in graphs)
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError("optimal rates need cvxpy: install optenvs[sdp]") from error
    # In units of equal rates U of product 1/2: the rates in U, a in 1 / chi_1(U), c in chi_1(U)
    first, second = worst(graphs)
    basis = centred(graphs[0].nodes)
    identity = np.eye(graphs[0].nodes - 1) / first
    total, a, c = cvxpy.Variable(), cvxpy.Variable(), cvxpy.Variable()
    constraints: list[Any] = [cvxpy.bmat([[a, 1], [1, c]]) >> 0]
    parts = []
    for graph in graphs:
        rates = cvxpy.Variable(len(graph.edges), nonneg=True)
        ends = basis.T @ graph.incidence
        matrix = ends @ cvxpy.diag(rates) @ ends.T
        whole = matrix - a * identity >> 0
        single = [matrix - c * np.outer(end, end) / (2 * second) >> 0 for end in ends.T]
        constraints += [cvxpy.sum(rates) == total, whole, *single]
        parts.append((rates, ends, whole, single))
    problem = cvxpy.Problem(cvxpy.Minimize(total), constraints)
    try:
        with warnings.catch_warnings():
            # how accurate the solution is, is measured below
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            problem.solve(solver=cvxpy.CLARABEL)
    except cvxpy.SolverError as error:
        raise RuntimeError(f"optimal rates: the solver failed: {error}") from error
    if problem.status not in (cvxpy.OPTIMAL, cvxpy.OPTIMAL_INACCURATE):
        raise RuntimeError(f"optimal rates: the solver stopped with the status {problem.status!r}")

    found = [np.maximum(rates.value, 0.0) for rates, *_ in parts]
    found = tuple(rates / rates.sum() for rates in found)
    least = math.sqrt(2 * math.prod(worst(graphs, found)))
    duals = [(ends, whole.dual_value, [part.dual_value for part in each]) for _, ends, whole, each in parts]
    gap = 1 - _bound(duals) / least
    if not gap <= GAP:
        raise RuntimeError(
            f"optimal rates: the solver stopped with the status {problem.status!r}, {gap:.1e} above the "
            f"lower bound; expected at most {GAP}"
        )
    return tuple(least * rates for rates in found)


def _bound(parts: list[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]) -> float:
    """The lower bound of the total rate from (b, Z, Y) of each graph, whatever Z and Y are."""
    widest = trace = cut = 0.0
    for ends, whole, single in parts:
        z, y = _positive(whole), _positive(np.stack(single))
        widest += float(((z + y.sum(0)) @ ends * ends).sum(0).max())
        trace += float(np.trace(z))
        cut += float(np.einsum("ae,eab,be->", ends, y, ends))
    return 2 * math.sqrt(trace * cut) / widest


def _positive(matrix: np.ndarray) -> np.ndarray:
    """The nearest positive semidefinite matrix to each symmetric part."""
    values, vectors = np.linalg.eigh((matrix + np.swapaxes(matrix, -1, -2)) / 2)
    return (vectors * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
