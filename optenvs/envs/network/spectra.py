"""What the Laplacian of a graph says about how fast its nodes can agree.

Edge e is active at the times of a Poisson process of rate lambda_e. With b_e = e_i - e_j, the expected
Laplacian Lambda = sum_e lambda_e b_e b_e' has the two constants of Nabli and Oyallon (2023, "DADAO:
Decoupled Accelerated Decentralized Asynchronous Optimization"),

    chi_1 = 1 / (its smallest positive eigenvalue),   chi_2 = max over edges of b_e' Lambda^+ b_e / 2,

with chi_2 <= chi_1; both are halved when all rates double. Without rates, a function here takes equal rates
of sum 1. A single node needs no communication: its constants are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from .graphs import Graph

Rates = Float[np.ndarray, " E"]
EachRates = tuple[Float[np.ndarray, " _"], ...]  # of several graphs, each with its own number of edges
Network = Graph | Sequence[Graph]


def laplacian(graph: Graph, rates: Rates | None = None) -> Float[np.ndarray, "n n"]:
    """The matrix sum_e lambda_e b_e b_e', for equal rates of sum 1 if none are given."""
    if rates is None:
        rates = np.full(len(graph.edges), 1 / max(len(graph.edges), 1))
    return (graph.incidence * rates) @ graph.incidence.T


def chi1(graph: Graph, rates: Rates | None = None) -> float:
    """The inverse of the Laplacian's smallest positive eigenvalue."""
    if graph.nodes == 1:
        return 0.0
    return 1 / float(np.linalg.eigvalsh(laplacian(graph, rates))[1])


def chi2(graph: Graph, rates: Rates | None = None) -> float:
    """Half the largest effective resistance over the edges."""
    return float(resistances(graph, rates).max(initial=0.0)) / 2


def resistances(graph: Graph, rates: Rates | None = None) -> Float[np.ndarray, " E"]:
    """The effective resistance b_e' Lambda^+ b_e of every edge."""
    # Lambda + 11'/n is regular, and its inverse is Lambda^+ + 11'/n; b_e is orthogonal to 1
    matrix = laplacian(graph, rates)
    ones = np.full_like(matrix, np.trace(matrix) / graph.nodes**2) if graph.nodes > 1 else np.ones((1, 1))
    return (graph.incidence * np.linalg.solve(matrix + ones, graph.incidence)).sum(0)


def worst(network: Network, rates: EachRates | None = None) -> tuple[float, float]:
    """The largest chi_1 and the largest chi_2 over the graphs of a network, whichever graphs have them."""
    graphs = as_network(network)
    given = [None] * len(graphs) if rates is None else rates
    pairs = list(zip(graphs, given, strict=True))
    return max(chi1(*pair) for pair in pairs), max(chi2(*pair) for pair in pairs)


def uniform_total_rate(network: Network) -> float:
    """The total rate sqrt(2 chi_1 chi_2) at which equal rates reach chi_1 chi_2 = 1/2."""
    first, second = worst(network)
    return math.sqrt(2 * first * second)


def condition(network: Network) -> float:
    """The largest over the smallest positive eigenvalue of the plain Laplacian; the worst of the graphs."""
    ratios = [1.0]
    for graph in as_network(network):
        if graph.nodes > 1:
            eigenvalues = np.linalg.eigvalsh(laplacian(graph))
            ratios.append(float(eigenvalues[-1] / eigenvalues[1]))
    return max(ratios)


def communications(network: Network) -> dict[str, float]:
    """Edge activations in a unit of time, in which a node computes one gradient on average.

    With |E| edges (their mean over a list) and chi the ``condition``, a round of ADOM+ takes |E|, one of
    ADOM+ with multi-consensus |E| ceil(chi ln 2) and one of MSDA |E| floor(sqrt(chi)); DADAO and the
    continuized method expect ``uniform_total_rate``.

    Returns:
        A number for each of ``adom_plus``, ``adom_plus_mc``, ``continuized``, ``msda``, ``dadao``.
    """
    edges = float(np.mean([len(graph.edges) for graph in as_network(network)]))
    ratio, rate = condition(network), uniform_total_rate(network)
    return {
        "adom_plus": edges,
        "adom_plus_mc": edges * consensus_rounds(ratio),
        "continuized": rate,
        "msda": edges * math.floor(math.sqrt(ratio) + 1e-9),  # the root of 9 may come out below 3
        "dadao": rate,
    }


def consensus_rounds(ratio: float) -> int:
    """The rounds ceil(chi ln 2) of gossip in one of ADOM+ with multi-consensus, for the ``condition`` chi."""
    return math.ceil(ratio * math.log(2))


def metropolis(graph: Graph) -> Float[np.ndarray, "n n"]:
    """The weights W_ij = 1 / (1 + max(degree_i, degree_j)) of neighbours; rows and columns sum to 1."""
    degree = graph.degree
    weights = graph.adjacency / (1 + np.maximum(degree[:, None], degree[None]))
    return weights + np.diag(1 - weights.sum(1))


def as_network(network: Network) -> tuple[Graph, ...]:
    """A graph as a network of one, and a network as a tuple."""
    graphs = (network,) if isinstance(network, Graph) else tuple(network)
    if not graphs:
        raise ValueError("network: expected at least one graph, got none")
    return graphs
