"""What methods share that try one step at a time: pose it, judge it, and search a number by which they step.

    at x, with g and H: propose a step h by the number `size`
    ask what the test needs at x + h
    passed: x <- x + h, and another `size`;  failed: another `size`, and H, g as they were

A trial asks what its test needs; what a new point lacks is asked there, once. A step that cannot be
computed (a factorisation that fails) is a rejection without a query. A row has finished where the gradient
is no longer than ``gtol``, after ``patience`` rejections in a row, where a step is below the rounding of x,
where the method says that nothing is left to gain, where the rest of the budget does not pay what it needs,
and at once where the problem's metric is not symmetric and positive definite. H is taken for symmetric (a
factorisation reads its lower triangle; ``optenvs.check`` says where an environment's is not): with another
matrix the test still accepts only what it promises.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..asking import Notes
from ..core import Agent, Observation, by_row, require
from ._conjugate import Inner
from ._forms import ask, begin, read
from ._metric import Metric
from ._solve import of_rows, regularised

WORK = ("systems", "trials", "accepted")
"""What these agents count: linear systems (or decompositions), trials judged, and those that passed."""


@struct
class Search:
    """The memory of a method of trials.

    Attributes:
        notes: the answers so far.
        metric: B.
        point, value: the accepted point ``(B, n)`` and its value ``(B,)``.
        gradient: the last one at an accepted point, ``(B, n)``.
        norm: its dual norm, ``(B,)``.
        known: whether that is ``point``, ``(B,)``.
        size: the number that is searched, ``(B,)``.
        step, scale, promised: the trial's step ``(B, n)``, the factor of B in its system and the decrease
            that its model promises, ``(B,)`` each.
        trying, posed: whether there is a trial to judge, and whether it has been asked, ``(B,)``.
        rejected: rejections in a row, ``(B,)``.
        finished: ``(B,)``.
        work: systems solved, trials judged, trials accepted.
        inner: of methods with inner iterations, theirs.
    """

    notes: Notes
    metric: Metric
    point: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    gradient: Float[Tensor, "B n"]
    norm: Float[Tensor, "B"]
    known: Bool[Tensor, "B"]
    size: Float[Tensor, "B"]
    step: Float[Tensor, "B n"]
    scale: Float[Tensor, "B"]
    promised: Float[Tensor, "B"]
    trying: Bool[Tensor, "B"]
    posed: Bool[Tensor, "B"]
    rejected: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    work: Ledger
    inner: Inner | None = None


class Trial(NamedTuple):
    """What is known at a trial.

    Attributes:
        value: ``(B,)``.
        gradient: ``(B, n)``; of an earlier point where the method's ``slopes`` is ``False``.
        norm: its dual norm, ``(B,)``.
    """

    value: Float[Tensor, "B"]
    gradient: Float[Tensor, "B n"]
    norm: Float[Tensor, "B"]


class Proposal(NamedTuple):
    """A step to try.

    Attributes:
        step: h, ``(B, n)``.
        scale, promised: as in :class:`Search`.
        good: whether it could be computed, ``(B,)``.
        systems: linear systems solved for it, ``(B,)``.
        lost: where no step is worth trying, ``(B,)``.
        size: the number searched, where the proposal sets it.
        waiting: where a product is asked first, ``(B,)``, and with which vector, ``(B, n)``.
        inner: the inner iterations.
    """

    step: Float[Tensor, "B n"]
    scale: Float[Tensor, "B"]
    promised: Float[Tensor, "B"]
    good: Bool[Tensor, "B"]
    systems: Tensor | int = 0
    lost: Tensor | None = None
    size: Float[Tensor, "B"] | None = None
    waiting: Bool[Tensor, "B"] | None = None
    vector: Float[Tensor, "B n"] | None = None
    inner: Inner | None = None


@dataclass(frozen=True, eq=False)
class TrialAgent(Agent):
    """A method of trials.

    Args:
        patience: the most rejections in a row; after them a row has finished.
        gtol: the dual norm of the gradient at which a row has finished.
    """

    patience: int = 40
    gtol: float = 0.0

    needs = ("value", "gradient", "hessian")
    slopes: ClassVar[bool] = True
    """Whether the test reads the gradient at the trial."""

    def __post_init__(self) -> None:
        check_patience(self)

    # What a method writes ----------------------------------------------------------------------

    @abc.abstractmethod
    def first_size(self) -> float | Tensor:
        """The number searched, at first."""

    @abc.abstractmethod
    def propose(self, state: Search, ready: Bool[Tensor, "B"], answered: Bool[Tensor, "B"]) -> Proposal:
        """The step from ``state.point``.

        Args:
            state: the memory, with its size.
            ready: rows that have what a step needs; the others do not matter.
            answered: rows whose product has come.
        """

    @abc.abstractmethod
    def accepts(self, state: Search, trial: Trial) -> Bool[Tensor, "B"]:
        """Whether the trial passes."""

    @abc.abstractmethod
    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """The number after a trial that has passed or failed."""

    def begun(self, state: Search) -> Inner | None:
        """The inner iterations of a method that has them."""
        return None

    # What it gets ------------------------------------------------------------------------------

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Search:
        notes = begin(self, problem, observation)
        value, point = notes["value"].squeeze(-1), observation["point"]
        metric, definite = Metric.of(problem, observation)
        size = by_row("size", self.first_size(), point)
        none = torch.zeros_like(notes.refused)
        state = Search(
            notes=notes,
            metric=metric,
            point=point,
            value=value,
            gradient=notes["gradient"],
            norm=metric.dual_norm(notes["gradient"]),
            known=none,
            size=torch.zeros_like(value) + (size.squeeze(-1) if isinstance(size, Tensor) else size),
            step=torch.zeros_like(point),
            scale=torch.zeros_like(value),
            promised=torch.zeros_like(value),
            trying=none,
            posed=none,
            rejected=torch.zeros_like(keys),
            finished=~definite,
            work=Ledger.empty(WORK, len(keys), keys.device),
        )
        return replace(state, inner=self.begun(state))

    def act(self, state: Search, observation: Observation) -> tuple[Action, Search]:
        asked = {} if state.inner is None else {"vector": state.inner.direction}
        state = self._judged(state, read(state.notes, observation, **asked), observation["point"])
        notes, x = state.notes, state.point
        ready, answered = state.known, torch.zeros_like(state.known)
        curved = next((kind for kind in ("hessian", "factor") if kind in notes.answers), None)
        if curved is not None:
            ready = ready & notes.holds(curved, point=x)
        if state.inner is not None:
            answered = state.inner.waiting & notes.holds("hvp", point=x, vector=state.inner.direction)
        new = self.propose(state, ready, answered)
        waiting = torch.zeros_like(ready) if new.waiting is None else ready & new.waiting
        trying = ready & ~waiting
        posed = trying & new.good
        trial = torch.where(posed.unsqueeze(-1), x + new.step, x)
        settled = posed & (trial == x).all(-1)
        if new.lost is not None:
            settled = settled | (trying & new.lost)
        small = state.known & ~(state.norm > self.gtol)
        finished = state.finished | notes.refused | small | settled | (state.rejected >= self.patience)
        wanted = {"value": posed, "gradient": posed if self.slopes else ~state.known}
        if curved is not None:
            wanted[curved] = ~ready
        if self.slopes:
            wanted["gradient"] = wanted["gradient"] | ~state.known
        places = {"point": trial}
        if new.vector is not None:
            wanted["hvp"], places["vector"] = waiting, new.vector
        action, notes = ask(notes, observation, wanted, **places)
        after = replace(
            state,
            notes=notes,
            size=state.size if new.size is None else torch.where(ready, new.size, state.size),
            step=trial - x,
            scale=new.scale,
            promised=new.promised,
            trying=trying,
            posed=posed,
            finished=finished,
            work=state.work.bill({"systems": torch.where(trying & ~finished, new.systems, 0)}),
            inner=new.inner,
        )
        return action, after

    def _judged(self, state: Search, notes: Notes, point: Float[Tensor, "B n"]) -> Search:
        """The memory after the answer to the last trial, where there was one."""
        value, gradient = notes["value"].squeeze(-1), notes["gradient"]
        norm, state = state.metric.dual_norm(gradient), replace(state, notes=notes)
        sound = state.posed & ~notes.refused & value.isfinite()
        better = sound & self.accepts(state, Trial(value, gradient, norm))
        x = torch.where(better.unsqueeze(-1), point, state.point)
        fresh = notes.holds("gradient", point=x)
        failed = state.trying & ~better
        return replace(
            state,
            point=x,
            value=torch.where(better, value, state.value),
            gradient=torch.where(fresh.unsqueeze(-1), gradient, state.gradient),
            norm=torch.where(fresh, norm, state.norm),
            known=fresh | (state.known & ~better),
            size=torch.where(state.trying, self.resized(state, better, value), state.size),
            rejected=torch.where(better, 0, state.rejected + failed),
            work=state.work.bill({"trials": state.trying.long(), "accepted": better.long()}),
        )


@dataclass(frozen=True, eq=False)
class ConstantAgent(TrialAgent):
    """A method of trials that searches the constant of its model, by a factor up and down.

    By default a trial passes where the function is not above the model.

    Args:
        least: the least constant after an accepted step.
    """

    least: float = 1e-5

    slopes = False
    constant: ClassVar[str] = "M"
    """The field of the first constant."""
    factor: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        first = bool((torch.as_tensor(self.first_size()) > 0).all())
        require(self, self.constant, first, "a number > 0")
        require(self, "least", self.least > 0, "a number > 0")

    def first_size(self) -> float | Tensor:
        return getattr(self, self.constant)

    def accepts(self, state: Search, trial: Trial) -> Bool[Tensor, "B"]:
        return trial.value <= state.value - state.promised

    def resized(
        self, state: Search, better: Bool[Tensor, "B"], value: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        less = (state.size / self.factor).clamp_min(self.least)
        return torch.where(better, less, self.factor * state.size)


def damped(state: Search, ready: Bool[Tensor, "B"], scale: Float[Tensor, "B"]) -> Proposal:
    """The step -(H + scale B)^-1 g by Cholesky, of the rows that are ready."""
    parts = state.notes["hessian"], state.metric.plain, scale, state.gradient
    step, good = of_rows(ready, regularised, *parts)
    return Proposal(step, scale, torch.zeros_like(scale), good, systems=1)


def asking(inner: Inner, new: Proposal) -> Proposal:
    """The proposal of a solve on products, which asks the next of them first where it is not at its end."""
    good = new.good & inner.step.isfinite().all(-1)
    return new._replace(good=good, waiting=inner.waiting, vector=inner.direction, inner=inner)


def invisible(state: Search, promised: Float[Tensor, "B"]) -> Bool[Tensor, "B"]:
    """Whether a promised decrease is below the rounding of the value, so that no test can see it."""
    return ~(promised > torch.finfo(promised.dtype).eps * state.value.abs())


def check_patience(agent: Any, *more: str) -> None:
    """Raise ``ValueError`` for ``patience`` (and what counts besides) below 1, and for a ``gtol`` below 0."""
    for name in ("patience", *more):
        count = getattr(agent, name)
        whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
        require(agent, name, whole, "a whole number >= 1")
    require(agent, "gtol", agent.gtol >= 0, "a number >= 0")
