"""Nesterov's fast gradient method with a search of the gradient's Lipschitz constant.

    a = (1 + sqrt(1 + 4 A L)) / (2 L),  y = (a v + A x) / (a + A),  T = y - B^-1 g(y) / L
    accepted where f(T) <= f(y) + g(y)'(T - y) + (L/2) ||T - y||^2:
        v <- T + (A / a) (T - x),  A <- A + a,  x <- T,  L <- max(L / 2, least)
    L <- 2 L, with another a and y, elsewhere

from v = x, A = 0 (Nesterov 2013, in the form that Semenov, Jaggi and Doikov 2025 compare with). B is the
problem's metric. A trial takes two queries: value and gradient at y, and a value at T; where y has not moved,
only the second. A y where the function is no finite number is a rejection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys
from optenvs.core.struct import select, struct

from ..asking import Notes
from ..core import Agent, Observation, by_row, require
from ._forms import ask, begin, read
from ._metric import Metric, dot
from ._trial import check_patience


@struct
class Here:
    """A point with its answers.

    Attributes:
        point: y, ``(B, n)``.
        value, gradient: ``(B,)`` and ``(B, n)``.
        known: whether these are known, ``(B,)``.
    """

    point: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    gradient: Float[Tensor, "B n"]
    known: Bool[Tensor, "B"]


@struct
class FastState:
    """The memory of the fast gradient method.

    Attributes:
        notes: the answers so far.
        metric: B.
        point, anchor: x and v, ``(B, n)``.
        weight, size: A and L, ``(B,)``.
        here: y.
        trying: whether the last query was a trial T, ``(B,)``.
        rejected: rejections in a row, ``(B,)``.
        finished: ``(B,)``.
        work: trials judged, and those that passed.
    """

    notes: Notes
    metric: Metric
    point: Float[Tensor, "B n"]
    anchor: Float[Tensor, "B n"]
    weight: Float[Tensor, "B"]
    size: Float[Tensor, "B"]
    here: Here
    trying: Bool[Tensor, "B"]
    rejected: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    work: Ledger


@dataclass(frozen=True, eq=False)
class FastGradient(Agent):
    """Accelerated gradient steps of searched length.

    Args:
        L: the first constant, a number or one an instance ``(B,)``.
        least: the least constant after an accepted step.
        patience: the most rejections in a row; after them a row has finished.
        gtol: the dual norm of the gradient at y at which a row has finished.
    """

    L: float | Float[Tensor, "B"] = 1.0
    least: float = 1e-5
    patience: int = 30
    gtol: float = 0.0

    needs = ("value", "gradient")

    def __post_init__(self) -> None:
        check_patience(self)
        require(self, "L", bool((torch.as_tensor(self.L) > 0).all()), "a number > 0")
        require(self, "least", self.least > 0, "a number > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> FastState:
        notes = begin(self, problem, observation)
        x, value = observation["point"], notes["value"].squeeze(-1)
        metric, definite = Metric.of(problem, observation)
        size, none = by_row("L", self.L, x), torch.zeros_like(notes.refused)
        return FastState(
            notes=notes,
            metric=metric,
            point=x,
            anchor=x,
            weight=torch.zeros_like(value),
            size=torch.zeros_like(value) + (size.squeeze(-1) if isinstance(size, Tensor) else size),
            here=Here(x, value, notes["gradient"], notes.holds("gradient", point=x)),
            trying=none,
            rejected=torch.zeros_like(keys),
            finished=~definite,
            work=Ledger.empty(("trials", "accepted"), len(keys), keys.device),
        )

    def act(self, state: FastState, observation: Observation) -> tuple[Action, FastState]:
        notes, metric, here = read(state.notes, observation), state.metric, state.here
        T, value = observation["point"], notes["value"].squeeze(-1)
        way, a = T - here.point, _weight(state.weight, state.size)
        bound = here.value + dot(here.gradient, way) + state.size / 2 * metric.norm(way) ** 2
        better = state.trying & ~notes.refused & (value <= bound)
        onward = T + (state.weight / a).unsqueeze(-1) * (T - state.point)
        x, v, A = select(better, (T, onward, state.weight + a), (state.point, state.anchor, state.weight))
        # a y where the function is no number: a larger L brings it nearer to x
        failed = torch.where(state.trying, ~better, ~value.isfinite())
        size = torch.where(better, (state.size / 2).clamp_min(self.least), state.size)
        size = torch.where(failed, 2 * state.size, size)
        rejected = torch.where(better, 0, state.rejected + failed)
        a = _weight(A, size)
        y = x + (a / (a + A)).unsqueeze(-1) * (v - x)  # x itself where v is: its answers are known
        fresh = notes.holds("value", point=y) & notes.holds("gradient", point=y)
        answer = Here(y, value, notes["gradient"], fresh)
        kept = Here(y, here.value, here.gradient, here.known & (y == here.point).all(-1))
        here = select(fresh, answer, kept)
        trial = y - metric.raised(here.gradient) / size.unsqueeze(-1)
        trying = here.known
        small = trying & ~(metric.dual_norm(here.gradient) > self.gtol)
        settled = trying & (trial == y).all(-1)
        finished = state.finished | notes.refused | small | settled | (rejected >= self.patience)
        where = torch.where(trying.unsqueeze(-1), trial, y)
        wanted = {"value": torch.ones_like(trying), "gradient": ~trying}
        action, notes = ask(notes, observation, wanted, point=where)
        after = FastState(
            notes=notes,
            metric=metric,
            point=x,
            anchor=v,
            weight=A,
            size=size,
            here=here,
            trying=trying,
            rejected=rejected,
            finished=finished,
            work=state.work.bill({"trials": state.trying.long(), "accepted": better.long()}),
        )
        return action, after


def _weight(A: Float[Tensor, "B"], L: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """The a > 0 with L a^2 = A + a."""
    return (1 + (1 + 4 * A * L).sqrt()) / (2 * L)
