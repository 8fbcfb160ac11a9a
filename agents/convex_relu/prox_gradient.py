"""Accelerated proximal gradients in the method of multipliers (as pyscnn: Mishkin, Sahiner, Pilanci 2022).

    min l(F u) + beta |u|_{2,1} + 1/(2 delta) |(alpha - delta G u)_+|^2      by FISTA with restarts
    alpha <- (alpha - delta G u)_+                                           every ``inner`` steps

Each step asks the gradient of the loss at the point looked ahead to. The step length is 1 over the largest
eigenvalue of F F' (the curvature of both losses is at most 1) plus delta X'X, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.ledger import Ledger
from optenvs.core.struct import struct
from optenvs.models.relu import Gated, cones, from_cones, shrunk, whole

from ..core import Agent, Observation, require
from ._program import asked, program

_LEAST = 1e-12


@struct
class Memory:
    """Memory of :class:`ProxGradient`.

    Attributes:
        program: the data.
        u: the point before, ``(B, 2, P, d)``; the one asked is looked ahead to from it.
        alpha: multipliers of the cones, ``(B, 2, n, P)``.
        delta: the penalty, ``(B,)``.
        length: the step, ``(B,)``.
        t: of the acceleration, ``(B,)``.
        step: steps with these multipliers, ``(B,)``.
        work: columns multiplied.
    """

    program: Gated
    u: Float[Tensor, "B 2 P d"]
    alpha: Float[Tensor, "B 2 n P"]
    delta: Float[Tensor, "B"]
    length: Float[Tensor, "B"]
    t: Float[Tensor, "B"]
    step: Int64[Tensor, "B"]
    work: Ledger


@dataclass(frozen=True, eq=False)
class ProxGradient(Agent):
    """FISTA on the augmented Lagrangian of the cones; of the squared and the logistic loss.

    Args:
        delta: the penalty of the cones; ``None`` for the largest eigenvalue of F F' over that of X'X, times
            0.1: a tenth of the curvature that the loss has.
        inner: steps between two updates of the multipliers.
    """

    delta: float | None = None
    inner: int = 5

    needs = ("value", "gradient", "violation")

    def __post_init__(self) -> None:
        require(self, "delta", self.delta is None or 0 < self.delta < float("inf"), "a number > 0 or None")
        whole_number = isinstance(self.inner, int) and not isinstance(self.inner, bool) and self.inner >= 1
        require(self, "inner", whole_number, "a whole number >= 1")

    def init(self, problem: Any, observation: Observation, keys: Tensor) -> Memory:
        known = program(type(self).__name__, problem, ("squared", "logistic"))
        bend = torch.linalg.eigvalsh(whole(known))[:, -1].clamp_min(_LEAST)
        own = torch.linalg.eigvalsh(known.X.mT @ known.X)[:, -1].clamp_min(_LEAST)
        delta = 0.1 * bend / own if self.delta is None else torch.full_like(bend, self.delta)
        u, one = torch.zeros_like(observation["point"]), torch.ones_like(known.beta)
        return Memory(
            program=known,
            u=u,
            alpha=torch.zeros_like(known.D).unsqueeze(1).repeat(1, 2, 1, 1),
            delta=delta,
            length=1 / (bend + delta * own),
            t=one,
            step=torch.zeros_like(keys),
            work=Ledger.empty(("columns",), len(keys), keys.device),
        )

    def act(self, state: Memory, observation: Observation) -> tuple[dict[str, Tensor], Memory]:
        known, ahead = state.program, observation["point"]
        X, E, P = known.X, known.E, known.D.shape[-1]
        delta = state.delta[:, None, None, None]
        pull = (state.alpha - delta * cones(X, E, ahead)).clamp_min(0)
        slope = observation["gradient"] - from_cones(X, E, pull)
        size = state.length[:, None, None, None]
        u = shrunk(ahead - size * slope, state.length * known.beta)
        # a restart where the step turns against the momentum (O'Donoghue, Candes 2015)
        back = ((ahead - u) * (u - state.u)).sum((1, 2, 3)) > 0
        update = state.step + 1 >= self.inner
        t = torch.where(back | update, 1.0, (1 + (1 + 4 * state.t.square()).sqrt()) / 2)
        momentum = torch.where(back | update, 0.0, (state.t - 1) / t)[:, None, None, None]
        alpha = torch.where(
            update[:, None, None, None], (state.alpha - delta * cones(X, E, u)).clamp_min(0), state.alpha
        )
        point = u + momentum * (u - state.u)
        step = torch.where(update, 0, state.step + 1)
        work = state.work.bill({"columns": 6 * P})
        action = asked(known, point, "value", "gradient", "violation")
        return action, Memory(known, u, alpha, state.delta, state.length, t, step, work)
