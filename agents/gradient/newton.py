"""Newton's method with the damping of Levenberg (1944) and Marquardt (1963), on any smooth function.

    solve (H + r I) s = -g,     r = damping * max |eigenvalue of H| + max(0, -least eigenvalue of H)
    promised <- -(g' s + s' H s / 2)
    x, damping <- x + s, damping * shrink     where f(x) - f(x + s) >= least * promised
    damping <- damping * grow                 elsewhere

A trial asks a value; gradient and Hessian are asked at an accepted point only. The second term of r makes the
matrix positive where the Hessian is not. The method has finished where the promised decrease is below the
rounding of f, or where the rest of the budget does not pay what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..asking import Notes
from ..core import Agent, Observation, require


@struct
class NewtonState:
    """The memory of Newton's method.

    Attributes:
        notes: the answers so far.
        point, value: the accepted point ``(B, n)`` and its value ``(B,)``.
        damping: ``(B,)``.
        promised: the decrease that the model promises of the trial, ``(B,)``.
        trying: whether the last query was a trial, ``(B,)``.
        finished: ``(B,)``.
    """

    notes: Notes
    point: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    damping: Float[Tensor, "B"]
    promised: Float[Tensor, "B"]
    trying: Bool[Tensor, "B"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class Newton(Agent):
    """Damped Newton steps.

    Args:
        damping: the first damping, as a share of the largest eigenvalue's size.
        grow: its factor after a rejected trial.
        shrink: its factor after an accepted one.
        least: the least share of the promised decrease with which a trial is accepted.
    """

    damping: float = 1e-3
    grow: float = 10.0
    shrink: float = 0.1
    least: float = 1e-4

    needs = ("value", "gradient", "hessian")

    def __post_init__(self) -> None:
        require(self, "damping", self.damping > 0, "a number > 0")
        require(self, "grow", self.grow > 1, "a number > 1")
        require(self, "shrink", 0 < self.shrink <= 1, "a number in (0, 1]")
        require(self, "least", 0 < self.least < 1, "a number in (0, 1)")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> NewtonState:
        notes = Notes.begin(self, problem, observation)
        value = notes["value"].squeeze(-1)
        return NewtonState(
            notes=notes,
            point=observation["point"],
            value=value,
            damping=torch.full_like(value, self.damping),
            promised=torch.zeros_like(value),
            trying=torch.zeros_like(notes.refused),
            finished=torch.zeros_like(notes.refused),
        )

    def act(self, state: NewtonState, observation: Observation) -> tuple[Action, NewtonState]:
        notes, point = state.notes.read(observation), observation["point"]
        tried = notes["value"].squeeze(-1)
        better = state.trying & (state.value - tried >= self.least * state.promised)
        x = torch.where(better.unsqueeze(-1), point, state.point)
        value = torch.where(better, tried, state.value)
        damping = torch.where(better, state.damping * self.shrink, state.damping)
        damping = torch.where(state.trying & ~better, state.damping * self.grow, damping)
        ready = notes.holds("gradient", point=x) & notes.holds("hessian", point=x)
        step, promised = damped(notes["gradient"], notes["hessian"], damping)
        trial = torch.where(ready.unsqueeze(-1), x + step, x)
        lost = promised <= torch.finfo(value.dtype).eps * value.abs()
        finished = state.finished | notes.refused | (ready & (lost | (trial == x).all(-1)))
        action, notes = notes.ask({"value": ready, "gradient": ~ready, "hessian": ~ready}, point=trial)
        after = NewtonState(
            notes=notes,
            point=x,
            value=value,
            damping=damping.clamp_min(torch.finfo(value.dtype).eps),
            promised=promised,
            trying=ready,
            finished=finished,
        )
        return action, after


def damped(
    gradient: Float[Tensor, "B n"], hessian: Float[Tensor, "B n n"], damping: Float[Tensor, "B"]
) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B"]]:
    """The damped Newton step, and the decrease that the quadratic model promises of it."""
    # a matrix with a NaN has no eigenvalues: its row has no step, and ends
    values, vectors = torch.linalg.eigh(hessian.nan_to_num(0.0, 0.0, 0.0))
    size = values.abs().amax(-1, keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    shift = damping.unsqueeze(-1) * size - values[:, :1].clamp_max(0)
    along = (gradient.unsqueeze(-2) @ vectors).squeeze(-2)  # in the basis of the eigenvectors
    step = -along / (values + shift)
    promised = -(along * step + step * values * step / 2).sum(-1)
    return (vectors @ step.unsqueeze(-1)).squeeze(-1), promised
