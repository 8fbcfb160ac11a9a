"""The exponent of DADAO's mean square on graphs that take turns.

Graph k is active for a time t = 1 / (switch rate), and then the second moment follows S' = L_k S, see
:mod:`optenvs.envs.network.exponent`. Over one period it is multiplied by exp(t L_K) ... exp(t L_1). It keeps
S positive semidefinite, so that its eigenvalue r of largest modulus is real, and the exponent is
log(r) / (K t). The matrices act on the N (N + 1) / 2 entries of a symmetric S of N = 6 n - 2 variables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from .exponent import Jumps, dadao_jumps
from .graphs import Graph
from .spectra import EachRates, worst


def switching_exponent(
    graphs: Sequence[Graph], rates: EachRates, a: Float[np.ndarray, " n"], mu: float, L: float
) -> float:
    """The exponent of E sum_i |x_i - x*|^2 under DADAO, for f_i(x) = a_i |x - b_i|^2 / 2.

    DADAO is told the worst chi_1 of the graphs, and the graphs change chi_1 times the total rate times in a
    unit of time, as in :class:`optenvs.envs.network.rates.EdgeRates`.

    Args:
        graphs: the graphs, on the same two nodes or more.
        rates: for each of them the rate of each edge, > 0.
        a: the curvatures a_i, in [mu, L].
        mu: the strong convexity that DADAO is told.
        L: the smoothness that DADAO is told.
    """
    first, _ = worst(graphs, rates)
    time = 1 / (first * float(rates[0].sum()))
    turns = [dadao_jumps(graph, rate, a, mu, L, first) for graph, rate in zip(graphs, rates, strict=True)]
    return period_exponent(turns, time)


def period_exponent(turns: Sequence[Jumps], time: float) -> float:
    """The exponent of E |state|^2 when each of these systems acts for ``time``, in turn, for ever."""
    whole = None
    for system in turns:
        factor = torch.linalg.matrix_exp(torch.from_numpy(time * generator(system))).numpy()
        whole = factor if whole is None else factor @ whole
    assert whole is not None
    return math.log(float(np.abs(np.linalg.eigvals(whole)).max())) / (len(turns) * time)


def generator(system: Jumps) -> Float[np.ndarray, "P P"]:
    """The matrix of S' = G S + S G' + sum_k r_k (v_k' S v_k) u_k u_k' on the upper triangle of S."""
    size = len(system.drift)
    mean = system.drift + (system.out.T * system.rates) @ system.seen
    first, second = np.triu_indices(size)
    every = np.arange(len(first))
    unit = np.zeros((len(first), size, size))
    unit[every, first, second] = unit[every, second, first] = 1.0
    half = mean @ unit
    twice = np.where(first == second, 1, 2)
    seen = system.seen[:, first] * system.seen[:, second] * twice  # v_k' S v_k of each unit matrix
    out = system.out[:, first] * system.out[:, second]
    return (half + half.transpose(0, 2, 1))[:, first, second].T + (out.T * system.rates) @ seen
