"""DADAO written from its equations, one event after the other: what the batched simulator must equal.

Nodes are rows of numpy arrays, time flows by ``scipy.linalg.expm``, and nothing is shared with the agent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from optenvs.core.random import Keys
from optenvs.envs.network.base import Network
from optenvs.envs.network.events import EXCHANGE, IDLE, REPORT


@dataclass(frozen=True)
class Event:
    """At ``time`` node ``i`` computes (``j`` None) or exchanges with ``j``."""

    time: float
    i: int
    j: int | None


def events(env: Network, keys: Keys) -> list[Event]:
    """The events of one instance in the order of time, out of the nodes' own lists."""
    agenda = env.traffic.clocks.draw(keys)  # type: ignore[union-attr]
    entry, found = agenda.entry[0].numpy(), {}
    for node, place in enumerate(agenda.first[0].tolist()):
        while entry[place, 2] != IDLE:
            number, other, kind, time = entry[place]
            if kind != REPORT:
                found[number] = Event(float(time), node, int(other) if kind == EXCHANGE else None)
            place += 1
    return [found[number] for number in sorted(found)]


@dataclass
class Reference:
    """Six vectors a node, ``(n, 6, d)``: x, xt, y, yt, z, zt."""

    mu: float
    L: float
    chi1: float
    x: np.ndarray

    def __post_init__(self) -> None:
        nu, L = self.mu / 2, self.L
        r = math.sqrt(nu / L)
        eta, alpha, alpha_t, theta = r / 8, r / 4, r / 8, 1 / (2 * r)
        self.nu = nu
        self.matrix = np.zeros((6, 6))
        self.matrix[0, [0, 1]] = -eta, eta
        self.matrix[1, [0, 1]] = eta, -eta
        self.matrix[2, [2, 3]] = -alpha, alpha
        self.matrix[3, [1, 2, 4]] = -theta * nu, -theta, -theta
        self.matrix[4, [4, 5]] = -alpha, alpha
        self.matrix[5, [4, 5]] = alpha_t, -alpha_t
        self.gamma, self.gamma_t, self.delta = 1 / (4 * L), 1 / (4 * math.sqrt(L * nu)), r / 4 + 1
        self.beta, self.beta_t = 1 / 2, 2 * self.chi1 / r
        self.state = np.zeros((len(self.x), 6, self.x.shape[1]))
        self.state[:, 0] = self.x
        self.last = np.zeros(len(self.x))

    def mix(self, node: int, time: float) -> None:
        """Let the time of one node flow."""
        self.state[node] = scipy.linalg.expm(self.matrix * (time - self.last[node])) @ self.state[node]
        self.last[node] = time

    def play(self, event: Event, gradient: Callable[[int, np.ndarray], np.ndarray]) -> None:
        """One event."""
        i, j = event.i, event.j
        self.mix(i, event.time)
        if j is None:
            x, _, _, yt, _, _ = self.state[i]
            residual = gradient(i, x) - self.nu * x - yt
            self.state[i, 0] -= self.gamma * residual
            self.state[i, 1] -= self.gamma_t * residual
            self.state[i, 3] += self.delta * residual
            return
        self.mix(j, event.time)
        apart = self.state[i, 2] + self.state[i, 4] - self.state[j, 2] - self.state[j, 4]
        for node, sign in ((i, 1), (j, -1)):
            self.state[node, 4] -= sign * self.beta * apart
            self.state[node, 5] -= sign * self.beta_t * apart
