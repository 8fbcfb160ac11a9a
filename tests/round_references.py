"""Synchronous methods as their equations read: whole matrices, one instance, numpy.

Each gives the iterates of all nodes, ``(n, d)``, after every round. ``gradient`` maps the points of all
nodes to the gradients of their own functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import numpy as np

Points = np.ndarray
Oracle = Callable[[Points], Points]


def dgd(mixing: np.ndarray, gradient: Oracle, x: Points, lr: float) -> Iterator[Points]:
    while True:
        x = mixing @ x - lr * gradient(x)
        yield x


def extra(mixing: np.ndarray, gradient: Oracle, x: Points, lr: float) -> Iterator[Points]:
    one = np.eye(len(x))
    before, x = x, mixing @ x - lr * gradient(x)
    while True:
        yield x
        change = gradient(x) - gradient(before)
        before, x = x, (one + mixing) @ x - (one + mixing) / 2 @ before - lr * change


def gradient_tracking(mixing: np.ndarray, gradient: Oracle, x: Points, lr: float) -> Iterator[Points]:
    v = gradient(x)
    while True:
        moved = mixing @ x - lr * v
        v = mixing @ v + gradient(moved) - gradient(x)
        x = moved
        yield x


def adom_plus(
    laplacians: Sequence[np.ndarray], gradient: Oracle, x: Points, mu: float, L: float, consensus: bool
) -> Iterator[Points]:
    n, one = len(x), np.eye(len(x))
    spectra = [np.linalg.eigvalsh(laplacian) for laplacian in laplacians]
    chi = max(s[-1] / s[1] for s in spectra)
    gossip = [laplacian / s[-1] for laplacian, s in zip(laplacians, spectra, strict=True)]
    count = math.ceil(chi * math.log(2)) if consensus else 1
    if count > 1:
        chi = 2.0
    tau1, tau2 = 1 / (math.sqrt(L / mu) + 0.5), math.sqrt(mu / L)
    sigma2 = tau2 / (16 * chi)
    sigma1 = 1 / (1 / sigma2 + 0.5)
    eta, alpha, beta, delta, nu = 1 / (L * tau2), mu / 2, 1 / (2 * L), 1 / (17 * L), mu / 2
    gamma, theta = nu / (14 * sigma2 * chi**2), nu / (4 * sigma2)
    # the implicit pair: (x+, y+) times this matrix is known
    pair = np.array(
        [[1 + eta * alpha, -eta], [theta, 1 + theta * beta]]  # rows: the equations of x+ and of y+
    )
    y = z = m = np.zeros_like(x)
    xf, yf, zf = x, y, z
    turn, alone = 0, np.linalg.matrix_power(one - gossip[0], count)
    while True:
        xg = tau1 * x + (1 - tau1) * xf
        yg = sigma1 * y + (1 - sigma1) * yf
        zg = sigma1 * z + (1 - sigma1) * zf
        g = gradient(xg)
        right = np.stack(
            (
                x + eta * alpha * xg - eta * (g - nu * xg),
                y + theta * beta * (g - nu * xg) - theta / nu * (yg + zg),
            )
        )
        moved, turned = np.linalg.solve(pair, right.reshape(2, -1)).reshape(2, n, -1)
        if len(gossip) == 1:
            w = one - alone
        else:
            products = [one - gossip[(turn + k) % len(gossip)] for k in range(count)]
            turn += count
            w = one - reduce(lambda done, later: later @ done, products)
        v = gamma / nu * (yg + zg) + m
        z, m = z + gamma * delta * (zg - z) - w @ v, v - w @ v
        xf, yf, zf = xg + tau2 * (moved - x), yg + sigma2 * (turned - y), zg - w @ (yg + zg) / 2
        x, y = moved, turned
        yield x


def msda(laplacian: np.ndarray, conjugate: Oracle, x: Points, mu: float, L: float) -> Iterator[Points]:
    """The dual points; ``conjugate`` is the gradient of the conjugates."""
    w = laplacian / (np.trace(laplacian) / 2)  # over the number of edges
    spectrum = np.linalg.eigvalsh(w)
    gap, one = spectrum[1] / spectrum[-1], np.eye(len(w))
    complete = 1 - gap < 1e-9
    count = math.floor(1 / math.sqrt(gap) + 1e-9)
    c1 = 0.0 if complete else (1 - math.sqrt(gap)) / (1 + math.sqrt(gap))
    c2 = math.inf if complete else (1 + gap) / (1 - gap)
    step = one - 2 / ((1 + gap) * spectrum[-1]) * w

    def accelerated(u: Points) -> Points:
        if complete:
            return u - u.mean(0)
        weights, vectors = [1.0, c2], [u, c2 * step @ u]
        for _ in range(1, count):
            weights.append(2 * c2 * weights[-1] - weights[-2])
            vectors.append(2 * c2 * step @ vectors[-1] - vectors[-2])
        return u - vectors[-1] / weights[-1]

    power, root = c1**count, math.sqrt(L / mu)
    eta = mu * (1 + c1 ** (2 * count)) / (1 + power) ** 2
    momentum = ((1 + power) * root - 1 + power) / ((1 + power) * root + 1 - power)
    y = x
    while True:
        ahead = x - eta * accelerated(conjugate(x))
        x, y = (1 + momentum) * ahead - momentum * y, ahead
        yield x


def slope(errors: np.ndarray, share: float = 0.6) -> float:
    """The least-squares slope of the log of a column of errors a round, over the last ``share`` of it."""
    kept = np.log(errors[round(len(errors) * (1 - share)) :])
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0])
