"""The method of multipliers, its u step by randomised blocks of coordinates (arXiv 2201.01965, Alg. 3.2).

    until the mean of the last ceil(8 sqrt(P / block)) decreases of the u step's objective is at most thresh:
        draw ``block`` patterns; for their pairs (u_i, z_i), with q = l'(F u) and S = X'(E (s - nu)):
        gu =  X'(D_i q) + rho (u_i - v_i + lam_i + X'X u_i - S_i),   gz = the same with -q
        step a: from a0, divided by 2.5 (and a0 by 1.5) until the decrease is >= 1e-3 a |(gu, gz)|^2
            or a <= 1e-8
        a0 <- 1.05 a0
    then v, s and the multipliers as in ADMM;  thresh <- decay thresh

All trial steps of a line search are asked at once. The authors' scripts also have ``ratio`` 0.2 to 0.25 with
``ratio_decay`` 0.99, ``decay`` 0.96, and rho that grows by 1e-4 an iteration while the scaled multipliers
stay (here they are rescaled). An iteration of this agent is one of the method's outer ones; it computes on
the host.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import replace, select, struct
from optenvs.models.relu import Gated, from_cones, losses, outputs, pulled, slopes
from optenvs.models.relu_admm import Split, advanced, zero

from ..core import Agent, Observation, require
from ._program import asked, program

_FULL, _BACK, _LESS, _MORE, _ARMIJO, _LEAST, _FLOOR = 1e8, 2.5, 1.5, 1.05, 1e-3, 1e-8, 1e-10
_TRIALS = 24
"""Steps that are tried: 2.5^-23 is below 1e-9."""


@struct
class Memory:
    """Memory of :class:`ADMMRBCD`.

    Attributes:
        program: the data.
        at: the iterate.
        a0: the first trial step, ``(B,)``.
        thresh, rho, ratio: now, ``(B,)`` each.
        steps: block steps made, which number the draws, ``(B,)``.
        keys: of the draws.
        work: columns multiplied.
    """

    program: Gated
    at: Split
    a0: Float[Tensor, "B"]
    thresh: Float[Tensor, "B"]
    rho: Float[Tensor, "B"]
    ratio: Float[Tensor, "B"]
    steps: Int64[Tensor, "B"]
    keys: Keys
    work: Ledger


@struct
class _Inner:
    """The u step under way: u, F u, the first trial step and the last decreases."""

    u: Float[Tensor, "B 2 P d"]
    out: Float[Tensor, "B n"]
    a0: Float[Tensor, "B"]
    buffer: Float[Tensor, "B m"]
    steps: Int64[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class ADMMRBCD(Agent):
    """The method of multipliers by blocks; of the squared and the logistic loss.

    Args:
        rho: the penalty at the beginning; ``None`` for beta.
        ratio: g / rho at the beginning, and ``ratio_decay`` its factor an iteration.
        growth: what is added to rho an iteration; the scaled multipliers are rescaled.
        thresh: the mean decrease at which a u step ends, and ``decay`` its factor an iteration.
        block: patterns a block step.
        a0: the first trial step at the beginning.
        most: block steps of one u step, at most.
    """

    rho: float | None = None
    ratio: float = 1.0
    ratio_decay: float = 1.0
    growth: float = 0.0
    thresh: float = 1e-2
    decay: float = 0.97
    block: int = 1
    a0: float = 1.0
    most: int = 10_000

    needs = ("value", "violation")
    on_host: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self, "rho", self.rho is None or 0 < self.rho < float("inf"), "a number > 0 or None")
        for name in ("ratio", "ratio_decay", "decay"):
            require(self, name, 0 < getattr(self, name) <= 1, "a number in (0, 1]")
        for name in ("thresh", "a0"):
            require(self, name, 0 < getattr(self, name) < float("inf"), "a number > 0")
        require(self, "growth", 0 <= self.growth < float("inf"), "a number >= 0")
        for name in ("block", "most"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(self, name, whole, "a whole number >= 1")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Memory:
        known = program(type(self).__name__, problem, ("squared", "logistic"))
        if self.block > known.D.shape[-1]:
            raise ValueError(
                f"ADMMRBCD: block: expected at most {known.D.shape[-1]} patterns, got {self.block}"
            )
        one = torch.ones_like(known.beta)
        return Memory(
            program=known,
            at=zero(known),
            a0=self.a0 * one,
            thresh=self.thresh * one,
            rho=known.beta if self.rho is None else self.rho * one,
            ratio=self.ratio * one,
            steps=torch.zeros_like(keys),
            keys=keys,
            work=Ledger.empty(("columns", "blocks"), len(keys), keys.device),
        )

    def act(self, state: Memory, observation: Observation) -> tuple[dict[str, Tensor], Memory]:
        known, at, P = state.program, state.at, state.program.D.shape[-1]
        inner = self._descended(state)
        at = advanced(known, at, inner.u, state.rho, state.ratio)
        rho = state.rho + self.growth
        scale = (state.rho / rho)[:, None, None, None]
        at = replace(at, lam=scale * at.lam, nu=scale * at.nu) if self.growth else at
        made = inner.steps - state.steps
        work = state.work.bill({"columns": 5 * P + 7 * self.block * made, "blocks": made})
        action = asked(known, at.v, "value", "violation")
        return action, Memory(
            program=known,
            at=at,
            a0=inner.a0,
            thresh=self.decay * state.thresh,
            rho=rho,
            ratio=self.ratio_decay * state.ratio,
            steps=inner.steps,
            keys=state.keys,
            work=work,
        )

    def _descended(self, state: Memory) -> _Inner:
        """The u step."""
        known, at = state.program, state.at
        size = math.ceil(8 * math.sqrt(known.D.shape[-1] / self.block))
        buffer = torch.full_like(known.y[:, :1], _FULL).expand(-1, size)
        inner = _Inner(at.u, outputs(known.X, known.D, at.u), state.a0, buffer, state.steps)
        fixed = at.lam - at.v - from_cones(known.X, known.E, at.s - at.nu)
        gram = known.X.mT @ known.X
        gram = gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)  # I + X'X
        # below a few units in the last place of the loss, decreases are rounding
        least = 8 * torch.finfo(buffer.dtype).eps * (1 + losses(known.loss, inner.out, known.y))
        thresh = torch.maximum(state.thresh, least)
        for step in range(self.most):
            going = inner.buffer.mean(-1) > thresh
            if not bool(going.any()):
                break
            inner = self._moved(state, inner, fixed, gram, step % size, going)
        return inner

    def _moved(
        self, state: Memory, inner: _Inner, fixed: Tensor, gram: Tensor, place: int, going: Bool[Tensor, "B"]
    ) -> _Inner:
        """One block step of the rows that are going."""
        known, rho = state.program, state.rho[:, None, None, None]
        X, P, d = known.X, known.D.shape[-1], known.X.shape[-1]
        order = uniform(state.keys, "block", P, inner.steps, dtype=torch.float64)
        which = order.topk(self.block, -1).indices
        wide = which[:, None, :, None].expand(-1, 2, -1, d)
        D = known.D.gather(2, which.unsqueeze(1).expand(-1, X.shape[1], -1))
        u = inner.u.gather(2, wide)
        pull = u @ gram.unsqueeze(1) + fixed.gather(2, wide)
        g = pulled(X, D, slopes(known.loss, inner.out, known.y)) + rho * pull
        along = outputs(X, D, g)
        linear = (state.rho * (g * pull).sum((1, 2, 3))).unsqueeze(-1)
        square = (state.rho / 2 * (g * (g @ gram.unsqueeze(1))).sum((1, 2, 3))).unsqueeze(-1)
        powers = torch.arange(_TRIALS, dtype=g.dtype, device=g.device)
        a = inner.a0.unsqueeze(-1) * _BACK**-powers
        decrease = _lost(known, inner.out, along, a) + a * linear - a.square() * square
        enough = (decrease >= _ARMIJO * a * g.square().sum((1, 2, 3)).unsqueeze(-1)) | (a <= _LEAST)
        enough = enough | (powers == _TRIALS - 1)
        taken = enough.to(torch.int64).argmax(-1, keepdim=True)  # the first
        a, decrease = a.gather(1, taken), decrease.gather(1, taken)
        buffer = inner.buffer.clone()
        buffer[:, place] = decrease.squeeze(-1)
        a0 = (inner.a0 * _LESS ** -taken.squeeze(-1).to(g)).clamp_min(_FLOOR) * _MORE
        moved = _Inner(
            u=inner.u.scatter(2, wide, u - a[:, :, None, None] * g),
            out=inner.out - a * along,
            a0=a0,
            buffer=buffer,
            steps=inner.steps + 1,
        )
        return select(going, moved, inner)


def _lost(
    known: Gated, out: Float[Tensor, "B n"], along: Float[Tensor, "B n"], a: Float[Tensor, "B trials"]
) -> Float[Tensor, "B trials"]:
    """By how much the loss decreases from ``out`` to ``out - a along``."""
    if known.loss == "squared":  # without the cancellation
        slope = ((out - known.y) * along).sum(-1, keepdim=True)
        return a * slope - a.square() / 2 * along.square().sum(-1, keepdim=True)
    tried = out.unsqueeze(1) - a.unsqueeze(-1) * along.unsqueeze(1)
    after = losses(known.loss, tried, known.y.unsqueeze(1).expand_as(tried))
    return losses(known.loss, out, known.y).unsqueeze(-1) - after
