"""How fast, exactly, the mean square of a randomised linear network dies out.

Between events a state s follows s' = A s; event k comes at rate r_k and adds u_k (v_k' s). The second moment
S = E s s' then follows

    S' = G S + S G' + sum_k r_k (v_k' S v_k) u_k u_k',     G = A + sum_k r_k u_k v_k',

a semigroup that keeps S positive semidefinite, so that its growth rate is its largest real eigenvalue s.
Eliminating S from the eigenvalue equation leaves one unknown w_k = v_k' S v_k an event,

    w = T(s) w,    T_jk(s) = r_k v_j' X_k(s) v_j,    s X_k = G X_k + X_k G' + u_k u_k',

where T(s) >= 0 falls with s: s is where its spectral radius crosses 1, or 2 max Re eig(G), the rate of the
square of the mean, where it stays below. This needs matrices as large as the number of events, where the
generator itself has the square of the number of variables; both give the same number, and tests say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .graphs import Graph
from .spectra import Rates, chi1, chi2

RESIDUAL = 1e-6
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Jumps:
    """A linear system with random jumps of rank one: see the module.

    Args:
        drift: the matrix A.
        out: the vectors u_k, one a row.
        seen: the vectors v_k, one a row.
        rates: the rates r_k.
    """

    drift: Float[np.ndarray, "N N"]
    out: Float[np.ndarray, "K N"]
    seen: Float[np.ndarray, "K N"]
    rates: Float[np.ndarray, " K"]

    def on(self, basis: Float[np.ndarray, "N M"]) -> Jumps:
        """The system on an invariant subspace, given an orthonormal basis as columns."""
        return Jumps(basis.T @ self.drift @ basis, self.out @ basis, self.seen @ basis, self.rates)


def growth_rate(system: Jumps) -> float:
    """The exponent s of E |state|^2 ~ e^(s t): negative where it dies out, -inf without variables.

    Raises:
        ArithmeticError: when the eigenvectors of G are so nearly dependent that the result does not satisfy
            the eigenvalue equation to 1e-6.
    """
    if not len(system.drift):
        return -math.inf
    mean = system.drift + (system.out.T * system.rates) @ system.seen
    values, vectors = np.linalg.eig(mean)
    out = np.linalg.solve(vectors, system.out.T.astype(np.complex128)).T
    squares = (_squares(system.seen @ vectors), _squares(out))
    sums = (values[:, None] + values).ravel()
    start = float(np.real(sums).max())

    def coupling(s: float) -> np.ndarray:
        return np.real((squares[0] / (s - sums)) @ squares[1].T) * system.rates

    exponent = crossing(lambda s: float(np.real(np.linalg.eigvals(coupling(s))).max(initial=0.0)), start)
    if exponent == start:
        return start

    weights, sides = np.linalg.eig(coupling(exponent))
    side = np.real(sides[:, np.real(weights).argmax()])
    inner = ((system.rates * side) @ squares[1] / (exponent - sums)).reshape(mean.shape)
    error = _residual(system, mean, np.real(vectors @ inner @ vectors.T), exponent)
    if not error < RESIDUAL:
        raise ArithmeticError(f"the exponent solves its equation to {error:.1e} only, not to {RESIDUAL}")
    return exponent


def crossing(radius: Callable[[float], float], start: float, tolerance: float = 1e-13) -> float:
    """Where the spectral radius of T(s) crosses 1, for s > ``start``; ``start``, if it stays below."""

    def excess(s: float) -> float:
        # 1 - 1 / (spectral radius): nearly a straight line in s, and 0 at the exponent
        return 1 - 1 / max(radius(s), _TINY)

    low = start + 1e-9 * max(1.0, abs(start))
    if excess(low) <= 0:
        return start
    step = 0.1
    while excess(low + step) > 0:
        step *= 4
    return _root(excess, low, low + step, tolerance)


def _residual(system: Jumps, mean: np.ndarray, moment: np.ndarray, exponent: float) -> float:
    """How far, relative to |G| |S|, the moment S is from an eigenvector with this eigenvalue."""
    half = mean @ moment
    seen = ((system.seen @ moment) * system.seen).sum(1)
    rest = half + half.T + (system.out.T * (system.rates * seen)) @ system.out - exponent * moment
    return float(np.linalg.norm(rest) / (np.linalg.norm(moment) * np.linalg.norm(mean)))


def _squares(rows: np.ndarray) -> np.ndarray:
    """The products of any two entries of each row, ``(K, N^2)``."""
    return (rows[:, :, None] * rows[:, None]).reshape(len(rows), -1)


def _root(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """The zero of a falling function between two signs, by regula falsi with the Illinois rule."""
    above, below = function(low), function(high)
    side = 0
    for _ in range(200):
        middle = (low * below - high * above) / (below - above)
        if high - low < tolerance * max(1.0, abs(middle)):
            break
        value = function(middle)
        if value == 0:
            return middle
        if value > 0:
            low, above = middle, value
            below = below / 2 if side > 0 else below
            side = 1
        else:
            high, below = middle, value
            above = above / 2 if side < 0 else above
            side = -1
    return (low + high) / 2


def centred(nodes: int) -> Float[np.ndarray, "n m"]:
    """An orthonormal basis of the vectors of sum 0, as m = n - 1 columns."""
    ones = np.ones((nodes, 1))
    return np.linalg.qr(np.concatenate((ones, np.eye(nodes)[:, 1:]), 1))[0][:, 1:]


class Node(NamedTuple):
    """DADAO at one node, as linear maps of its 6 variables x, xt, y, yt, z, zt.

    Attributes:
        drift: the matrix M between events.
        step, sees: a gradient adds ``step`` times what ``sees`` says.
        gossip, hears: an exchange of i and j adds ``gossip`` times the difference of what ``hears`` says.
    """

    drift: Float[np.ndarray, "6 6"]
    step: Float[np.ndarray, " 6"]
    sees: Float[np.ndarray, " 6"]
    gossip: Float[np.ndarray, " 6"]
    hears: Float[np.ndarray, " 6"]


def dadao_node(a: float, mu: float, L: float, first: float) -> Node:
    """DADAO on f(x) = a (x - b)^2 / 2 about its fixed point, where chi_1 is ``first``.

    The constants are those of Nabli and Oyallon (2023), with nu = mu / 2; the environment knows no agent, and
    so has them here once more.
    """
    nu = mu / 2
    root = math.sqrt(nu / L)
    eta, alpha, theta = root / 8, root / 4, 0.5 / root
    drift = np.array(
        [
            [-eta, eta, 0, 0, 0, 0],
            [eta, -eta, 0, 0, 0, 0],
            [0, 0, -alpha, alpha, 0, 0],
            [0, -theta * nu, -theta, 0, -theta, 0],
            [0, 0, 0, 0, -alpha, alpha],
            [0, 0, 0, 0, alpha / 2, -alpha / 2],
        ]
    )
    step = np.array([-1 / (4 * L), -1 / (4 * math.sqrt(L * nu)), 0, alpha + 1, 0, 0])
    gossip = np.array([0, 0, 0, 0, -0.5, -2 * first / root])
    x, y, yt, z = np.eye(6)[[0, 2, 3, 4]]
    return Node(drift, step, (a - nu) * x - yt, gossip, y + z)


def dadao_jumps(
    graph: Graph, rates: Rates, a: Float[np.ndarray, " n"], mu: float, L: float, first: float | None = None
) -> Jumps:
    """DADAO on f_i(x) = a_i (x - b_i)^2 / 2 about its fixed point, within sum z = sum zt = 0.

    ``first`` is the chi_1 that DADAO is told, that of the graph by default.
    """
    each = [dadao_node(float(one), mu, L, chi1(graph, rates) if first is None else first) for one in a]
    node, nodes, edges = each[0], np.eye(graph.nodes), graph.incidence.T
    system = Jumps(
        np.kron(nodes, node.drift),
        np.concatenate((np.kron(nodes, node.step), np.kron(edges, node.gossip))),
        np.concatenate(
            [np.kron(row, one.sees)[None] for row, one in zip(nodes, each, strict=True)]
            + [np.kron(edges, node.hears)]
        ),
        np.concatenate((np.ones(graph.nodes), rates)),
    )
    free, bound = np.eye(6)[:, :4], np.eye(6)[:, 4:]
    return system.on(np.concatenate((np.kron(nodes, free), np.kron(centred(graph.nodes), bound)), 1))


def mean_square_exponent(
    graph: Graph, rates: Rates, a: Float[np.ndarray, " n"], mu: float, L: float
) -> float:
    """The exponent of E sum_i |x_i - x*|^2 under DADAO, for f_i(x) = a_i |x - b_i|^2 / 2.

    Negative where the method converges; with chi_1 chi_2 <= 1/2 at most -sqrt(mu / L) / (8 sqrt 2).

    Args:
        graph: the graph.
        rates: the rate of each edge, > 0.
        a: the curvatures a_i, in [mu, L].
        mu: the strong convexity that DADAO is told.
        L: the smoothness that DADAO is told.
    """
    return growth_rate(dadao_jumps(graph, rates, a, mu, L))


def averaging_exponent(graph: Graph, rates: Rates, momentum: bool = False) -> float:
    """The exponent of E sum_i |x_i - mean|^2 when edges only average their two ends.

    With ``momentum``, that of A2CiD2 (Nabli, Belilovsky, Oyallon 2023, "A2CiD2: Accelerating Asynchronous
    Communication in Decentralized Deep Learning"): x' = eta (xt - x), xt' = eta (x - xt), and on an edge,
    with m = x_i - x_j, x_i -= m / 2 and xt_i -= sqrt(chi_1 / chi_2) m / 2; eta = 1 / (2 sqrt(chi_1 chi_2)).
    """
    edges, nodes = graph.incidence.T, np.eye(graph.nodes)
    drift, jump, seen = np.zeros((1, 1)), np.array([-0.5]), np.array([1.0])
    if momentum:
        first, second = chi1(graph, rates), chi2(graph, rates)
        drift = np.array([[-1.0, 1.0], [1.0, -1.0]]) / (2 * math.sqrt(first * second))
        jump, seen = np.array([-0.5, -0.5 * math.sqrt(first / second)]), np.array([1.0, 0.0])
    system = Jumps(np.kron(nodes, drift), np.kron(edges, jump), np.kron(edges, seen), rates)
    return growth_rate(system.on(np.kron(centred(graph.nodes), np.eye(len(drift)))))
