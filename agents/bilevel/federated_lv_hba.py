"""LV-HBA over clients: each iterates by itself, and a server takes the mean of what comes (Yao et al. 2024).

Without constraints LV-HBA is descent on the Moreau envelope of the lower function. Each client that takes
part begins a round from the server's (x, y, theta), iterates ``local`` times with gradients of its own,

    theta <- theta - eta (grad_y f(x, theta) + (theta - y) / gamma1)
    x <- x - alpha (grad_x F(x, y) / c_k + grad_x f(x, y) - grad_x f(x, theta))
    y <- y - alpha (grad_y F(x, y) / c_k + grad_y f(x, y) - (y - theta) / gamma1),

the last two at the old x and y and the new theta, c_k = c (k + 1)^power with the number k of rounds, and
sends the three to the server. An iteration asks twice, 4 gradients in all; sending is a query of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Agent, Observation, each_row, require
from ._levels import require_numbers

BEGIN, INNER, OUTER, SENT = range(4)
"""What a client's last query was: none in this round, at theta, at (x, y) with the new theta, the message."""


@struct
class FederatedLVHBAState:
    """Where each client stands.

    Attributes:
        x, y, theta: of the iteration, ``(B, N, n)`` and ``(B, N, m)``.
        phase: see the module's constants, ``(B, N, 1)``.
        done: iterations of this round, ``(B, N, 1)``.
        round: rounds when this one began, ``(B, N, 1)``.
    """

    x: Float[Tensor, "B N n"]
    y: Float[Tensor, "B N m"]
    theta: Float[Tensor, "B N m"]
    phase: Int64[Tensor, "B N 1"]
    done: Int64[Tensor, "B N 1"]
    round: Float[Tensor, "B N 1"]


@dataclass(frozen=True, eq=False)
class FederatedLVHBA(Agent):
    """LV-HBA by clients with a server's mean. Each number may be a tensor ``(B,)`` with one an instance.

    Args:
        alpha: the step of x and y; the published script's, as all of these.
        eta: that of theta.
        gamma1: the proximal parameter.
        c, power: of the penalty, c (k + 1)^power.
        local: iterations that a client makes in a round.
    """

    alpha: float | Float[Tensor, "B"] = 0.1
    eta: float | Float[Tensor, "B"] = 0.1
    gamma1: float | Float[Tensor, "B"] = 10.0
    c: float | Float[Tensor, "B"] = 1.0
    power: float | Float[Tensor, "B"] = 0.5
    local: int = 1

    needs = ("round", "upper_gradient", "lower_gradient", "inner_gradient")
    takes = ("minibatches",)

    def __post_init__(self) -> None:
        for field in ("alpha", "eta", "power"):
            require_numbers(self, field, lambda v: (v >= 0) & v.isfinite(), "a finite number >= 0")
        for field in ("gamma1", "c"):
            require_numbers(self, field, lambda v: (v > 0) & v.isfinite(), "a finite number > 0")
        whole = isinstance(self.local, int) and not isinstance(self.local, bool) and self.local >= 1
        require(self, "local", whole, "a whole number >= 1")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> FederatedLVHBAState:
        active = observation["active"]
        nothing = torch.zeros_like(active, dtype=torch.int64)
        return FederatedLVHBAState(
            x=observation["x"],
            y=observation["y"],
            theta=observation["inner"],
            phase=nothing,
            done=nothing,
            round=torch.zeros_like(active),
        )

    def act(self, state: FederatedLVHBAState, observation: Observation) -> tuple[Action, FederatedLVHBAState]:
        state = self._begun(state, observation)
        active, phase, n = observation["active"] > 0, state.phase, state.x.shape[-1]
        at = {name: each_row(name, getattr(self, name), state.x) for name in ("alpha", "eta", "gamma1", "c")}
        weight = 1 / (at["c"] * (state.round + 1) ** each_row("power", self.power, state.x))

        inner = observation["inner_gradient"]
        pull = inner[..., n:] + (state.theta - state.y) / at["gamma1"]
        theta = torch.where(active & (phase == INNER), state.theta - at["eta"] * pull, state.theta)

        outer = weight * observation["upper_gradient"] + observation["lower_gradient"]
        by_x = outer[..., :n] - inner[..., :n]
        by_y = outer[..., n:] - (state.y - state.theta) / at["gamma1"]
        moves = active & (phase == OUTER)
        x = torch.where(moves, state.x - at["alpha"] * by_x, state.x)
        y = torch.where(moves, state.y - at["alpha"] * by_y, state.y)

        done = state.done + moves
        sends = moves & (done >= self.local)
        next_phase = torch.where(phase == INNER, OUTER, torch.where(sends, SENT, INNER))
        next_phase = torch.where(active & (phase != SENT), next_phase, phase)
        asks = active & (phase != SENT) & ~sends
        action = {
            "x": x,
            "y": y,
            "inner": theta,
            "compute": torch.where(asks, torch.where(phase == INNER, 2, 1), 0),
            "message": torch.cat((x, y, theta), -1),
            "send": sends.long(),
        }
        memory = FederatedLVHBAState(x=x, y=y, theta=theta, phase=next_phase, done=done, round=state.round)
        return action, memory

    def _begun(self, state: FederatedLVHBAState, observation: Observation) -> FederatedLVHBAState:
        """Where a round has ended, all clients stand where the server does."""
        now = observation["round"].unsqueeze(1)
        ended = now > state.round
        n, m = state.x.shape[-1], state.y.shape[-1]
        x, y, theta = observation["mean"].unsqueeze(1).split((n, m, m), -1)
        return FederatedLVHBAState(
            x=torch.where(ended, x, state.x),
            y=torch.where(ended, y, state.y),
            theta=torch.where(ended, theta, state.theta),
            phase=torch.where(ended, BEGIN, state.phase),
            done=torch.where(ended, 0, state.done),
            round=torch.maximum(now, state.round),
        )
