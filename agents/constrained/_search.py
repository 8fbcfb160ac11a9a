"""What second-order methods with a backtracking line search on a merit function share.

Each round: derivatives at (x, multipliers), a direction, then trial points, one a query, until the merit
function has fallen by Armijo's rule:

    merit(x + a dx, multipliers + a dmultipliers) <= merit(x, multipliers) + armijo a slope,     a <- a / 2

up to its rounding. A trial asks what the merit function needs. What an answer has told is not asked again.
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
from optenvs.core.struct import replace, select, struct

from ..asking import Notes
from ..core import Agent, Observation, require
from ._rows import Seen, cat, look, mixed
from .gmres import length_of, times


@struct
class SearchState:
    """The memory of a line search.

    Attributes:
        notes: the answers so far.
        keys: of random draws, ``(B,)``.
        x, multipliers: where it stands, ``(B, n)`` and ``(B, m)``.
        dx, dmultipliers: the direction.
        length: of the next trial, in units of the direction, ``(B,)``.
        merit, slope: the merit function where it stands, and its slope along the direction, ``(B,)``.
        rounding: differences of the merit function that say nothing, ``(B,)``.
        trying: whether the last query was a trial, ``(B,)``.
        iterations: steps taken, ``(B,)``.
        step: the length of the last of them, ``(B,)``.
        singular: whether it has stopped because the constraints' gradients depend on each other, ``(B,)``.
        capped: how often the inner solver has stopped short of its aim, ``(B,)``.
        finished: ``(B,)``.
        own: what the method keeps beside.
        work: what the inner solver has done.
    """

    notes: Notes
    keys: Keys
    x: Float[Tensor, "B n"]
    multipliers: Float[Tensor, "B m"]
    dx: Float[Tensor, "B n"]
    dmultipliers: Float[Tensor, "B m"]
    length: Float[Tensor, "B"]
    merit: Float[Tensor, "B"]
    slope: Float[Tensor, "B"]
    rounding: Float[Tensor, "B"]
    trying: Bool[Tensor, "B"]
    iterations: Int64[Tensor, "B"]
    step: Float[Tensor, "B"]
    singular: Bool[Tensor, "B"]
    capped: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    own: Any
    work: Ledger


class Direction(NamedTuple):
    """What a method makes of the derivatives.

    Attributes:
        dx, dmultipliers: the direction.
        merit, slope: the merit function where it stands, and its slope along the direction.
        own: what the method keeps.
        singular: rows that cannot go on, ``(B,)``.
        capped: rows whose inner solver has stopped short of its aim, ``(B,)``.
        work: what that has done, by kind, ``(B,)`` each.
        multipliers: new ones, in rows that then need derivatives anew and have no direction; and
        moved: which those are, ``(B,)``; ``None`` where a method has no such thing.
        ended: rows that finish, ``(B,)``.
    """

    dx: Float[Tensor, "B n"]
    dmultipliers: Float[Tensor, "B m"]
    merit: Float[Tensor, "B"]
    slope: Float[Tensor, "B"]
    own: Any
    singular: Bool[Tensor, "B"]
    capped: Bool[Tensor, "B"]
    work: dict[str, Tensor]
    multipliers: Float[Tensor, "B m"] | None = None
    moved: Bool[Tensor, "B"] | None = None
    ended: Bool[Tensor, "B"] | None = None


@dataclass(frozen=True, eq=False)
class LineSearch(Agent):
    """A method for equations c(x) = 0 without bounds.

    Args:
        tolerance: |(grad_x L, c)| at which it finishes by itself; the published programs use 1e-4. By default
            it leaves that to the problem, and goes on as far as rounding lets it.
        armijo: the share of the slope by which the merit function must fall.
    """

    tolerance: float = 0.0
    armijo: float = 0.1

    tried: ClassVar[tuple[str, ...]] = ("value", "constraints", "gradient", "jacobian")
    """What the merit function needs."""
    counts: ClassVar[tuple[str, ...]] = ()
    """What its inner solver counts."""

    needs = ("value", "constraints", "gradient", "jacobian", "hessian")

    def __post_init__(self) -> None:
        require(self, "tolerance", self.tolerance >= 0, "a number >= 0")
        require(self, "armijo", 0 < self.armijo < 0.5, "a number in (0, 1/2)")

    # What a method writes ----------------------------------------------------------------------

    @abc.abstractmethod
    def begin(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Any:
        """What it keeps, at first."""

    @abc.abstractmethod
    def merit(self, state: SearchState, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        """The merit function of the last answers, with these multipliers."""

    @abc.abstractmethod
    def direction(self, state: SearchState, ready: Bool[Tensor, "B"]) -> Direction:
        """The direction in the rows that are ready: all derivatives are known where they stand."""

    def asked_at(self, state: SearchState) -> Float[Tensor, "B m"]:
        """The multipliers of the Hessian that it needs where it stands."""
        return state.multipliers

    def settled(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Rows where the residual may end the run."""
        return ~state.trying

    def prepared(self, state: SearchState) -> tuple[SearchState, Bool[Tensor, "B"]]:
        """The state with what the answers say of a direction, and the rows that have all for one."""
        at = {"x": state.x, "multipliers": self.asked_at(state)}
        # whatever else is needed there is asked no later than the Hessian
        return state, ~state.trying & ~state.finished & state.notes.holds("hessian", **at)

    def asked(self, state: SearchState) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What is asked next, by kind, and the places."""
        seen = look(state.trying)
        resting = ~state.trying if seen.some and not seen.every else not seen.some
        wanted = {kind: True if kind in self.tried else resting for kind in self.needs}
        return wanted, self.places(state, seen, self.asked_at(state))

    def slope(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B n"]:
        """grad_x L at the last answers."""
        return notes["gradient"] + times(notes["jacobian"].mT, multipliers)

    def slope_known(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Whether they were given where it stands."""
        return state.notes.holds("jacobian", x=state.x) & state.notes.holds("gradient", x=state.x)

    # What it gets ------------------------------------------------------------------------------

    def init(self, problem: Any, observation: Observation, keys: Keys) -> SearchState:
        _refuse(self, problem)
        notes = Notes.begin(self, problem, observation)
        x, multipliers = observation["x"], observation["multipliers"]
        nothing, none = torch.zeros_like(x[:, 0]), torch.zeros_like(keys)
        return SearchState(
            notes=notes,
            keys=keys,
            x=x,
            multipliers=multipliers,
            dx=torch.zeros_like(x),
            dmultipliers=torch.zeros_like(multipliers),
            length=nothing + 1,
            merit=nothing,
            slope=nothing - torch.inf,
            rounding=nothing,
            trying=none > 0,
            iterations=none,
            step=nothing,
            singular=none > 0,
            capped=none,
            finished=none > 0,
            own=self.begin(notes, multipliers),
            work=Ledger.empty(self.counts, len(keys), keys.device),
        )

    def act(self, state: SearchState, observation: Observation) -> tuple[Action, SearchState]:
        notes = state.notes.read(observation)
        state = replace(state, notes=notes, finished=state.finished | notes.refused)
        if look(state.trying).some:
            state = self._judged(state, observation)
        if self.tolerance:
            state = replace(state, finished=state.finished | (self.settled(state) & self._within(state)))
        state, ready = self.prepared(state)
        seen = look(ready)
        if seen.some:
            state = self._turned(state, ready, seen)
        wanted, places = self.asked(state)
        action, notes = state.notes.ask(wanted, **places)
        return action, replace(state, notes=notes)

    def places(self, state: SearchState, seen: Seen, resting: Float[Tensor, "B m"]) -> dict[str, Tensor]:
        """The next trial, where ``seen`` says so, or where it stands, with the multipliers ``resting``."""
        if not seen.some:  # copies: the memory is nobody else's
            return {"x": state.x.clone(), "multipliers": resting.clone()}
        length = state.length.unsqueeze(-1)
        x, multipliers = state.x + length * state.dx, state.multipliers + length * state.dmultipliers
        here = {"x": state.x, "multipliers": resting}
        return mixed(seen, state.trying, {"x": x, "multipliers": multipliers}, here)

    def _judged(self, state: SearchState, observation: Observation) -> SearchState:
        """Whether trials are accepted, and how long the next ones are."""
        most = state.merit + self.armijo * state.length * state.slope + state.rounding
        passed = state.trying & (self.merit(state, observation["multipliers"]) <= most)
        failed, seen = state.trying & ~passed, look(passed)
        length, finished = state.length, state.finished
        if not seen.every:
            length = torch.where(failed, length / 2, length)
            finished = finished | (failed & (length * state.slope.abs() <= state.rounding))
        there = {"x": observation["x"], "multipliers": observation["multipliers"], "step": length}
        here = {"x": state.x, "multipliers": state.multipliers, "step": state.step}
        return replace(
            state,
            **mixed(seen, passed, there, here),
            length=length,
            trying=failed,
            iterations=state.iterations + passed,
            finished=finished,
        )

    def _turned(self, state: SearchState, ready: Bool[Tensor, "B"], seen: Seen) -> SearchState:
        """The state with a direction in rows that are ready."""
        found = self.direction(state, ready)
        moved = None if found.moved is None else ready & found.moved
        new = ready if moved is None else ready & ~moved
        z, at = cat(found.dx, found.dmultipliers), cat(state.x, state.multipliers)
        # of z that is no number a sum is none, too
        singular = found.singular | ~(z.sum(-1).abs() < torch.inf)
        rounding = _rounding(found.merit, state)
        # the slope falls from step to step, until rounding is all that is left of it
        lost = (found.slope.abs() <= rounding) & (found.slope <= state.slope)
        over = singular | lost | ((at + z) == at).all(-1)
        if found.ended is not None:
            over = over | found.ended
        tries, none = new & ~over, torch.zeros_like(state.iterations)
        going = look(tries)
        there = {
            "dx": found.dx,
            "dmultipliers": found.dmultipliers,
            "length": torch.ones_like(state.length),
            "merit": found.merit,
            "slope": found.slope,
            "rounding": rounding,
        }
        state = replace(
            state,
            **mixed(going, tries, there, {name: getattr(state, name) for name in there}),
            own=mixed(seen, ready, found.own, state.own),
            trying=state.trying | tries,
            capped=state.capped + (ready & found.capped),
            work=state.work.bill(mixed(seen, ready, found.work, dict.fromkeys(found.work, none))),
        )
        if not going.every:
            ended = new & over if found.ended is None else (new & over) | (ready & found.ended)
            state = replace(
                state, singular=state.singular | (new & singular), finished=state.finished | ended
            )
        if moved is not None and found.multipliers is not None:
            state = replace(
                state,
                multipliers=select(moved, found.multipliers, state.multipliers),
                slope=torch.where(moved, -torch.inf, state.slope),  # of another function
            )
        return state

    def _within(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Whether the residual is known where it stands, and within the tolerance."""
        known = ~state.trying & self.slope_known(state)
        slope = self.slope(state.notes, state.multipliers)
        return known & (length_of(cat(slope, state.notes["constraints"])) <= self.tolerance)


def _rounding(merit: Float[Tensor, "B"], state: SearchState) -> Float[Tensor, "B"]:
    """What rounding makes of the merit function and of f, the terms of which may cancel each other."""
    terms = length_of(state.notes["gradient"]) * length_of(state.x)
    return 4 * torch.finfo(merit.dtype).eps * (merit.abs() + terms)


def _refuse(agent: Agent, problem: Any) -> None:
    """Raise ``ValueError`` unless all constraints are equations."""
    name = type(agent).__name__
    rows = problem.lambda0.shape[1]
    if problem.equalities != rows:
        raise ValueError(
            f"agent {name} solves equations c(x) = 0 alone, and {rows - problem.equalities} of the {rows} "
            "constraints of this problem are inequalities"
        )
    if bool((problem.lower.isfinite() | problem.upper.isfinite()).any()):
        raise ValueError(f"agent {name} solves equations c(x) = 0 alone, and this problem has bounds of x")
