"""Optimization by directional attacks (Bouchet and Vidal 2025): attacks, and a direct search beside them.

An iteration attacks the incumbent x with radius r_a along the gradient u of the objective on outputs
(``_attack``); let g be the gain, relative to the size of the value.

    g >= tau         x moves; r_a <- 1.3 r_a; r_d <- 2 r_d where it is at its least value; next iteration
    0 < g < tau      x moves; r_a <- 1.1 r_a
    else             r_a <- r_a / 1.3

and in the latter two cases goes on at x, until one point is better, with

    covering   one point within the covering radius
    search     one point at the distance min(r_max, r0 sqrt(s + 1)), s the number of searches so far
    poll       x + r_d p / |p|_inf, p the rows h_i of a random Householder matrix and then -sum h_i

the latter two only where r_d is not at its least value. A success of the latter two doubles r_d, a failure of
all halves it. It ends, and asks nothing more, when both radii are at their least values.

The product of an attack is asked only where x has moved since the last one, so fewer are billed than there
are attacks. A failed attack and the trials that follow it are one query, the trials after a small gain
another: the points billed are those of the method one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation, require
from ._attack import ATTACKS, LOSSES, PGD_STEPS, cotangent, moved
from ._geometry import (
    covering,
    householder,
    largest,
    poll_simplex,
    rotated,
    rotated_as_published,
    unit_inf,
)
from ._queries import Incumbent, check_factors, check_radii, first, improved, inside, known, query

ROTATIONS = ("none", "common", "independent")


@struct
class DirectionalAttackState:
    """The memory of the method.

    Attributes:
        problem: what the agent knows.
        keys: of the random draws, ``(B,)``.
        best: the incumbent.
        attack_radius, poll_radius: ``(B,)``.
        offset: the attack at the incumbent in units of its radius, ``(B, n)``.
        inner: products of this attack so far, ``(B,)``; -1 before the first query.
        turn: iterations so far, ``(B,)``.
        searches: searches so far, ``(B,)``.
        place: how far attack, covering, search and poll are asked, ``(B,)``.
        finished: whether the search is over, ``(B,)``.
    """

    problem: Any
    keys: Keys
    best: Incumbent
    attack_radius: Float[Tensor, "B"]
    poll_radius: Float[Tensor, "B"]
    offset: Float[Tensor, "B n"]
    inner: Int64[Tensor, "B"]
    turn: Int64[Tensor, "B"]
    searches: Int64[Tensor, "B"]
    place: Int64[Tensor, "B"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class DirectionalAttack(Agent):
    """The hybrid of attacks and direct search. Radii have the defaults of the paper's bio-diesel problem.

    Args:
        attack: ``fgsm``, one step; ``pgd``, ten, each with a product of its own.
        loss: ``linear``, the steepest step of the maximum norm; ``ce``, the authors' cross entropy, which
            with ``pgd`` needs the network (``white_box=True``) for the outputs along the way.
        tau: the relative gain of an attack after which the direct search is left out.
        radius: r0, the first radius of attack and poll.
        attack_limits, poll_limits: the least and the largest radius of each.
        covering_radius: of the covering; ``None`` for r0.
        official_covering: the distance of the authors' code, see :func:`agents.surrogate._geometry.covering`.
        rotation: of the poll's directions: ``none``, ``common`` to all, or ``independent``.
        official_rotation: with ``independent``, the map of the authors' code in place of a rotation.
        grow_much, grow, shrink: factors of the attack's radius after a gain of tau, a smaller one, and none.
        poll_grow, poll_shrink: factors of the poll's radius.
    """

    attack: str = "fgsm"
    loss: str = "linear"
    tau: float = 1e-3
    radius: float = 1e-3
    attack_limits: tuple[float, float] = (1e-6, 1.0)
    poll_limits: tuple[float, float] = (1e-6, 0.1)
    covering_radius: float | None = None
    official_covering: bool = False
    rotation: str = "none"
    official_rotation: bool = False
    grow_much: float = 1.3
    grow: float = 1.1
    shrink: float = 1.3
    poll_grow: float = 2.0
    poll_shrink: float = 2.0

    needs = ("value", "poll", "vjp")

    def __post_init__(self) -> None:
        for field, allowed in (("attack", ATTACKS), ("loss", LOSSES), ("rotation", ROTATIONS)):
            require(self, field, getattr(self, field) in allowed, " or ".join(allowed))
        require(self, "tau", self.tau >= 0, "a number >= 0")
        check_radii(self, "attack_limits", "poll_limits")
        check_factors(self, "grow_much", "grow", "shrink", "poll_grow", "poll_shrink")
        require(self, "covering_radius", (self.covering_radius or 1.0) > 0, "a number > 0 or None")
        alone = self.rotation == "independent" or not self.official_rotation
        require(self, "official_rotation", alone, "rotation='independent' with it")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> DirectionalAttackState:
        best, zero = first(observation), torch.zeros_like(keys)
        radius = torch.full_like(best.value, self.radius)
        if self._looks_inside and problem.weights is None:
            raise ValueError(
                f"{type(self).__name__}: loss: 'ce' with attack='pgd' needs the network's outputs along the "
                "way, which a problem with white_box=True gives; loss='linear' does not"
            )
        return DirectionalAttackState(
            problem=replace(known(self, problem), weights=problem.weights if self._looks_inside else None),
            keys=keys,
            best=best,
            attack_radius=radius,
            poll_radius=radius,
            offset=torch.zeros_like(best.point),
            inner=zero - 1,
            turn=zero,
            searches=zero,
            place=zero,
            finished=zero > 0,
        )

    def act(self, state: DirectionalAttackState, observation: Observation) -> tuple[Action, Any]:
        state = self._learn(self._aim(state, observation), state, observation)
        x, trials = state.best.point, self._trials(state)
        # where the poll's radius is at its least value the list ends with the covering
        whole = torch.where(state.poll_radius > self.poll_limits[0], trials.shape[1], 2)
        asks = self._aimed(state.inner) | (state.place > 0)
        end = torch.where(asks & ~state.finished, whole, 0)
        base = x + state.attack_radius.unsqueeze(-1) * state.offset
        along = torch.where((asks | state.finished).unsqueeze(-1), 0.0, self._cotangent(state, base))
        return query(
            state.problem, observation, state.best, trials, state.place, end, base, along
        ), state  # fmt: skip

    @property
    def _products(self) -> int:
        return 1 if self.attack == "fgsm" else PGD_STEPS

    @property
    def _looks_inside(self) -> bool:
        return self.attack == "pgd" and self.loss == "ce"

    def _aimed(self, inner: Int64[Tensor, "B"]) -> Bool[Tensor, "B"]:
        """Whether all products of the attack are there."""
        return inner >= self._products

    def _aim(self, state: DirectionalAttackState, observation: Observation) -> DirectionalAttackState:
        """Take a product into account, where the last query asked for one."""
        asked = (state.inner >= 0) & ~self._aimed(state.inner) & (state.place == 0) & ~state.finished
        offset = moved(state.offset, observation["vjp"], self.attack)
        return replace(
            state,
            offset=torch.where(asked.unsqueeze(-1), offset, state.offset),
            inner=torch.where(asked, state.inner + 1, state.inner.clamp_min(0)),
        )

    def _learn(
        self, state: DirectionalAttackState, before: DirectionalAttackState, observation: Observation
    ) -> DirectionalAttackState:
        """Take the trial points into account, where the last query asked for some."""
        room, size = observation["point"].shape[1:]
        asked = (self._aimed(before.inner) | (before.place > 0)) & ~before.finished
        found, index, best = improved(observation, state.best)
        found = found & asked
        rank = state.place + index  # 0: attack, 1: covering, 2: search, later: poll
        opened = asked & (state.place == 0)
        hit = found & (rank == 0)
        gain = (state.best.value - best.value) / (state.best.value.abs() + 1e-10)
        leap = hit & (gain >= self.tau)

        low, high = self.attack_limits
        attack = state.attack_radius
        grown = torch.where(leap, attack * self.grow_much, attack * self.grow)
        attack = torch.where(hit, grown.clamp(low, high), attack)
        attack = torch.where(opened & ~hit, (attack / self.shrink).clamp_min(low), attack)

        least, most = self.poll_limits
        poll = state.poll_radius
        whole = torch.where(poll > least, size + 4, 2)
        lost = asked & ~found & (state.place + room >= whole)
        won = found & ~hit
        grows = (won & (rank > 1)) | (leap & (poll <= least))
        poll = torch.where(grows, (poll * self.poll_grow).clamp_max(most), poll)
        poll = torch.where(lost, (poll / self.poll_shrink).clamp_min(least), poll)

        over = leap | won | lost
        place = torch.where(hit, 1, state.place + room)
        # where the incumbent has stayed, FGSM's direction is known; PGD's depends on the radius
        stays = (
            lost & (best.point == before.best.point).all(-1) & (self.attack == "fgsm") & (before.inner > 0)
        )
        again = (over & ~stays) | hit
        return replace(
            state,
            best=best,
            attack_radius=attack,
            poll_radius=poll,
            offset=torch.where(again.unsqueeze(-1), 0.0, state.offset),
            inner=torch.where(again, 0, state.inner),
            turn=state.turn + over.long(),
            searches=state.searches + (lost | (won & (rank > 1))).long(),
            place=torch.where(over | ~asked, 0, place),
            finished=state.finished | (over & (poll <= least) & (attack <= low)),
        )

    def _cotangent(self, state: DirectionalAttackState, base: Tensor) -> Float[Tensor, "B p"]:
        problem, held = state.problem, state.best
        shift = None
        if self._looks_inside:
            shift = problem.outputs(inside(problem, base).unsqueeze(1)).squeeze(1) - held.outputs
        return cotangent(problem.slope(held.outputs), problem.active, self.loss, shift)

    def _trials(self, state: DirectionalAttackState) -> Float[Tensor, "B m n"]:
        keys, turn, x = state.keys, state.turn, state.best.point
        attack = (state.attack_radius.unsqueeze(-1) * state.offset).unsqueeze(1)
        near = covering(keys, turn, self.covering_radius or self.radius, x, self.official_covering)
        far = (self.radius * (state.searches + 1).to(x.dtype).sqrt()).clamp_max(self.poll_limits[1])
        search = far[:, None, None] * unit_inf(keys, "search", turn, x)
        poll = poll_simplex(householder(keys, turn, x))
        if self.official_rotation:
            poll = rotated_as_published(poll, keys, turn)
        elif self.rotation != "none":
            poll = rotated(poll, keys, turn, common=self.rotation == "common")
        poll = state.poll_radius[:, None, None] * poll / largest(poll)
        return x.unsqueeze(1) + torch.cat((attack, near, search, poll), 1)
