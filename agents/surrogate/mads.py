"""Mesh adaptive direct search with the progressive barrier (Audet and Dennis 2006, 2009), OrthoMADS polls.

With the frame Delta and the mesh delta = min(Delta, Delta^2), an iteration polls around the two incumbents of
:mod:`agents.surrogate._barrier`:

    x + delta round((Delta / delta) h_i / |h_i|_inf),   h_1 .. h_n, -h_1 .. -h_n rows of a Householder matrix

all 2n around the primary incumbent, one pair around the other. The primary one is the infeasible point where
its value is less than the feasible one's by more than ``trigger``. The poll ends with the first point that
dominates an incumbent.

    dominating              Delta <- 2 Delta
    improving, else         Delta stays           (less violation than the infeasible incumbent's)
    neither                 Delta <- Delta / 2

Lengths are shares of the box. A frame that collapses on a curved constraint is no optimum: below ``restart``
it begins anew, as wide as at first and with the barrier's limit lifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import replace, select, struct

from ..core import Agent, Observation, require
from ._barrier import Barrier, absorb, empty, query, read, reopen, tighten
from ._geometry import householder, largest, poll_both

BARRIERS = ("progressive", "extreme")


@struct
class MADSState:
    """The memory between two queries.

    Attributes:
        keys: of the random draws, ``(B,)``.
        turn: iterations begun, ``(B,)``; 0 before the first.
        place: how many trial points of this iteration have been asked, ``(B,)``.
        frame: Delta, a share of the box, ``(B,)``.
        barrier: the incumbents.
        span: the widths of the box, 1 where it has none, ``(B, n)``.
        lower, upper: the box, ``(B, n)`` each.
    """

    keys: Keys
    turn: Int64[Tensor, "B"]
    place: Int64[Tensor, "B"]
    frame: Float[Tensor, "B"]
    barrier: Barrier
    span: Float[Tensor, "B n"]
    lower: Float[Tensor, "B n"]
    upper: Float[Tensor, "B n"]


@dataclass(frozen=True, eq=False)
class MADS(Agent):
    """Mesh adaptive direct search; points are cut to the box.

    Args:
        frame: the first Delta, a share of the box.
        largest: the most Delta.
        restart: the Delta below which the frame begins anew; ``None`` for never.
        barrier: ``progressive``, or ``extreme``: an infeasible point is worth nothing.
        trigger: how much less the value of the infeasible incumbent must be to be the primary one.
        pairs: how many of the n pairs of directions are polled around the other incumbent.
    """

    frame: float = 0.1
    largest: float = 1.0
    restart: float | None = 1e-3
    barrier: str = "progressive"
    trigger: float = 1e-3
    pairs: int = 1

    needs = ("value", "poll")
    takes = ("inequalities",)

    def __post_init__(self) -> None:
        require(self, "frame", 0 < self.frame <= self.largest, f"a share in (0, {self.largest}]")
        require(self, "largest", 0 < self.largest <= 1, "a share in (0, 1]")
        if self.restart is not None:
            require(self, "restart", 0 < self.restart < self.frame, f"a share in (0, {self.frame}) or None")
        require(self, "barrier", self.barrier in BARRIERS, " or ".join(BARRIERS))
        require(self, "trigger", self.trigger >= 0, "a number >= 0")
        require(self, "pairs", isinstance(self.pairs, int) and self.pairs >= 0, "a whole number >= 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> MADSState:
        start = observation["point"][:, 0]
        width = problem.upper - problem.lower
        return MADSState(
            keys=keys,
            turn=torch.zeros_like(keys),
            place=torch.zeros_like(keys),
            frame=torch.full_like(start[:, 0], self.frame),
            barrier=empty(start),
            span=torch.where(width.isfinite(), width, 1.0),
            lower=problem.lower,
            upper=problem.upper,
        )

    def act(self, state: MADSState, observation: Observation) -> tuple[Action, MADSState]:
        barrier, dominated = absorb(state.barrier, read(observation), self.barrier == "extreme")
        first = state.turn == 0
        over = dominated | first | (state.place >= self._count(barrier))
        state = replace(state, barrier=barrier)
        state = select(over, self._next(state, dominated | first, first), state)
        return self._ask(state, observation)

    def _next(self, state: MADSState, dominated: Bool[Tensor, "B"], first: Bool[Tensor, "B"]) -> MADSState:
        """The iteration after this one."""
        frame = torch.where(state.barrier.better, state.frame, state.frame / 2)
        frame = torch.where(dominated, (2 * state.frame).clamp_max(self.largest), frame)
        frame = torch.where(first, state.frame, frame)
        barrier = tighten(state.barrier, dominated)
        if self.restart is not None:
            collapsed = frame < self.restart
            frame = torch.where(collapsed, self.frame, frame)
            barrier = reopen(barrier, collapsed)
        return replace(
            state, turn=state.turn + 1, place=torch.zeros_like(state.place), frame=frame, barrier=barrier
        )

    def _ask(self, state: MADSState, observation: Observation) -> tuple[Action, MADSState]:
        """The next trial points of the iteration, around one incumbent only: they share a threshold."""
        barrier, size = state.barrier, state.lower.shape[1]
        whole, other = 2 * size, 2 * min(self.pairs, size)
        outside = self._outside(barrier)
        second = state.place >= whole
        infeasible = outside ^ second
        h = householder(state.keys, state.turn, state.lower)
        steps = torch.cat((poll_both(h), torch.cat((h[:, : other // 2], -h[:, : other // 2]), 1)), 1)
        steps = steps / largest(steps)
        ratio = (1 / state.frame).clamp_min(1.0)
        mesh = state.frame / ratio
        steps = (steps * ratio[:, None, None]).round() * mesh[:, None, None]
        room = observation["point"].shape[1]
        count = torch.where(second, whole + other, whole) - state.place
        count = count.clamp_max(room)
        index = state.place.unsqueeze(-1) + torch.arange(room, device=count.device)
        index = index.clamp_max(whole + other - 1)
        centre = torch.where(infeasible.unsqueeze(-1), barrier.infeasible, barrier.feasible).unsqueeze(1)
        trials = steps.gather(1, index.unsqueeze(-1).expand(-1, -1, size)) * state.span.unsqueeze(1)
        trials = torch.clamp(centre + trials, state.lower.unsqueeze(1), state.upper.unsqueeze(1))
        threshold = torch.where(infeasible, barrier.infeasible_value, barrier.feasible_value)
        allowance = torch.where(infeasible, barrier.violation, 0.0)
        action = query(observation, trials, count, threshold, allowance, centre.squeeze(1))
        return action, replace(state, place=state.place + count)

    def _outside(self, barrier: Barrier) -> Bool[Tensor, "B"]:
        """Whether the infeasible incumbent is the primary one."""
        less = barrier.infeasible_value < barrier.feasible_value - self.trigger
        return less & (barrier.infeasible_value < torch.inf)

    def _count(self, barrier: Barrier) -> Int64[Tensor, "B"]:
        """The number of trial points of an iteration."""
        size = barrier.feasible.shape[1]
        both = (barrier.infeasible_value < torch.inf) & (barrier.feasible_value < torch.inf)
        return 2 * size + both.long() * 2 * min(self.pairs, size)
