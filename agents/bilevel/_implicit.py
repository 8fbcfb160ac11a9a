"""What methods share that differentiate a lower solution implicitly: system, step of x, and what is asked.

An iteration asks for the lower solution y at x, in a way of each method; for the gradient of F there, and for
the constraints' Jacobian where the geometry does not tell it, a pullback a constraint; then for products of
the lower Hessian, a query each, until conjugate gradients have solved for w (``_conjugate.py``). The
hypergradient F_x - L_xy w - J_x' nu moves x.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.offer import WANT, Offer
from optenvs.core.random import Keys
from optenvs.core.struct import replace, select, static, struct

from ..core import Agent, Observation, require
from ._conjugate import Constraints, System
from ._descent import Descent, rounding
from ._levels import advanced, by_stage, constrained, rate, require_numbers, split, start_of
from ._stages import require_whole

LOWER, SLOPES, PRODUCT = range(3)
"""What a query is for: y, the slopes at (x, y), a product."""


@struct
class ImplicitState:
    """Where an instance stands.

    Attributes:
        descent: x, the point before it with its hypergradient, and the step sizes.
        y: the lower point, ``(B, m)``; ``before`` is that at which x moved last.
        multipliers: of the constraints at (x, y), ``(B, p)``.
        active: which of them are held to be equalities, ``(B, p)``.
        stage: see the module's constants, ``(B,)``.
        count: queries in this stage, ``(B,)``.
        constraints: the active ones' Jacobian.
        upper, lower: the gradients of F and, where a method asks it, of f at (x, y), ``(B, n + m)``.
        system: the solve for w.
        lower_step: the step of y, where a method has one, ``(B, 1)``.
        geometry: the problem's.
        work: ``projections`` onto X and onto what is feasible at x, ``inner_steps`` of y, and linear
            ``solves``: a system by conjugate gradients, a pseudo-inverse.
        wanted: what the last query wanted, ``(B, kinds)``.
        failed: rows in which the lower Hessian was not positive on the null space, or a hypergradient was no
            number: they end, ``(B,)``.
        finished: these, rows that rounding alone moves, and rows whose budget did not pay, ``(B,)``.
        offer: what can be asked.
        tells: whether the geometry tells the constraints' Jacobian.
    """

    descent: Descent
    y: Float[Tensor, "B m"]
    before: Float[Tensor, "B m"]
    multipliers: Float[Tensor, "B p"]
    active: Bool[Tensor, "B p"]
    stage: Int64[Tensor, "B"]
    count: Int64[Tensor, "B"]
    constraints: Constraints
    upper: Float[Tensor, "B nm"]
    lower: Float[Tensor, "B nm"]
    system: System
    lower_step: Float[Tensor, "B 1"]
    geometry: Any
    work: Ledger
    wanted: Int64[Tensor, "B kinds"]
    failed: Bool[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    offer: Offer = static()
    tells: bool = static()


@dataclass(frozen=True, eq=False)
class ImplicitAgent(Agent):
    """Descent along implicit hypergradients.

    Args:
        alpha: a constant step of x: a number, or a tensor ``(B,)``; ``None`` for one that adapts itself.
        first: the first step where it adapts.
        accuracy: of the linear solve, relative to the gradient of F by y.
        products: the most products of a solve; ``None`` for twice the number of lower variables.
    """

    alpha: float | Float[Tensor, "B"] | None = None
    first: float = 1e-3
    accuracy: float = 1e-10
    products: int | None = None

    asked_below: ClassVar[str]
    """The kind of the query for y."""
    also: ClassVar[tuple[str, ...]] = ()
    """What is asked beside the gradient of F, where there are constraints."""

    def __post_init__(self) -> None:
        require_numbers(self, "alpha", lambda v: (v > 0) & v.isfinite(), "a finite number > 0", none=True)
        require(self, "first", 0 < self.first < float("inf"), "a number > 0")
        require(self, "accuracy", 0 <= self.accuracy < 1, "a number in [0, 1)")
        if self.products is not None:
            require_whole(self, "products")

    # What a method writes ----------------------------------------------------------------------

    @abc.abstractmethod
    def admit(self, problem: Any) -> Offer:
        """What can be asked, where the problem is one that the method can solve; raises otherwise."""

    @abc.abstractmethod
    def below(self, state: ImplicitState, seen: Observation) -> tuple[ImplicitState, Bool[Tensor, "B"]]:
        """What is done with its answer: y, multipliers, who is active; and whether y is the lower point."""

    def lower_step(self, problem: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B 1"]:
        """The step of y."""
        return torch.zeros_like(x[:, :1])

    def held(self, state: ImplicitState) -> Float[Tensor, "B p"]:
        """The multipliers at (x, y), for the Hessian of the Lagrangian."""
        return state.multipliers

    # What it gets ------------------------------------------------------------------------------

    def init(self, problem: Any, observation: Observation, keys: Keys) -> ImplicitState:
        offer, (x, y) = self.admit(problem), start_of(observation)
        geometry, none = problem.geometry, torch.zeros_like(keys)
        n, p = x.shape[1], geometry.equal.shape[1]
        x, y = geometry.upper(x), geometry.lower(y)
        both = torch.cat((x, y), -1)
        fixed = rate(self, "alpha", x, lambda: torch.zeros_like(x[:, :1]))
        constraints = Constraints.none(both, n, p)
        work = Ledger.empty(("projections", "inner_steps", "solves"), len(keys), keys.device)
        return ImplicitState(
            descent=Descent.begin(x, fixed),
            y=y,
            before=torch.full_like(y, torch.inf),
            multipliers=torch.zeros_like(geometry.equal, dtype=x.dtype),
            active=geometry.equal,
            stage=none,
            count=none,
            constraints=constraints,
            upper=torch.zeros_like(both),
            lower=torch.zeros_like(both),
            system=System.begin(torch.zeros_like(y), n, constraints),
            lower_step=self.lower_step(problem, x),
            geometry=geometry,
            work=work.bill({"projections": 1}),
            wanted=torch.zeros_like(observation["answered"]),
            failed=none > 0,
            finished=none > 0,
            offer=offer,
            tells="jacobian" in geometry.has or not constrained(problem),
        )

    def act(self, state: ImplicitState, observation: Observation) -> tuple[Action, ImplicitState]:
        steps = self._below, self._slopes, self._product
        after, paid = advanced(state, observation, state.stage, *steps)
        solved = (after.stage == PRODUCT) & self._solved(after)
        after = by_stage(solved, lambda: after, lambda: self._moved(after))
        action = self._ask(after)
        return action, replace(after, wanted=action[WANT], finished=after.finished | after.failed | ~paid)

    def _below(self, state: ImplicitState, seen: Observation) -> ImplicitState:
        after, done = self.below(state, seen)
        return _staged(replace(after, count=state.count + 1), done, SLOPES)

    def _slopes(self, state: ImplicitState, seen: Observation) -> ImplicitState:
        """The gradient of F, the Jacobian, and the system that follows from them."""
        x, p, first = state.descent.x, state.multipliers.shape[1], (state.count == 0).unsqueeze(-1)
        upper = torch.where(first, seen["upper_gradient"], state.upper)
        lower = torch.where(first, seen["lower_gradient"], state.lower) if self.also else state.lower
        jacobian, done = state.constraints.jacobian, torch.ones_like(state.failed)
        if p and state.tells:
            jacobian = state.geometry.jacobian(x, state.y)
        elif p:
            row = torch.arange(p, device=x.device) == state.count.unsqueeze(-1)
            jacobian = torch.where(row.unsqueeze(-1), seen["pullback"].unsqueeze(1), jacobian)
            done = state.count + 1 >= p
        constraints = replace(state.constraints, jacobian=jacobian)
        if p:
            n, active, known = x.shape[1], state.active, constraints
            constraints = by_stage(done, lambda: known, lambda: Constraints.of(jacobian, active, n))
        system = System.begin(split(upper, x)[1], x.shape[1], constraints)
        after = replace(
            state,
            upper=upper,
            lower=lower,
            constraints=constraints,
            system=system,
            count=state.count + 1,
            work=state.work.bill({"solves": (done & (p > 0)).long() + done}),
        )
        multipliers = torch.where(done.unsqueeze(-1), self.held(after), state.multipliers)
        return _staged(replace(after, multipliers=multipliers), done, PRODUCT)

    def _product(self, state: ImplicitState, seen: Observation) -> ImplicitState:
        system = state.system.received(seen["product"], state.constraints)
        return replace(state, system=system, count=state.count + 1)

    def _solved(self, state: ImplicitState) -> Bool[Tensor, "B"]:
        """Whether no more products are wanted: it is solved, has failed, or has had the most."""
        most = 2 * state.y.shape[1] if self.products is None else self.products
        system, right = state.system, split(state.upper, state.descent.x)[1]
        return system.solved(right, self.accuracy) | system.failed | (state.count >= most)

    def _moved(self, state: ImplicitState) -> ImplicitState:
        """The step of x, in rows whose system is solved."""
        x = state.descent.x
        slope = state.system.slope(state.upper, x.shape[1], state.constraints)
        good = ~state.system.failed & slope.isfinite().all(-1)
        descent, rests = state.descent.moved(slope, state.geometry, self.first)
        still = torch.linalg.vector_norm(state.y - state.before, dim=-1) <= rounding(state.y)
        return replace(
            state,
            descent=select(good, descent, state.descent),
            before=state.y,
            failed=state.failed | ~good,
            finished=state.finished | (rests & still),
            work=state.work.bill({"projections": 1}),
            stage=torch.full_like(state.stage, LOWER),
            count=torch.zeros_like(state.count),
        )

    def _ask(self, state: ImplicitState) -> dict[str, Tensor]:
        stage, p = state.stage, state.multipliers.shape[1]
        slopes = stage == SLOPES
        first = slopes & (state.count == 0)
        wanted = {"upper_gradient": first, "product": stage == PRODUCT}
        wanted |= dict.fromkeys(self.also if p else (), first)
        wanted[self.asked_below] = (stage == LOWER) | wanted.get(self.asked_below, torch.zeros_like(first))
        places = {"x": state.descent.x, "y": state.y, "vector": state.system.direction}
        if p:
            places["multipliers"] = state.multipliers
        if not state.tells:
            wanted["pullback"] = slopes
            unit = (torch.arange(p, device=stage.device) == state.count.unsqueeze(-1)).to(state.multipliers)
            places["multipliers"] = torch.where(slopes.unsqueeze(-1), unit, state.multipliers)
        return state.offer.query(wanted, **places)


def _staged(state: ImplicitState, done: Bool[Tensor, "B"], stage: int) -> ImplicitState:
    """In the next stage where this one is done."""
    return replace(
        state,
        stage=torch.where(done, stage, state.stage),
        count=torch.where(done, 0, state.count),
    )
