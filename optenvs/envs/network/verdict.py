"""What is said of edge rates that are too slow for DADAO: whether it converges all the same, exactly."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .alike import alike_exponent
from .exponent import mean_square_exponent
from .graphs import Graph
from .spectra import EachRates
from .switching import switching_exponent

CHECKS = ("refuse", "warn", "off")
LARGEST = 1_000_000  # entries K N^2 of the largest complex array that may be made for a warning
LARGEST_ALIKE = 300  # nodes of the largest graph whose exponent is computed
LARGEST_PERIOD = 2_000_000_000  # K P^3 for K graphs whose second moment has P entries
_TOLERANCE = 1e-9


class RateWarning(UserWarning):
    """The edges are too slow for the rate condition chi_1 chi_2 <= 1/2 of DADAO."""


@dataclass(frozen=True)
class Judged:
    """The functions for which rates are judged.

    Attributes:
        mu, L: what DADAO is told.
        curvatures: those of quadratics, where they are known; else the worst of some are taken.
    """

    mu: float
    L: float
    curvatures: tuple[float, ...] | None = None


def worst_exponent(
    graphs: Sequence[Graph],
    rates: EachRates,
    mu: float,
    L: float,
    curvatures: Sequence[float] | None = None,
) -> float | None:
    """The largest exponent of DADAO's mean square over quadratics whose curvatures are chosen as follows.

    Those that are given, alone. Without any,

    all mu, all L, and geometric from mu to L, where the graph is so small that (nodes + edges) (6 n - 2)^2 is
    at most ``LARGEST``, which is up to 24 nodes on a path or 15 in a complete graph. Up to ``LARGEST_ALIKE``
    nodes, all L and all mu, of which the second is left out where the first diverges. (On 8 graphs of 5 to 12
    nodes, at 4 ratios L / mu and 7 rates each, the geometric one was never the largest.) With 300 nodes that
    takes 3 to 5 seconds for both on a star or a cycle, and 10 to 36 on a path (one thread, a shared machine).

    Of several graphs the three, over a period, where K P^3 is at most ``LARGEST_PERIOD``: for 10 graphs up to
    5 nodes.

    Returns:
        The exponent, or ``None`` where it would take too long.
    """
    nodes = graphs[0].nodes
    size = 6 * nodes - 2
    equal = (np.full(nodes, L), np.full(nodes, mu))
    families: tuple[np.ndarray, ...] = (*equal, np.geomspace(mu, L, nodes))
    if curvatures is not None:
        families = (np.array(curvatures, dtype=np.float64),)
    if len(graphs) > 1:
        if len(graphs) * (size * (size + 1) // 2) ** 3 > LARGEST_PERIOD:
            return None
        return max(switching_exponent(graphs, rates, a, mu, L) for a in families)
    graph, rate = graphs[0], rates[0]
    if (nodes + len(graph.edges)) * size**2 <= LARGEST:
        return max(mean_square_exponent(graph, rate, a, mu, L) for a in families)
    if nodes > LARGEST_ALIKE or (curvatures is not None and min(curvatures) < max(curvatures)):
        return None
    exponent = alike_exponent(graph, rate, L, mu, L)
    return exponent if exponent >= 0 else max(exponent, alike_exponent(graph, rate, mu, mu, L))


def check_rates(
    graphs: Sequence[Graph], rates: EachRates, product: float, judged: Judged, check: str
) -> None:
    """Warn of rates whose chi_1 chi_2 is ``product`` > 1/2, or refuse them: see ``edge_rates``."""
    if check == "off" or product <= 0.5 + _TOLERANCE:
        return
    said = f"rates: chi_1 chi_2 = {product:.6g} is above 1/2, the most for which DADAO has its rate"
    unknown = f"the {'graph is' if len(graphs) == 1 else 'graphs are'} too large for the exponent"
    mu, L = judged.mu, judged.L
    try:
        exponent = worst_exponent(graphs, rates, mu, L, judged.curvatures)
    except ArithmeticError as error:
        exponent, unknown = None, str(error)
    where = f"on quadratics with mu = {mu:g}, L = {L:g} the exponent of its mean square is"
    if exponent is None:
        said += f"; whether it converges all the same is not known: {unknown}"
    elif exponent >= 0:
        said += f"; it diverges: {where} +{exponent:.6g}"
        if check == "refuse":
            factor = f"multiply the rates by {math.sqrt(2 * product):.4g}"
            raise ValueError(f"{said}; for methods that bear it set rates_check='warn', or {factor}")
    else:
        said += f"; it still converges: {where} {exponent:.6g} (negative)"
    warnings.warn(said, RateWarning, stacklevel=3)
