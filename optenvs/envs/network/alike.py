"""The exponent of DADAO's mean square on a large graph, all of whose nodes have one curvature a.

The equation is that of :mod:`optenvs.envs.network.exponent`, w = T(s) w with one unknown an event. With equal
nodes the mean matrix is G = I (x) (M + p c') + Lambda (x) g d', where M is the drift of one node, p its step
at a gradient, seen through c, and g its change by gossip, seen through d. In the basis Q of the Laplacian
Lambda it falls apart into n blocks of 6 x 6, G_m. So T(s) is applied without being made: with the diagonal
matrix W of the nodes' w and the Laplacian of the edges' r w,

    A = Q' W Q,   B = Q' (sum_e r_e w_e b_e b_e') Q,   s X_ml = G_m X_ml + X_ml G_l' + A_ml p p' + B_ml g g',

and what is seen of X is c' X_ml c for the nodes and d' X_ml d for the edges: four n x n tables of factors of
A and B, and six products of n x n matrices. The spectral radius comes from Arnoldi's method: w >= 0, and
T(s) >= 0, so that the eigenvalue of largest modulus is the one sought.
"""

from __future__ import annotations

import math

import numpy as np

from .exponent import RESIDUAL, Node, crossing, dadao_node
from .graphs import Graph
from .krylov import largest
from .spectra import Rates, chi1, laplacian


def alike_exponent(graph: Graph, rates: Rates, a: float, mu: float, L: float) -> float:
    """The exponent of E sum_i |x_i - x*|^2 under DADAO, for f_i(x) = a |x - b_i|^2 / 2.

    Equal to ``mean_square_exponent`` with all a_i = a, in time n^3 and memory n^2.

    Args:
        graph: the graph, of two nodes or more.
        rates: the rate of each edge, > 0.
        a: the curvature of all nodes, in [mu, L].
        mu: the strong convexity that DADAO is told.
        L: the smoothness that DADAO is told.

    Raises:
        ArithmeticError: when the result does not satisfy the eigenvalue equation to 1e-6.
    """
    return _Blocks(graph, rates, dadao_node(a, mu, L, chi1(graph, rates))).exponent()


class _Blocks:
    """T(s), by the blocks of the mean matrix."""

    def __init__(self, graph: Graph, rates: Rates, node: Node) -> None:
        strengths, self.basis = np.linalg.eigh(laplacian(graph, rates))
        strengths[0] = 0.0  # of the vector of ones, exactly
        self.pairs, self.rates, self.node = graph.pairs.T, rates, node
        own = node.drift + np.outer(node.step, node.sees)
        self.blocks = own + strengths[:, None, None] * np.outer(node.gossip, node.hears)
        # z and zt have the sum 0: the block of the ones has x, xt, y, yt only, and no event reaches the rest
        self.blocks[0, 4:] = self.blocks[0, :, 4:] = 0.0
        self.blocks[0, [4, 5], [4, 5]] = self.blocks[1:, 0, 0].min(initial=-1.0)
        self.values, vectors = np.linalg.eig(self.blocks)
        self.vectors = vectors
        self.inverse = np.linalg.inv(vectors)
        self.sides = [self.inverse @ side for side in (node.step, node.gossip)]
        self.factors = [[(seen @ vectors) * side for side in self.sides] for seen in (node.sees, node.hears)]
        reached = np.real(self.values).max(1)
        reached[0] = np.linalg.eigvals(self.blocks[0, :4, :4]).real.max()
        self.start = 2 * float(reached.max())
        self.weights = np.ones(graph.nodes + len(rates))

    def exponent(self) -> float:
        found = crossing(self.radius, self.start, 1e-9)
        if found > self.start:
            error = self._residual(found, self.radius(found))
            if not error < RESIDUAL:
                raise ArithmeticError(
                    f"the exponent solves its equation to {error:.1e} only, not to {RESIDUAL}"
                )
        return found

    def radius(self, s: float) -> float:
        """The spectral radius of T(s); its eigenvector is kept, for the next s is near."""
        tables = self._tables(s)
        value, self.weights = largest(lambda w: self._apply(tables, w), self.weights)
        return value

    def _tables(self, s: float) -> list[list[np.ndarray]]:
        """What c' X_ml c and d' X_ml d (first index) have of A_ml and of B_ml (second)."""
        n = len(self.values)
        tables = [[np.zeros((n, n)) for _ in self.sides] for _ in self.factors]
        for p in range(6):
            for q in range(6):
                share = 1 / (s - self.values[:, p, None] - self.values[:, q])
                for row, factors in zip(tables, self.factors, strict=True):
                    for table, f in zip(row, factors, strict=True):
                        table += ((f[:, p, None] * f[:, q]) * share).real
        return tables

    def _sources(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A and B."""
        n, (first, second) = len(self.basis), self.pairs
        flow = np.zeros((n, n))
        strength = self.rates * weights[n:]
        flow[first, second] = flow[second, first] = -strength
        flow[np.arange(n), np.arange(n)] = -flow.sum(1)
        return (self.basis.T * weights[:n]) @ self.basis, self.basis.T @ (flow @ self.basis)

    def _apply(self, tables: list[list[np.ndarray]], weights: np.ndarray) -> np.ndarray:
        at_nodes, at_edges = self._sources(weights)
        first, second = self.pairs
        own, other = (row[0] * at_nodes + row[1] * at_edges for row in tables)
        nodes = ((self.basis @ own) * self.basis).sum(1)
        whole = self.basis @ other @ self.basis.T
        ends = np.diag(whole)
        return np.concatenate((nodes, ends[first] + ends[second] - 2 * whole[first, second]))

    def _residual(self, s: float, radius: float) -> float:
        """How far, relative to |G| |S|, the moment S is from an eigenvector with this eigenvalue."""
        sources = self._sources(self.weights)
        squares = [np.outer(side, side) for side in (self.node.step, self.node.gossip)]
        turned = self.vectors.transpose(0, 2, 1)
        rest = size = 0.0
        seen = 0.0
        for m, block in enumerate(self.blocks):  # a row of blocks at a time: they have 36 n^2 numbers
            inner = sum(
                source[m][:, None, None] * side[m][None, :, None] * side[:, None, :]
                for source, side in zip(sources, self.sides, strict=True)
            )
            inner = inner / (s - self.values[m][None, :, None] - self.values[:, None, :])
            moment = (self.vectors[m] @ inner @ turned).real
            given = sum(
                source[m][:, None, None] * square for source, square in zip(sources, squares, strict=True)
            )
            left = block @ moment + moment @ self.blocks.transpose(0, 2, 1) + radius * given - s * moment
            rest += float((left**2).sum())
            size += float((moment**2).sum())
            seen += float((block**2).sum())
        return math.sqrt(rest / (size * seen))
