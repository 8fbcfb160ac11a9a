"""Attacks inside a progressive barrier: steps of a model that keeps the constraints as they are.

A directional attack (Bouchet and Vidal 2025) goes along the sign of the gradient of the merit, whatever the
constraints; on a curved one it stops where that step leads out. Here an attack is the step within the radius
that is best by a model of value *and* constraints (:mod:`agents.surrogate._model`), so that it slides along
what is active; without constraints and on a straight piece of the network it is the attack of the paper. What
it meets is judged by a progressive barrier (Audet and Dennis 2009) with two incumbents:

    beats the feasible or the infeasible incumbent       the next; radius x 2 where the model was right
    infeasible, less so than the infeasible incumbent    the next; the radius stays
    neither                                              radius / 2; the model learns of the bend or kink

The first attacks of a start take f by its tangent, as the paper's do, which is right where f saturates; after
the first that fails where f bends, they take it as it is.

An attack asks one point and the Jacobian there. Where the model promises nothing any more, or the radius is
least, a new start is drawn between the best point of all and a random one of the box; all starts share the
points of one run. The agent is the project's own. Its quadratic programs ask the oracle nothing, and are on
record as its own work; those of rows that begin anew are not needed, and not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import replace, select, struct, tree_map

from ..core import Agent, Observation, require
from ._barrier import FAR, read
from ._model import Bend, Pieces, Place, Promise, add_piece, best_step, gradient, measured, programs


@struct
class BarrierAttackState:
    """The memory between two queries.

    Attributes:
        keys, turn: of the random draws, ``(B,)``.
        problem: what is known.
        inside, outside: the feasible and the infeasible incumbent of this start; infinite values for none.
        radius: of the next attack, a share of the box, ``(B,)``.
        promise: what the model said of the point asked; an infinite value where that is a start, or none.
        came_from: the value from which the attack went, ``(B,)``.
        straight: whether attacks take f by its tangent, ``(B,)``.
        asked: whether a point was asked, ``(B,)``.
        bend, pieces: what the model has learned of the network.
        best, best_value: the best feasible point of all starts, ``(B, n)`` and ``(B,)``.
        work: quadratic programs solved so far.
    """

    keys: Keys
    turn: Int64[Tensor, "B"]
    problem: Any
    inside: Place
    outside: Place
    radius: Float[Tensor, "B"]
    promise: Promise
    came_from: Float[Tensor, "B"]
    straight: Bool[Tensor, "B"]
    asked: Bool[Tensor, "B"]
    bend: Bend
    pieces: Pieces
    best: Float[Tensor, "B n"]
    best_value: Float[Tensor, "B"]
    work: Ledger


@dataclass(frozen=True, eq=False)
class BarrierAttack(Agent):
    """Model-based attacks in a progressive barrier, with new starts; see the module.

    Args:
        radius: the first radius of a start, a share of the box.
        limits: the least radius, below which a start is over, and the greatest.
        margin: how far from the constraints an attack stays, a share of its radius.
        rounds: quadratic programs an attack; each is made where the last one led, and asks nothing.
        bundle: how many points that failed are kept as pieces.
        near: how far away a piece counts, in radii.
        trust: how much of the gain that the model says may be missing where the radius grows.
        tolerance: the least gain, a share of 1 + |value|, for which a point is asked.
        trigger: how much less the value of the infeasible incumbent must be to be attacked from.
    """

    radius: float = 0.2
    limits: tuple[float, float] = (1e-6, 1.0)
    margin: float = 1e-8
    rounds: int = 3
    bundle: int = 10
    near: float = 4.0
    trust: float = 0.5
    tolerance: float = 1e-7
    trigger: float = 1e-3

    needs = ("value", "poll", "jacobian")
    takes = ("inequalities",)

    def __post_init__(self) -> None:
        low, high = self.limits
        require(self, "limits", 0 < low < high <= 1, "two shares, 0 < least < greatest <= 1")
        require(self, "radius", low <= self.radius <= high, f"a share in [{low}, {high}]")
        for field in ("margin", "near", "trust", "tolerance", "trigger"):
            require(self, field, getattr(self, field) >= 0, "a number >= 0")
        for field in ("rounds", "bundle"):
            value = getattr(self, field)
            require(self, field, isinstance(value, int) and value >= 1, "a whole number >= 1")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> BarrierAttackState:
        if problem.penalised and problem.task.constraint_count:
            raise ValueError(
                "BarrierAttack: formulation: expected 'constraints', which shows them apart, got 'penalty'"
            )
        seen, constraints = _asked(observation), _constraints(observation)
        start = seen.point
        none = torch.full_like(seen.value, torch.inf)
        nowhere = replace(seen, value=none, violation=none)
        return BarrierAttackState(
            keys=keys,
            turn=torch.zeros_like(keys),
            problem=replace(problem, weights=None),
            inside=nowhere,
            outside=nowhere,
            radius=torch.full_like(none, self.radius),
            promise=Promise(
                step=torch.zeros_like(start),
                length=torch.zeros_like(none),
                value=none,
                constraints=torch.zeros_like(constraints),
                curved=torch.zeros_like(none, dtype=torch.bool),
            ),
            came_from=torch.zeros_like(none),
            straight=torch.ones_like(none, dtype=torch.bool),
            asked=torch.ones_like(none, dtype=torch.bool),
            bend=Bend(value=torch.zeros_like(none), constraints=torch.zeros_like(constraints)),
            pieces=Pieces(
                point=start.unsqueeze(1).repeat(1, self.bundle, 1),
                value=none.unsqueeze(-1).repeat(1, self.bundle),
                gradient=torch.zeros_like(start).unsqueeze(1).repeat(1, self.bundle, 1),
            ),
            best=start,
            best_value=none,
            work=Ledger.empty(("quadratic_program",), len(none), none.device),
        )

    def act(self, state: BarrierAttackState, observation: Observation) -> tuple[Action, BarrierAttackState]:
        return self._ask(self._learn(state, observation), observation)

    def _learn(self, state: BarrierAttackState, observation: Observation) -> BarrierAttackState:
        """The barrier, the radius and the model after an answer."""
        found, old = _asked(observation), state.outside
        usable = state.asked & (found.value < torch.inf)
        feasible = found.violation <= 0
        gained = usable & feasible & (found.value < state.inside.value)
        less, lower = found.violation < old.violation, found.value < old.value
        # of the infeasible points only those are let in that violate no more than the last one
        admitted = usable & ~feasible & (found.violation <= old.violation)
        beats = admitted & (old.value < torch.inf) & (found.value <= old.value) & (less | lower)
        better = admitted & less & ~beats
        record = gained & (found.value < state.best_value)
        attack = state.asked & (state.promise.value < torch.inf)
        # the radius
        span = _span(state.problem)
        length = (state.promise.step / span).abs().amax(-1)
        missing = found.value - state.promise.value
        right = missing < self.trust * (state.came_from - state.promise.value)
        wide = length > 0.9 * state.radius
        grown = torch.where(wide & right, (2 * state.radius).clamp_max(self.limits[1]), state.radius)
        shrunk = torch.minimum(state.radius, length) / 2
        # where f bends, what has failed is first tried again with its bend
        bent = state.straight & state.promise.curved
        kept = better | bent
        radius = torch.where(gained | beats, grown, torch.where(kept, state.radius, shrunk))
        straight = state.straight & ~(attack & bent & ~(gained | beats | better))
        # the model
        bend = measured(state.bend, state.promise, found.value, _constraints(observation))
        slot = state.turn % self.bundle
        failed = usable & ~gained & ~beats & ~better
        pieces = add_piece(state.pieces, slot, found, gradient(state.problem, found), failed)
        return replace(
            state,
            inside=select(gained, found, state.inside),
            outside=select(beats | better, found, old),
            radius=torch.where(attack, radius, state.radius),
            straight=straight,
            bend=select(attack & usable & ~state.straight, bend, state.bend),
            pieces=pieces,
            best=torch.where(record.unsqueeze(-1), found.point, state.best),
            best_value=torch.where(record, found.value, state.best_value),
        )

    def _ask(self, state: BarrierAttackState, observation: Observation) -> tuple[Action, BarrierAttackState]:
        """An attack from the primary incumbent, or a new start."""
        problem, span = state.problem, _span(state.problem)
        infeasible = (state.outside.value < torch.inf) & (
            state.outside.value < state.inside.value - self.trigger
        )
        centre = select(infeasible, state.outside, state.inside)
        away = ((state.pieces.point - centre.point.unsqueeze(1)) / span.unsqueeze(1)).abs().amax(-1)
        near = away <= self.near * state.radius.unsqueeze(-1)
        pieces = replace(state.pieces, value=torch.where(near, state.pieces.value, torch.inf))
        digits = torch.finfo(span.dtype).eps
        margin = max(self.margin, 4 * digits)
        promise, expected, violation = best_step(
            problem, centre, span, state.radius, pieces, state.bend, state.straight, margin, self.rounds
        )
        gain = centre.value - expected
        worth = gain > max(self.tolerance, 4 * digits) * (1 + centre.value.abs())
        worth = worth | (infeasible & (violation < 0.9 * centre.violation))
        begun = centre.value < torch.inf
        over = ~begun | (state.radius < self.limits[0])
        solved = torch.where(over, 0, programs(problem, self.rounds)).unsqueeze(-1)
        # before a feasible point is known, a smaller radius may see what a large one does not: none is asked
        bent = ~over & ~worth & state.straight & promise.curved
        closer = ~over & ~worth & ((state.inside.value == torch.inf) | bent)
        over = over | (~worth & ~closer)
        chance = uniform(state.keys, "start", span.shape[-1] + 1, state.turn, span.dtype)
        low = torch.where(problem.lower.isfinite(), problem.lower, state.best - 1)
        high = torch.where(problem.upper.isfinite(), problem.upper, state.best + 1)
        other = low + chance[:, 1:] * (high - low)
        start = state.best + chance[:, :1] * (other - state.best)
        trial = torch.where(over.unsqueeze(-1), start, centre.point + promise.step)
        trial = torch.clamp(trial, problem.lower, problem.upper)
        far = torch.full_like(span[:, :1], -FAR)
        action = {
            "points": trial.unsqueeze(1).repeat(1, observation["value"].shape[1], 1),
            "count": (~closer).long().unsqueeze(-1),
            "threshold": far,
            "base": trial,
        }
        if not problem.penalised:
            action["allowance"] = torch.zeros_like(far)
        nothing = torch.full_like(gain, torch.inf)
        nowhere = replace(state.inside, value=nothing, violation=nothing)
        unknown = tree_map(torch.zeros_like, state.bend)
        return action, replace(
            state,
            turn=state.turn + 1,
            inside=select(over, nowhere, state.inside),
            outside=select(over, nowhere, state.outside),
            radius=torch.where(
                over, self.radius, torch.where(closer & ~bent, state.radius / 4, state.radius)
            ),
            straight=over | (state.straight & ~bent),
            promise=replace(promise, value=torch.where(over, torch.inf, promise.value)),
            came_from=torch.where(over, 0.0, centre.value),
            asked=~closer,
            bend=select(over, unknown, state.bend),
            pieces=replace(
                state.pieces, value=torch.where(over.unsqueeze(-1), torch.inf, state.pieces.value)
            ),
            work=state.work.bill(solved),
        )


def _asked(observation: Observation) -> Place:
    """The first point of an answer, which is the base of the Jacobian too."""
    seen = read(observation)
    return Place(
        point=seen.point[:, 0],
        value=seen.value[:, 0],
        violation=seen.violation[:, 0],
        outputs=observation["outputs"][:, 0],
        jacobian=observation["jacobian"],
    )


def _constraints(observation: Observation) -> Float[Tensor, "B q"]:
    if "constraints" in observation:
        return observation["constraints"][:, 0]
    return observation["value"][:, :0]


def _span(problem: Any) -> Float[Tensor, "B n"]:
    """The widths of the box, the unit of lengths; 1 where it has none."""
    width = problem.upper - problem.lower
    return torch.where(width.isfinite(), width, 1.0)
