"""MSDA: accelerated descent on the dual with accelerated gossip (Scaman et al. 2017, algorithm 2).

With the conjugates f_i^* of the nodes' functions and dual points x = y = 0 at the start, a round is

    th_i = grad f_i^*(x_i);   a = th - P th;   y+ = x - eta a;   x = (1 + m) y+ - m y;   y = y+

P th is what K = floor(1 / sqrt(gam)) rounds of gossip make of th: the polynomial of degree K with the value 1
at the consensus that is least on the rest of the spectrum (Chebyshev's). With the plain Laplacian's extreme
positive eigenvalues, gam = smallest / largest, and M = I - 2 / (largest + smallest) Laplacian,

    w_0 = th,  w_1 = M w_0,  w_{k+1} = o_{k+1} M w_k + (1 - o_{k+1}) w_{k-1},  P th = w_K
    o_2 = 1 / (1 - r^2 / 2),  o_{k+1} = 1 / (1 - r^2 o_k / 4),  r = (1 - gam) / (1 + gam)

    c = (1 - sqrt(gam)) / (1 + sqrt(gam)),   C = (1 + c^(2 K)) / (1 + c^K)^2,   eta = mu C
    m = (s - q) / (s + q)  with  s = sqrt(L / mu),  q = (1 - c^K) / (1 + c^K)

On a complete graph gam is 1: one round gives the mean. The primal iterates are grad f_i^*(x_i).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Agent, Observation
from ._rounds import condition, constant, no_action, say


@struct
class MSDAState:
    """MSDA's memory.

    Attributes:
        x, y: the dual points, ``(B, N, d)`` each.
        theta: the gradients of the conjugates at x, ``(B, N, d)``.
        now, before: w_k and w_{k-1}, ``(B, N, d)`` each.
        weight: o of the gossip under way, ``(B, 1, 1)``.
        sent: gossips since the last gradient, ``(B, 1, 1)``.
        rounds: K, ``(B, 1, 1)``.
        radius: r, ``(B, 1, 1)``.
        pull: 2 / (largest + smallest), ``(B, 1, 1)``.
        eta, momentum: step size and m, ``(B, 1, 1)`` each.
    """

    x: Float[Tensor, "B N d"]
    y: Float[Tensor, "B N d"]
    theta: Float[Tensor, "B N d"]
    now: Float[Tensor, "B N d"]
    before: Float[Tensor, "B N d"]
    weight: Float[Tensor, "B 1 1"]
    sent: Int64[Tensor, "B 1 1"]
    rounds: Int64[Tensor, "B 1 1"]
    radius: Float[Tensor, "B 1 1"]
    pull: Float[Tensor, "B 1 1"]
    eta: Float[Tensor, "B 1 1"]
    momentum: Float[Tensor, "B 1 1"]


@dataclass(frozen=True, eq=False)
class MSDA(Agent):
    """MSDA, which needs the conjugates' gradients and a graph that stays.

    A round is K steps of gossip and one in which the gradients are computed.
    """

    needs: ClassVar[tuple[str, ...]] = ("conjugate", "gossip")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> MSDAState:
        point = observation["point"]
        graphs = problem.radii.shape[1]
        if graphs > 1:
            raise ValueError(f"graph: MSDA expects one that stays, got {graphs} that take turns")
        gap = 1 / condition(problem)
        # a star of k^2 nodes has gam = 1 / k^2: rounding must not take one off K
        rounds = (gap.rsqrt() + 1e-6).floor()
        c = (1 - gap.sqrt()) / (1 + gap.sqrt())
        power = c**rounds
        root, quotient = (problem.L / problem.mu).double().sqrt(), (1 - power) / (1 + power)
        eta = problem.mu * (1 + power**2) / (1 + power) ** 2
        extremes = problem.largest + problem.smallest
        one = constant(torch.ones_like(gap), point)
        return MSDAState(
            x=point,
            y=point,
            theta=observation["gradient"],
            now=point,
            before=point,
            weight=one,
            sent=no_action(point),
            rounds=rounds.long().view(-1, 1, 1),
            radius=constant((1 - gap) / (1 + gap), point),
            pull=constant(torch.where(extremes > 0, 2 / extremes, 0.0), point),
            eta=constant(eta, point),
            momentum=constant((root - quotient) / (root + quotient), point),
        )

    def act(self, state: MSDAState, observation: Observation) -> tuple[dict[str, Tensor], MSDAState]:
        computed = state.sent == 0
        theta = torch.where(computed, observation["gradient"], state.theta)
        # one gossip: w -> M w, and the polynomial of the next degree
        apart = observation["degree"] * state.now - observation["total"][:, :, 0]
        mixed = state.weight * (state.now - state.pull * apart) + (1 - state.weight) * state.before
        now = torch.where(computed, theta, mixed)
        ends = state.sent == state.rounds
        ahead = state.x - state.eta * (theta - now)
        x = torch.where(ends, ahead + state.momentum * (ahead - state.y), state.x)
        last = torch.where(state.sent == 1, 2.0, state.weight)
        weight = torch.where(computed, 1.0, 1 / (1 - state.radius**2 * last / 4))
        action = say(observation, x, now.unsqueeze(2), compute=ends, send=~ends)
        return action, MSDAState(
            x=x,
            y=torch.where(ends, ahead, state.y),
            theta=theta,
            now=now,
            before=state.now,
            weight=weight,
            sent=torch.where(ends, 0, state.sent + 1),
            rounds=state.rounds,
            radius=state.radius,
            pull=state.pull,
            eta=state.eta,
            momentum=state.momentum,
        )
