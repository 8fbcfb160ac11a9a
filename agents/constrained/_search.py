"""What second-order methods with a backtracking line search on a merit function share.

Each round: derivatives at (x, multipliers), a direction, then trial points, one a query, until the merit
function has fallen by Armijo's rule:

    merit(x + a dx, multipliers + a dmultipliers) <= merit(x, multipliers) + armijo a slope,     a <- a / 2

up to its rounding. A trial asks what the merit function needs. What an answer has told is not asked again.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.oracles import inside_transform
from optenvs.core.random import Keys
from optenvs.core.struct import replace, select, struct

from ..asking import Notes
from ..core import Agent, Observation, require
from ._rows import Seen, cat, look, mixed, union
from .gmres import length_of


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
        here: what the method keeps of where it stands (see :meth:`LineSearch.measured`), and
        told: whether it is known, ``(B,)``.
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
    here: Any
    told: Bool[Tensor, "B"]
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
        z: the direction, dx and dmultipliers as one vector.
        merit, slope: the merit function where it stands, and its slope along the direction.
        own: what the method keeps.
        singular: rows that cannot go on, ``(B,)``; ``None`` for none.
        work: what the inner solver has done, by kind, ``(B,)``, or a number of every row that is ready.
        capped: rows in which it has stopped short of its aim, ``(B,)``; ``None`` for none.
        multipliers: new ones, in rows that then need derivatives anew and have no direction; and
        moved: which those are, ``(B,)``; ``None`` where a method has no such thing.
        ended: rows that finish, ``(B,)``.
    """

    z: Float[Tensor, "B N"]
    merit: Float[Tensor, "B"]
    slope: Float[Tensor, "B"]
    own: Any
    singular: Bool[Tensor, "B"] | None
    work: dict[str, int | Tensor]
    capped: Bool[Tensor, "B"] | None = None
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
    takes = ("equations",)

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

    def measured(
        self, state: SearchState, multipliers: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B"], Any]:
        """The merit function, and what of the last answers :meth:`direction` is to find in ``state.here``."""
        return self.merit(state, multipliers), None

    def asked_at(self, state: SearchState) -> Float[Tensor, "B m"]:
        """The multipliers of the Hessian that it needs where it stands."""
        return state.multipliers

    def settled(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Rows where the residual may end the run."""
        return ~state.trying

    def prepared(self, state: SearchState) -> tuple[SearchState, Bool[Tensor, "B"] | None]:
        """The state with what the answers say of a direction, and the rows that have all for one, if any."""
        # whatever else is needed there is asked no later than the Hessian
        held = state.notes.held("hessian", x=state.x, multipliers=self.asked_at(state))
        busy = None if held is None else union(state.trying, state.finished)
        return state, held if held is None or busy is None else held & ~busy

    def asked(
        self, state: SearchState, first: dict[str, Tensor] | None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What is asked next, by kind, and the places; ``first``: the trials, where all rows begin one."""
        seen = look(state.trying)
        resting = ~state.trying if seen.some and not seen.every else not seen.some
        wanted = {kind: True if kind in self.tried else resting for kind in self.needs}
        return wanted, self.places(state, seen, self.asked_at(state), first)

    def slope(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B n"]:
        """grad_x L at the last answers."""
        gradient, along = notes["gradient"].unsqueeze(1), multipliers.unsqueeze(1)
        return torch.baddbmm(gradient, along, notes["jacobian"]).squeeze(1)

    def slope_known(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Whether they were given where it stands."""
        return state.notes.holds("jacobian", x=state.x) & state.notes.holds("gradient", x=state.x)

    # What it gets ------------------------------------------------------------------------------

    def init(self, problem: Any, observation: Observation, keys: Keys) -> SearchState:
        _refuse(self, problem)
        notes = Notes.begin(self, problem, observation)
        x, multipliers = observation["x"], observation["multipliers"]
        nothing, none = torch.zeros_like(x[:, 0]), torch.zeros_like(keys)
        told = [notes.holds(kind, x=x) for kind in self.tried]
        state = SearchState(
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
            here=None,
            told=torch.stack(told).all(0),
            iterations=none,
            step=nothing,
            singular=none > 0,
            capped=none,
            finished=none > 0,
            own=self.begin(notes, multipliers),
            work=Ledger.empty(self.counts, len(keys), keys.device),
        )
        return replace(state, here=self.measured(state, multipliers)[1])

    def act(self, state: SearchState, observation: Observation) -> tuple[Action, SearchState]:
        notes = state.notes.read(observation)
        over, tried, first = union(state.finished, notes.refused), look(state.trying), None
        state = replace(state, notes=notes, finished=state.finished if over is None else over)
        if tried.some:
            state = self._judged(state, observation, tried)
        if self.tolerance:
            state = replace(state, finished=state.finished | (self.settled(state) & self._within(state)))
        state, ready = (state, None) if look(state.trying).every else self.prepared(state)
        if ready is not None and (seen := look(ready)).some:
            state, first = self._turned(self._known(state, ready), ready, seen)
        wanted, places = self.asked(state, first)
        action, notes = state.notes.ask(wanted, **places)
        return action, replace(state, notes=notes)

    def places(
        self, state: SearchState, seen: Seen, resting: Float[Tensor, "B m"], first: dict[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """The next trial, where ``seen`` says so, or where it stands, with the multipliers ``resting``."""
        if first is not None:
            return first
        if not seen.some:  # copies: the memory is nobody else's
            return {"x": state.x.clone(), "multipliers": resting.clone()}
        length = state.length.unsqueeze(-1)
        x = torch.addcmul(state.x, length, state.dx)
        multipliers = torch.addcmul(state.multipliers, length, state.dmultipliers)
        here = {"x": state.x, "multipliers": resting}
        return mixed(seen, state.trying, {"x": x, "multipliers": multipliers}, here)

    def _known(self, state: SearchState, ready: Bool[Tensor, "B"]) -> SearchState:
        """The state with what is kept of where it stands; no trial told it where the first answer did not."""
        if look(state.told).every:
            return state
        new = ready & ~state.told
        here = self.measured(state, state.multipliers)[1]
        return replace(state, here=select(new, here, state.here), told=state.told | new)

    def _judged(self, state: SearchState, observation: Observation, tried: Seen) -> SearchState:
        """Whether trials are accepted, and how long the next ones are."""
        most = torch.addcmul(state.merit + state.rounding, state.length, state.slope, value=self.armijo)
        merit, measured = self.measured(state, observation["multipliers"])
        passed = merit <= most
        failed = ~passed
        if not tried.every:
            passed, failed = state.trying & passed, state.trying & failed
        seen = look(passed)
        length, finished = state.length, state.finished
        if not seen.every:
            length = mixed(look(failed), failed, length / 2, length)
            if (small := union(length * state.slope.abs() <= state.rounding)) is not None:
                finished = finished | (failed & small)
        there = {"x": observation["x"], "multipliers": observation["multipliers"], "step": length}
        here = {"x": state.x, "multipliers": state.multipliers, "step": state.step}
        return replace(
            state,
            **mixed(seen, passed, there | {"here": measured}, here | {"here": state.here}),
            length=length,
            trying=failed,
            iterations=state.iterations + passed if seen.some else state.iterations,
            finished=finished,
        )

    def _turned(
        self, state: SearchState, ready: Bool[Tensor, "B"], seen: Seen
    ) -> tuple[SearchState, dict[str, Tensor] | None]:
        """The state with a direction in rows that are ready, and the first trials where all have one."""
        found, n = self.direction(state, ready), state.x.shape[-1]
        moved = None if found.moved is None else ready & found.moved
        new = ready if moved is None else ready & ~moved
        dx, dmultipliers, rounding = found.z[:, :n], found.z[:, n:], _rounding(found.merit, state)
        first = {"x": state.x + dx, "multipliers": state.multipliers + dmultipliers}
        singular = union(found.singular, _no_numbers(found.z))
        # the slope falls from step to step, until rounding is all that is left of it
        small = union(found.slope.abs() <= rounding)
        lost = None if small is None else small & (found.slope <= state.slope)
        over = union(singular, lost, _unmoved(state, first), found.ended)
        tries = new if over is None else new & ~over
        going = look(tries)
        there = {
            "dx": dx,
            "dmultipliers": dmultipliers,
            "length": torch.ones_like(state.length),
            "merit": found.merit,
            "slope": found.slope,
            "rounding": rounding,
        }
        state = replace(
            state,
            **mixed(going, tries, there, {name: getattr(state, name) for name in there}),
            own=mixed(seen, ready, found.own, state.own),
            trying=tries if going.every else state.trying | tries,
            capped=state.capped if found.capped is None else state.capped + (ready & found.capped),
            work=_billed(state.work, found.work, ready, seen),
        )
        if going.every:
            return state, first
        if over is not None:
            ended = new & over if found.ended is None else (new & over) | (ready & found.ended)
            state = replace(state, finished=state.finished | ended)
        if singular is not None:
            state = replace(state, singular=state.singular | (new & singular))
        if moved is not None and found.multipliers is not None:
            state = replace(
                state,
                multipliers=select(moved, found.multipliers, state.multipliers),
                slope=torch.where(moved, -torch.inf, state.slope),  # of another function
            )
        return state, None

    def _within(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Whether the residual is known where it stands, and within the tolerance."""
        known = ~state.trying & self.slope_known(state)
        slope = self.slope(state.notes, state.multipliers)
        return known & (length_of(cat(slope, state.notes["constraints"])) <= self.tolerance)


def _rounding(merit: Float[Tensor, "B"], state: SearchState) -> Float[Tensor, "B"]:
    """What rounding makes of the merit function and of f, the terms of which may cancel each other."""
    terms = torch.addcmul(merit.abs(), length_of(state.notes["gradient"]), length_of(state.x))
    return 4 * torch.finfo(merit.dtype).eps * terms


def _no_numbers(z: Float[Tensor, "B N"]) -> Bool[Tensor, "B"] | None:
    """Where a direction is no number; ``None`` where the host sees none. The sum is then none, too."""
    if z.is_cpu and not inside_transform(z) and math.isfinite(z.sum().item()):
        return None
    return ~(z.sum(-1).abs() < torch.inf)


def _unmoved(state: SearchState, first: dict[str, Tensor]) -> Bool[Tensor, "B"] | None:
    """Where the first trial is where it stands; ``None`` where there is one row, and it moves."""
    x, multipliers = first["x"], first["multipliers"]
    if len(x) == 1 and x.is_cpu and not inside_transform(x) and not torch.equal(x, state.x):
        return None
    return (x == state.x).all(-1) & (multipliers == state.multipliers).all(-1)


def _billed(work: Ledger, found: dict[str, int | Tensor], ready: Bool[Tensor, "B"], seen: Seen) -> Ledger:
    """The ledger with what was done in the rows that are ready."""
    amounts = [found.get(kind, 0) for kind in work.kinds]
    if seen.every and not any(isinstance(amount, Tensor) for amount in amounts):
        return work.bill(torch.tensor(amounts))
    none = torch.zeros_like(ready, dtype=torch.int64)
    rows = {kind: none + amount for kind, amount in zip(work.kinds, amounts, strict=True)}
    return work.bill(mixed(seen, ready, rows, dict.fromkeys(rows, none)))


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
