"""How often each edge is active: equal rates, given ones, or the fewest communications that suffice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from .graphs import Graph
from .optimal import least_rates
from .spectra import (
    EachRates,
    Network,
    as_network,
    condition,
    laplacian,
    resistances,
    uniform_total_rate,
    worst,
)
from .verdict import CHECKS, Judged, check_rates


@dataclass(frozen=True, eq=False)
class EdgeRates:
    """The Poisson rates of the edges of a network.

    Of a list of graphs, number floor(t * ``switch_rate``) modulo their count is active at time t, as in the
    code of Nabli and Oyallon (2023). All have one total rate: gossip is one Poisson process, whose events
    draw an edge of the active graph.

    Args:
        graphs: the graphs, on the same nodes.
        rates: for each of them the rate of each edge, >= 0.
    """

    graphs: tuple[Graph, ...]
    rates: EachRates

    @cached_property
    def _worst(self) -> tuple[float, float]:
        return worst(self.graphs, self.rates)

    @property
    def chi1(self) -> float:
        """chi_1 of the Laplacian with these rates, the worst of the graphs."""
        return self._worst[0]

    @property
    def chi2(self) -> float:
        """chi_2 of the Laplacian with these rates, the worst of the graphs."""
        return self._worst[1]

    @property
    def total(self) -> float:
        """Edge activations expected in a unit of time."""
        return float(self.rates[0].sum())

    @property
    def switch_rate(self) -> float:
        """How many graphs a unit of time sees: the worst chi_1 at total rate 1."""
        return self.chi1 * self.total

    @property
    def table(self) -> tuple[Int64[np.ndarray, "K E 2"], Float[np.ndarray, "K E"]]:
        """The edges of the K graphs, padded to the largest number, and their probabilities (0: padding)."""
        longest = max(len(graph.edges) for graph in self.graphs)
        edges = np.zeros((len(self.graphs), longest, 2), dtype=np.int64)
        chances = np.zeros((len(self.graphs), longest))
        for place, (graph, rate) in enumerate(zip(self.graphs, self.rates, strict=True)):
            edges[place, : len(rate)] = graph.pairs
            chances[place, : len(rate)] = rate / self.total if len(rate) else rate
        return edges, chances

    @property
    def constants(self) -> dict[str, Any]:
        """What the nodes are told of the graphs, under the names of :class:`optenvs.envs.network.parts`."""
        graph = self.graphs[0]
        spectra = [np.linalg.eigvalsh(laplacian(g, np.ones(len(g.edges)))) for g in self.graphs]
        worst = spectra[max(range(len(spectra)), key=lambda place: condition(self.graphs[place]))]
        resistance = np.zeros((graph.nodes, graph.nodes))
        first, second = graph.pairs.T
        resistance[first, second] = resistance[second, first] = resistances(graph, self.rates[0])
        return {
            "chi1": self.chi1,
            "chi2": self.chi2,
            "rate": self.total,
            "largest": worst[-1],
            "smallest": worst[min(1, graph.nodes - 1)],
            "radii": [spectrum[-1] for spectrum in spectra],
            "edges": float(len(graph.edges)),
            "degree": graph.degree,
            "resistance": resistance,
        }


def edge_rates(
    network: Network, rates: Any = "uniform", mu: float = 1.0, L: float = 10.0, check: str = "refuse"
) -> EdgeRates:
    """The rates of the edges of a graph, or of a list of graphs that take turns.

    Args:
        network: a graph, or several on the same nodes.
        rates: ``"uniform"``: equal rates of total sqrt(2 chi_1 chi_2), at which chi_1 chi_2 = 1/2;
            ``"optimal"``: the least total with chi_1 chi_2 <= 1/2, see :func:`optimal_rates`; a number > 0:
            equal rates of this total; or one number > 0 an edge, in the order in which the edges were given
            (a list of edges, a networkx graph), else of ``Graph.edges``; for a list of graphs, a list of such
            arrays of one sum.
        mu: strong convexity of the functions, for the check of given rates.
        L: their smoothness, likewise.
        check: what becomes of given rates that break chi_1 chi_2 <= 1/2, the condition of DADAO. Whether it
            converges all the same is decided by the exact growth rate of its mean square on quadratics,
            :func:`optenvs.envs.network.verdict.worst_exponent`. ``"refuse"``: 0 or more is an error; a
            negative one, and one that would take too long to compute, is let through with a
            :class:`RateWarning`. ``"warn"``: all are let through with a warning; methods that need no such
            condition (AD-PSGD, A2CiD2) run at any rates. ``"off"``: nothing is computed or said.

    Raises:
        ValueError: the rates do not fit the graph, or DADAO diverges with them; see ``check``.
    """
    if check not in CHECKS:
        raise ValueError(f"rates_check: expected one of {', '.join(CHECKS)}, got {check!r}")
    graphs = as_network(network)
    if isinstance(rates, str):
        if rates == "optimal":
            return optimal_rates(graphs)
        if rates != "uniform":
            raise ValueError(f"rates: expected 'uniform', 'optimal' or numbers > 0, got {rates!r}")
        return EdgeRates(graphs, equal_rates(graphs, uniform_total_rate(graphs)))
    if isinstance(rates, bool):
        raise TypeError(f"rates: expected 'uniform', 'optimal' or numbers > 0, got {rates!r}")
    if isinstance(rates, int | float):
        if not 0 < rates < math.inf:
            raise ValueError(f"rates: expected a finite total rate > 0, got {rates!r}")
        given = EdgeRates(graphs, equal_rates(graphs, float(rates)))
    else:
        given = EdgeRates(graphs, _given(graphs, rates if len(graphs) > 1 else _one(rates)))
    check_rates(given.graphs, given.rates, given.chi1 * given.chi2, Judged(mu, L), check)
    return given


def optimal_rates(network: Network) -> EdgeRates:
    """The rates of least total for which chi_1 chi_2 <= 1/2: see :func:`least_rates`."""
    graphs = as_network(network)
    return EdgeRates(graphs, least_rates(graphs))


def equal_rates(graphs: tuple[Graph, ...], total: float) -> EachRates:
    """The same rate for all edges of a graph, ``total`` together."""
    return tuple(np.full(len(graph.edges), total / max(len(graph.edges), 1)) for graph in graphs)


def _one(rates: Any) -> list[Any]:
    """A single graph's rates as a list of one: it may come as one already."""
    return list(rates) if len(rates) == 1 and np.ndim(rates[0]) == 1 else [rates]


def _given(graphs: tuple[Graph, ...], rates: Sequence[Any]) -> EachRates:
    if len(rates) != len(graphs):
        raise ValueError(f"rates: expected one array for each of {len(graphs)} graphs, got {len(rates)}")
    kept = []
    for graph, given in zip(graphs, rates, strict=True):
        array = np.array(given, dtype=np.float64)
        if array.shape != (len(graph.edges),):
            raise ValueError(f"rates: expected one for each of {len(graph.edges)} edges, got {array.shape}")
        bad = np.flatnonzero(~((array > 0) & np.isfinite(array)))
        if len(bad):
            edge = (graph.given or graph.edges)[bad[0]]
            raise ValueError(f"rates: expected finite numbers > 0, got {array[bad[0]]} on the edge {edge}")
        kept.append(array[graph.order])
    totals = [float(array.sum()) for array in kept]
    if max(totals) - min(totals) > 1e-9 * max(totals):
        raise ValueError(
            f"rates: expected the same total in every graph, got {min(totals):g} to {max(totals):g}"
        )
    return tuple(kept)
