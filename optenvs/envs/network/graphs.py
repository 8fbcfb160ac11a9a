"""Graphs of nodes that may talk to each other, and the families of them.

A network is a tuple of graphs on the same nodes: one graph, or several that take turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from optenvs.core.errors import UnknownName, check_keywords, suggest
from optenvs.core.random import integers, keys_from_seed, uniform

Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Graph:
    """A connected undirected graph without loops.

    One node has no edge and never communicates. Two nodes have one edge, whatever the family.

    Args:
        nodes: how many nodes, n >= 1; they are numbered from 0.
        edges: pairs of nodes, each once, in any order; they are kept as i < j, sorted.
        name: what messages and pictures call the graph.
        positions: a point of the plane for each node, for pictures; or None.
        given: the edges in the order in which they came, which rates follow; none where it is that of edges.
    """

    nodes: int
    edges: Edges
    name: str = field(default="graph", compare=False)
    positions: tuple[tuple[float, float], ...] | None = field(default=None, compare=False, repr=False)
    given: Edges = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", _whole("nodes", self.nodes))
        if self.nodes < 1:
            raise ValueError(f"nodes: expected at least 1, got {self.nodes}")
        object.__setattr__(self, "edges", _checked_edges(self.edges, self.nodes))
        if self.positions is not None and len(self.positions) != self.nodes:
            raise ValueError(f"positions: expected {self.nodes} points, got {len(self.positions)}")
        parts = components(self.nodes, self.edges)
        if len(parts) > 1:
            least = min(parts, key=len)
            shown = ", ".join(map(str, least[:8])) + (", ..." if len(least) > 8 else "")
            raise ValueError(
                f"edges: expected a connected graph, got one of {len(parts)} components; "
                f"no edge joins the node(s) {shown} to the others"
            )

    @cached_property
    def pairs(self) -> Int64[np.ndarray, "E 2"]:
        """The edges as an array."""
        return _frozen(np.array(self.edges, dtype=np.int64).reshape(-1, 2))

    @property
    def order(self) -> Int64[np.ndarray, " E"]:
        """Where each edge stands among those that were given."""
        place = {(min(edge), max(edge)): i for i, edge in enumerate(self.given or self.edges)}
        return np.array([place[edge] for edge in self.edges], dtype=np.int64)

    @cached_property
    def degree(self) -> Float[np.ndarray, " n"]:
        """How many neighbours each node has."""
        return _frozen(np.bincount(self.pairs.ravel(), minlength=self.nodes).astype(np.float64))

    @cached_property
    def adjacency(self) -> Float[np.ndarray, "n n"]:
        """1 where two nodes are neighbours, else 0."""
        matrix = np.zeros((self.nodes, self.nodes))
        first, second = self.pairs.T
        matrix[first, second] = matrix[second, first] = 1.0
        return _frozen(matrix)

    @cached_property
    def incidence(self) -> Float[np.ndarray, "n E"]:
        """One column an edge (i, j): +1 at i and -1 at j."""
        matrix = np.zeros((self.nodes, len(self.edges)))
        column = np.arange(len(self.edges))
        matrix[self.pairs[:, 0], column] = 1.0
        matrix[self.pairs[:, 1], column] = -1.0
        return _frozen(matrix)


def components(nodes: int, edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected components, each sorted, by their smallest node."""
    parent = list(range(nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for i, j in edges:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    parts: dict[int, list[int]] = {}
    for node in range(nodes):
        parts.setdefault(root(node), []).append(node)
    return list(parts.values())


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    return int(value)


def _checked_edges(edges: Iterable[Sequence[int]], nodes: int) -> Edges:
    kept: set[tuple[int, int]] = set()
    for edge in edges:
        if len(edge) != 2:
            raise ValueError(f"edges: expected pairs of nodes, got {edge!r}")
        i, j = sorted(_whole("edges", node) for node in edge)
        if i < 0 or j >= nodes:
            raise ValueError(f"edges: expected nodes 0 to {nodes - 1}, got the edge ({i}, {j})")
        if i == j:
            raise ValueError(f"edges: expected no loop, got one at node {i}")
        if (i, j) in kept:
            raise ValueError(f"edges: expected each edge once, got ({i}, {j}) again")
        kept.add((i, j))
    return tuple(sorted(kept))


def _clique(nodes: Iterable[int]) -> list[tuple[int, int]]:
    nodes = list(nodes)
    return [(i, j) for place, i in enumerate(nodes) for j in nodes[place + 1 :]]


def _path(nodes: Iterable[int]) -> list[tuple[int, int]]:
    return list(pairwise(nodes))


def _jumps(n: int, lengths: Iterable[int]) -> list[tuple[int, int]]:
    """The edges between i and i + length (mod n)."""
    pairs = {(min(i, j), max(i, j)) for s in lengths for i in range(n) for j in [(i + s) % n]}
    return [(i, j) for i, j in pairs if i != j]


def _grid(n: int) -> list[tuple[int, int]]:
    side = math.isqrt(n)
    if side * side != n:
        raise ValueError(
            f"nodes: a grid expects a square number, got {n} (next: {side**2}, {(side + 1) ** 2})"
        )
    places = [(row, column) for row in range(side) for column in range(side)]
    right = [(row * side + column, row * side + column + 1) for row, column in places if column + 1 < side]
    return right + [
        (row * side + column, (row + 1) * side + column) for row, column in places if row + 1 < side
    ]


def _half(family: str, n: int) -> int:
    if n % 2:
        raise ValueError(f"nodes: a {family} expects an even number, got {n}")
    return n // 2


def _barbell(n: int) -> list[tuple[int, int]]:
    k = _half("barbell", n)
    return [*_clique(range(k)), (k - 1, k), *_clique(range(k, n))]


def _lollipop(n: int) -> list[tuple[int, int]]:
    k = _half("lollipop", n)
    return _clique(range(k)) + _path(range(k - 1, n))


_FAMILIES: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "complete": lambda n: _clique(range(n)),
    "star": lambda n: [(0, leaf) for leaf in range(1, n)],
    "cycle": lambda n: _jumps(n, [1]),
    "path": lambda n: _path(range(n)),
    "grid": _grid,
    "barbell": _barbell,
    "lollipop": _lollipop,
    "exponential": lambda n: _jumps(n, [2**k for k in range((n - 1).bit_length())]),
}
FAMILIES = (*_FAMILIES, "random_geometric")


def random_geometric(nodes: int, radius: float = 0.4, seed: int = 0, count: int = 1) -> tuple[Graph, ...]:
    """Points uniform in the unit square, joined where they are at most ``radius`` apart.

    Where that leaves several components, one random edge joins each to the next, in the order of their
    smallest nodes, as in the code of DADAO (Nabli, Oyallon 2023). Graph k does not depend on ``count``.

    Args:
        nodes: how many nodes.
        radius: the greatest length of an edge, > 0.
        seed: of the points and of the edges added.
        count: how many graphs.
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"radius: expected a number > 0, got {radius!r}")
    if _whole("count", count) < 1:
        raise ValueError(f"count: expected at least 1 graph, got {count}")
    keys = keys_from_seed(seed, count)
    points = uniform(keys, "positions", (nodes, 2), dtype=torch.float64).numpy()
    words = integers(keys, "bridges", (nodes, 2), 1 << 31).tolist()
    graphs = []
    for place in range(count):
        gap = points[place, :, None] - points[place, None]
        close = np.triu((gap**2).sum(-1) <= radius**2, 1)
        edges = [(int(i), int(j)) for i, j in np.argwhere(close)]
        parts = components(nodes, edges)
        for (one, other), word in zip(pairwise(parts), words[place], strict=False):
            edges.append((one[word[0] % len(one)], other[word[1] % len(other)]))
        name = "random geometric" if count == 1 else f"random geometric {place}"
        positions = tuple((float(x), float(y)) for x, y in points[place])
        graphs.append(Graph(nodes, tuple(edges), name, positions))
    return tuple(graphs)


def make_graph(spec: Any, nodes: int | None = None, **options: Any) -> Graph:
    """One graph: ``make_network`` where it gives a single one."""
    network = make_network(spec, nodes, **options)
    if len(network) != 1:
        raise ValueError(f"graph: expected one graph, got {len(network)}; make_network takes several")
    return network[0]


def make_network(spec: Any, nodes: int | None = None, **options: Any) -> tuple[Graph, ...]:
    """The graphs that ``spec`` describes, all on the same nodes.

    Args:
        spec: the name of a family, of which

            - ``complete``; ``star`` around node 0; ``cycle``; ``path``;
            - ``grid``: a square one, so that ``nodes`` is a square number;
            - ``barbell``: two complete graphs on n/2 nodes each, joined by the edge (n/2 - 1, n/2);
            - ``lollipop``: a complete graph on n/2 nodes and a path of n/2 more that starts at its last;
            - ``exponential``: i is joined to i + 2^k (mod n) for all 2^k < n;
            - ``random_geometric``: see the function of this name, which takes the options;

            or a :class:`Graph`; or a ``networkx.Graph``, whose nodes are numbered in its own order and
            whose weights are ignored; or a list of edges; or a list of any of these but edges.
        nodes: how many nodes n. A graph that is given has its own, and ``nodes`` must then agree or be None.
        options: of ``random_geometric``: radius, seed, count.
    """
    if isinstance(spec, str):
        return _named(spec, nodes, options)
    check_keywords("a graph that is given", options, ())
    if isinstance(spec, Graph):
        network: tuple[Graph, ...] = (spec,)
    elif hasattr(spec, "is_directed") and hasattr(spec, "edges"):
        network = (_from_networkx(spec),)
    elif not isinstance(spec, Sequence | np.ndarray):
        raise TypeError(f"graph: expected a name, a Graph, a networkx graph or edges, got {spec!r}")
    elif len(spec) and not _is_edge(spec[0]):
        network = tuple(graph for part in spec for graph in make_network(part, nodes))
    else:
        edges: Any = np.asarray(spec).tolist() if isinstance(spec, np.ndarray) else spec
        count = 1 + max((max(edge) for edge in edges), default=0) if nodes is None else nodes
        pairs = tuple(tuple(edge) for edge in edges)
        network = (Graph(count, pairs, given=pairs),)
    wanted = network[0].nodes if nodes is None else nodes
    for graph in network:
        if graph.nodes != wanted:
            raise ValueError(f"nodes: expected {wanted} in every graph, got {graph.nodes} in {graph.name}")
    return network


def _is_edge(part: Any) -> bool:
    whole = int | np.integer
    return (
        isinstance(part, Sequence | np.ndarray) and len(part) == 2 and all(isinstance(i, whole) for i in part)
    )


def _named(name: str, nodes: int | None, options: dict[str, Any]) -> tuple[Graph, ...]:
    if name not in FAMILIES:
        raise UnknownName(f"no graph is called {name!r}{suggest(name, FAMILIES)}")
    if nodes is None:
        raise TypeError(f"nodes: expected how many nodes the {name} graph has, got None")
    nodes = _whole("nodes", nodes)
    if nodes < 1:
        raise ValueError(f"nodes: expected at least 1, got {nodes}")
    if name == "random_geometric":
        check_keywords(name, options, ("radius", "seed", "count"))
        return random_geometric(nodes, **options)
    check_keywords(name, options, ())
    return (Graph(nodes, tuple(_FAMILIES[name](nodes)), name),)


def _from_networkx(graph: Any) -> Graph:
    if graph.is_directed() or graph.is_multigraph():
        raise ValueError("graph: expected an undirected networkx.Graph without parallel edges")
    number = {node: place for place, node in enumerate(graph.nodes)}
    edges = tuple((number[i], number[j]) for i, j in graph.edges)
    return Graph(len(number), edges, str(graph.name) or "networkx graph", given=edges)
