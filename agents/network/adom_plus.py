"""ADOM+: accelerated primal descent over graphs that may change (Kovalev et al. 2021, algorithm 2).

With the gossip matrix W_k = Laplacian / its largest eigenvalue of round k, the worst ratio chi of a
Laplacian's extreme positive eigenvalues, and g_i = grad f_i(xg_i), a round is

    xg = tau1 x + (1 - tau1) xf,   yg = sig1 y + (1 - sig1) yf,   zg = sig1 z + (1 - sig1) zf
    x+ = x + eta alpha (xg - x+) - eta (g - nu xg - y+)
    y+ = y + theta beta (g - nu xg - y+) - theta ((yg + zg)/nu + x+)            both are solved for at once
    z+ = z + gamma delta (zg - z) - W_k v,   m+ = v - W_k v,   v = (gamma/nu) (yg + zg) + m
    xf = xg + tau2 (x+ - x),   yf = yg + sig2 (y+ - y),   zf = zg - zeta W_k (yg + zg)

    tau1 = 1 / (sqrt(L/mu) + 1/2)   tau2 = sqrt(mu/L)      sig2 = tau2 / (16 chi)   sig1 = 1 / (1/sig2 + 1/2)
    eta = 1 / (L tau2)              alpha = mu / 2         beta = 1 / (2 L)         delta = 1 / (17 L)
    nu = mu / 2     gamma = nu / (14 sig2 chi^2)           theta = nu / (4 sig2)    zeta = 1/2

Multi-consensus: I - W_k is the product of the next n = ceil(chi ln 2) of these matrices, those of later
rounds to the left, and chi is 2 in the constants, where n > 1.

The constants, the eigenvalue of each graph's own Laplacian, and the rule for chi are those of the code of
Nabli and Oyallon (2023); it draws y and m at random where they are 0 here (any start will do), and has the
product of a list of graphs in the other order, which no message can follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Agent, Observation
from ._rounds import check_room, condition, constant, no_action, say


@struct
class Constants:
    """The numbers of the method, ``(B, 1, 1)`` each; ``rounds`` of gossip to one of gradients."""

    tau1: Float[Tensor, "B 1 1"]
    tau2: Float[Tensor, "B 1 1"]
    sigma1: Float[Tensor, "B 1 1"]
    sigma2: Float[Tensor, "B 1 1"]
    eta: Float[Tensor, "B 1 1"]
    alpha: Float[Tensor, "B 1 1"]
    beta: Float[Tensor, "B 1 1"]
    gamma: Float[Tensor, "B 1 1"]
    delta: Float[Tensor, "B 1 1"]
    nu: Float[Tensor, "B 1 1"]
    theta: Float[Tensor, "B 1 1"]
    rounds: Int64[Tensor, "B 1 1"]


@struct
class ADOMPlusState:
    """ADOM+'s memory.

    Attributes:
        x, xf, y, yf: the vectors of the round to come; they need no gossip, ``(B, N, d)`` each.
        z, zf, m: those of the round under way, ``(B, N, d)`` each.
        p: yg + zg of the round under way, ``(B, N, d)``.
        mixed: what the gossips of the round have made of p and m, ``(B, N, 2, d)``.
        point: the iterate published, x of the last round that is complete, ``(B, N, d)``.
        sent: gossips of the round, ``(B, 1, 1)``.
        gossips: gossips of the episode, ``(B, 1, 1)``.
        degree: the number of neighbours in the gossip under way, ``(B, N, 1)``.
        radii: the largest eigenvalue of each graph's Laplacian, ``(B, K)``.
        constants: the numbers.
    """

    x: Float[Tensor, "B N d"]
    xf: Float[Tensor, "B N d"]
    y: Float[Tensor, "B N d"]
    yf: Float[Tensor, "B N d"]
    z: Float[Tensor, "B N d"]
    zf: Float[Tensor, "B N d"]
    m: Float[Tensor, "B N d"]
    p: Float[Tensor, "B N d"]
    mixed: Float[Tensor, "B N 2 d"]
    point: Float[Tensor, "B N d"]
    sent: Int64[Tensor, "B 1 1"]
    gossips: Int64[Tensor, "B 1 1"]
    degree: Float[Tensor, "B N 1"]
    radii: Float[Tensor, "B K"]
    constants: Constants


@dataclass(frozen=True, eq=False)
class ADOMPlus(Agent):
    """ADOM+. It sends two vectors at once, yg + zg and m, so that an edge is active once a gossip.

    Args:
        multi_consensus: as many gossips to a gradient as make the condition of the graph at most 2.
    """

    multi_consensus: bool = False

    needs: ClassVar[tuple[str, ...]] = ("gradient", "gossip")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> ADOMPlusState:
        check_room(observation, 2)
        x = observation["point"]
        zero = torch.zeros_like(x)
        radii = torch.where(problem.radii > 0, problem.radii, 1.0)  # a single node has no one to hear
        return ADOMPlusState(
            x=x,
            xf=x,
            y=zero,
            yf=zero,
            z=zero,
            zf=zero,
            m=zero,
            p=zero,
            mixed=torch.stack((zero, zero), 2),
            point=x,
            sent=no_action(x),
            gossips=no_action(x),
            degree=observation["degree"],
            radii=radii.to(x),
            constants=self._constants(problem, x),
        )

    def _constants(self, problem: Any, like: Tensor) -> Constants:
        mu, L, chi = problem.mu.double(), problem.L.double(), condition(problem)
        rounds = (chi * math.log(2)).ceil() if self.multi_consensus else torch.ones_like(chi)
        chi = torch.where(rounds > 1, 2.0, chi)
        tau2, nu = (mu / L).sqrt(), mu / 2
        sigma2 = tau2 / (16 * chi)
        values = {
            "tau1": 1 / ((L / mu).sqrt() + 0.5),
            "tau2": tau2,
            "sigma1": 1 / (1 / sigma2 + 0.5),
            "sigma2": sigma2,
            "eta": 1 / (L * tau2),
            "alpha": mu / 2,
            "beta": 1 / (2 * L),
            "gamma": nu / (14 * sigma2 * chi**2),
            "delta": 1 / (17 * L),
            "nu": nu,
            "theta": nu / (4 * sigma2),
        }
        shaped = {name: constant(value, like) for name, value in values.items()}
        return Constants(**shaped, rounds=rounds.long().view(-1, 1, 1))

    def act(self, state: ADOMPlusState, observation: Observation) -> tuple[dict[str, Tensor], ADOMPlusState]:
        c = state.constants
        heard = state.sent > 0
        mixed = torch.where(heard.unsqueeze(-1), self._gossip(state, observation), state.mixed)
        z, zf, m = self._end(state, mixed, state.sent == c.rounds)
        begins = (state.sent == c.rounds) | ~heard

        # the next round: x and y by the gradient, at once; z and m after its gossips
        g, xg = observation["gradient"], _between(c.tau1, state.x, state.xf)
        yg, zg = _between(c.sigma1, state.y, state.yf), _between(c.sigma1, z, zf)
        p, q = yg + zg, 1 + c.eta * c.alpha
        rest = (state.x + c.eta * ((c.alpha + c.nu) * xg - g)) / q  # x+ = rest + eta / q y+
        force = c.beta * (g - c.nu * xg) - p / c.nu - rest
        y = (state.y + c.theta * force) / (1 + c.theta * (c.beta + c.eta / q))
        x = rest + c.eta / q * y

        x, xf, y, yf, p = (
            torch.where(begins, new, old)
            for new, old in (
                (x, state.x),
                (xg + c.tau2 * (x - state.x), state.xf),
                (y, state.y),
                (yg + c.sigma2 * (y - state.y), state.yf),
                (p, state.p),
            )
        )
        mixed = torch.where(begins.unsqueeze(-1), torch.stack((p, m), 2), mixed)
        sent = torch.where(begins, 1, state.sent + 1)
        last = sent == c.rounds  # the gradient of the next round is asked with the last gossip of this
        point = torch.where(last, x, state.point)
        action = say(
            observation,
            _between(c.tau1, x, xf),
            mixed,
            compute=last,
            send=torch.ones_like(last),
            recommendation=point,
        )
        return action, ADOMPlusState(
            x=x,
            xf=xf,
            y=y,
            yf=yf,
            z=z,
            zf=zf,
            m=m,
            p=p,
            mixed=mixed,
            point=point,
            sent=sent,
            gossips=state.gossips + 1,
            degree=observation["degree"],
            radii=state.radii,
            constants=c,
        )

    def _gossip(self, state: ADOMPlusState, observation: Observation) -> Tensor:
        """(I - W_k) of what was sent, with the W_k of the graph that carried it."""
        turn = (state.gossips - 1).clamp_min(0) % state.radii.shape[1]
        radius = state.radii.gather(1, turn.squeeze(-1)).view(-1, 1, 1, 1)
        apart = state.degree.unsqueeze(-1) * state.mixed - observation["total"][:, :, :2]
        return state.mixed - apart / radius

    def _end(self, state: ADOMPlusState, mixed: Tensor, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, zf and m after the round whose gossips have made ``mixed`` of p and m, where it ends."""
        c = state.constants
        zg, ratio = _between(c.sigma1, state.z, state.zf), c.gamma / c.nu
        p, m = mixed.unbind(2)
        after = ratio * p + m
        z = state.z + c.gamma * c.delta * (zg - state.z) - (ratio * state.p + state.m - after)
        zf = zg - (state.p - p) / 2
        return (
            torch.where(ends, z, state.z),
            torch.where(ends, zf, state.zf),
            torch.where(ends, after, state.m),
        )


def _between(weight: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return weight * one + (1 - weight) * other
