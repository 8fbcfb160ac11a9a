"""BVFSM: value-function-based sequential minimisation (Liu, Liu, Zeng, Zhang, Zhang 2023, arXiv 2110.04974).

The lower level is a constraint on its regularised value, which an auxiliary function P takes into the upper
one (optimistic form; the order of its algorithm):

    v(x) = min over z of  f(x, z) + Q(g(x, z)) + mu/2 |z|^2
    psi(x) = min over y of  F(x, y) + P(f(x, y) - v(x)) + Q(g(x, y)) + theta/2 |y|^2

In iteration k, with mu, theta, sigma ~ (k + 1)^-power, z makes ``lower`` gradient steps on the first problem,
y makes ``inner`` ones on the second, and x one along

    grad psi = grad_x F(x, y) + P' (grad_x f(x, y) - grad_x v(x)) + J_x(x, y)' Q',
    grad_x v = grad_x f(x, z) + J_x(x, z)' Q'.

Neither level needs to be convex, nor the lower solution unique, and no second derivative is asked. P is a
quadratic penalty, P(w) = max(w, 0)^2 / (2 sigma), or the modified log barrier of the authors' script, P(w) =
-sigma log(shift - w), whose y is kept where it is finite: a step that leaves there is halved. Q is the
quadratic penalty of inequalities, and |g|^2 / (2 sigma) of equalities. It bills a gradient (and a pullback)
for each step of z, two (three) for each of y, three (five) for that of x; values as often as it steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Observation, require
from ._levels import check, constants, constrained, rate, refuse, require_numbers, split, start_of
from ._stages import Stage, Staged, StagedState, beginning, in_rows, require_positive, require_whole, to_stage

VIOLATED, LOWER, VALUE, LOOK, INNER, OUTER = 1, 2, 3, 4, 5, 6
AUXILIARY = ("penalty", "barrier")
STEPS = ("alpha", "beta", "eta")
Number = float | Float[Tensor, "B"]


@struct
class BVFSMState(StagedState):
    """Where an instance stands, beside what all such agents remember.

    Attributes:
        z: ``(B, m)``.
        last: y before its last step, ``(B, m)``.
        least: v(x), ``(B, 1)``.
        weight, bend: P' and P'' at (x, y), ``(B, 1)`` each.
        multipliers, inner_multipliers: Q' at (x, y) and (x, z), ``(B, p)`` each.
        k: iterations, ``(B, 1)``.
        told: curvatures and the norm of the Jacobian as the problem tells them, ``(B, 1)`` each; a step in
            ``settings`` that follows from them is 0.
    """

    z: Float[Tensor, "B m"]
    last: Float[Tensor, "B m"]
    least: Float[Tensor, "B 1"]
    weight: Float[Tensor, "B 1"]
    bend: Float[Tensor, "B 1"]
    multipliers: Float[Tensor, "B p"]
    inner_multipliers: Float[Tensor, "B p"]
    k: Float[Tensor, "B 1"]
    told: dict[str, Float[Tensor, "B 1"]]


@dataclass(frozen=True, eq=False)
class BVFSM(Staged):
    """BVFSM. Each number may be a tensor ``(B,)``.

    The authors' script has ``barrier``, steps of 0.01 (x by Adam), mu = theta = 0.02, sigma = 1e-3 and power
    1.1.

    Args:
        auxiliary: P: ``penalty`` or ``barrier``.
        alpha: the step of x.
        beta: that of y; ``None`` for 1 over a bound of the curvature there, L_F + theta + P' L_f +
            P'' |grad_y f|^2 + j^2 / sigma with the Jacobian's norm j, from what the problem tells.
        eta: that of z; ``None`` for 1 / (L_f + mu + j^2 / sigma).
        mu, theta, sigma: at the beginning.
        shift: of the barrier, at the beginning; it falls as sigma does.
        power: of the fall.
        lower: steps of z in an iteration.
        inner: steps of y.
    """

    auxiliary: str = "penalty"
    alpha: Number = 0.01
    beta: Number | None = None
    eta: Number | None = None
    mu: Number = 0.02
    theta: Number = 0.02
    sigma: Number = 0.1
    shift: Number = 0.1
    power: Number = 1.1
    lower: int = 50
    inner: int = 25

    needs = ("upper_gradient", "lower_gradient", "inner_gradient", "lower", "inner_lower")
    takes = ("equations", "inequalities")
    asks = (
        ("inner_constraints",),
        ("inner_gradient", "inner_pullback"),
        ("inner_lower", "inner_constraints"),
        ("lower", "constraints"),
        ("upper_gradient", "lower_gradient", "pullback"),
        ("upper_gradient", "lower_gradient", "pullback", "inner_gradient", "inner_pullback"),
    )

    def __post_init__(self) -> None:
        require(self, "auxiliary", self.auxiliary in AUXILIARY, " or ".join(AUXILIARY))
        require_positive(self, *STEPS, "sigma", "shift", none=("beta", "eta"))
        for field in ("mu", "theta", "power"):
            require_numbers(self, field, lambda v: (v >= 0) & v.isfinite(), "a finite number >= 0")
        require_whole(self, "lower", "inner")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> BVFSMState:
        check(self, problem)
        x, y = start_of(observation)
        refuse(self, problem, bounded=True, batches=True)
        names = ("alpha", "mu", "theta", "sigma", "shift", "power")
        settings = {name: rate(self, name, x) for name in names}
        zero = torch.zeros_like(x[:, :1])
        told = dict.fromkeys(("upper", "lower", "jacobian"), zero)
        for field in ("beta", "eta"):
            settings[field] = rate(self, field, x, lambda: zero)
            if getattr(self, field) is None:
                told = {name: constants(self, field, problem, name).to(x) for name in told}
        if not constrained(problem):
            told["jacobian"] = zero
        none = torch.zeros_like(problem.geometry.equal, dtype=x.dtype)
        return BVFSMState(
            z=y,
            last=y,
            least=zero,
            weight=zero,
            bend=zero,
            multipliers=none,
            inner_multipliers=none,
            k=zero,
            told=told,
            **beginning(keys, problem, settings, x, y),
        )

    def stages(self) -> Sequence[Stage]:
        return self._violated, self._lower, self._value, self._look, self._inner, self._outer

    def begin(self, state: BVFSMState) -> BVFSMState:
        return replace(state, stage=torch.full_like(state.stage, self._first(state)))

    def places(self, state: BVFSMState) -> dict[str, Tensor]:
        places = {"x": state.x, "y": state.y, "inner": state.z}
        if state.multipliers.shape[1]:
            places |= {"multipliers": state.multipliers, "inner_multipliers": state.inner_multipliers}
        return places

    # The stages --------------------------------------------------------------------------------

    def _violated(self, state: BVFSMState, seen: Observation) -> BVFSMState:
        """Q' at (x, z)."""
        if not state.multipliers.shape[1]:  # a stage that no row is in
            return state
        pressed = self._penalty(state, seen["inner_constraints"])[1]
        return replace(state, inner_multipliers=pressed, stage=torch.full_like(state.stage, LOWER))

    def _lower(self, state: BVFSMState, seen: Observation) -> BVFSMState:
        """One step of z."""
        mu, stiff = self._now(state, "mu"), self._stiff(state)
        by_z = self._by_y(state, seen, "inner_gradient", "inner_pullback") + mu * state.z
        z = state.z - _step(state.settings["eta"], state.told["lower"] + mu + stiff) * by_z
        j, first = state.j + 1, self._first(state)
        done = j >= self.lower
        return replace(state, z=z, j=torch.where(done, 0, j), stage=to_stage(done, VALUE, first))

    def _value(self, state: BVFSMState, seen: Observation) -> BVFSMState:
        """v(x)."""
        least = seen["inner_lower"] + self._now(state, "mu") / 2 * state.z.square().sum(-1, True)
        pressed = state.inner_multipliers
        if pressed.shape[1]:
            value, pressed = self._penalty(state, seen["inner_constraints"])
            least = least + value
        stage = torch.full_like(state.stage, LOOK)
        return replace(state, least=least, inner_multipliers=pressed, stage=stage)

    def _look(self, state: BVFSMState, seen: Observation) -> BVFSMState:
        """P', P'' and Q' at (x, y); where P is infinite, another y."""
        excess, sigma = seen["lower"] - state.least, self._now(state, "sigma")
        inside = torch.ones_like(state.finished)
        if self.auxiliary == "penalty":
            weight, bend = excess.clamp_min(0) / sigma, 1 / sigma
        else:
            room = self._now(state, "shift") - excess
            inside = (room > 0).squeeze(-1)
            room = torch.where(room > 0, room, 1.0)
            weight, bend = sigma / room, sigma / room.square()
        pressed = state.multipliers
        if pressed.shape[1]:
            pressed = self._penalty(state, seen["constraints"])[1]
        # half of the last step; before there is one, z, where f - v is not positive
        back = in_rows(state.j > 0, (state.y + state.last) / 2, state.z)
        ahead = to_stage(state.j >= self.inner, OUTER, INNER)
        return replace(
            state,
            y=in_rows(inside, state.y, back),
            weight=weight,
            bend=bend,
            multipliers=pressed,
            stage=torch.where(inside, ahead, LOOK),
        )

    def _inner(self, state: BVFSMState, seen: Observation) -> BVFSMState:
        """One step of y."""
        theta, told = self._now(state, "theta"), state.told
        below = split(seen["lower_gradient"], state.x)[1]
        above = self._by_y(state, seen, "upper_gradient", "pullback")
        by_y = above + state.weight * below + theta * state.y
        curvature = told["upper"] + theta + state.weight * told["lower"] + self._stiff(state)
        curvature = curvature + state.bend * below.square().sum(-1, True)
        y = state.y - _step(state.settings["beta"], curvature) * by_y
        return replace(state, y=y, last=state.y, j=state.j + 1, stage=torch.full_like(state.stage, LOOK))

    def _outer(self, state: BVFSMState, seen: Observation) -> BVFSMState:
        """The step of x."""
        slope = seen["upper_gradient"] + state.weight * (seen["lower_gradient"] - seen["inner_gradient"])
        if state.multipliers.shape[1]:
            slope = slope + seen["pullback"] - state.weight * seen["inner_pullback"]
        x = state.x - state.settings["alpha"] * split(slope, state.x)[0]
        return replace(
            state,
            x=state.geometry.upper(x),
            k=state.k + 1,
            j=torch.zeros_like(state.j),
            stage=torch.full_like(state.stage, self._first(state)),
            work=state.work.bill({"projections": 1}),
        )

    # What they share ---------------------------------------------------------------------------

    def _first(self, state: BVFSMState) -> int:
        return VIOLATED if state.multipliers.shape[1] else LOWER

    def _now(self, state: BVFSMState, name: str) -> Float[Tensor, "B 1"]:
        return state.settings[name] * (state.k + 1) ** -state.settings["power"]

    def _stiff(self, state: BVFSMState) -> Float[Tensor, "B 1"]:
        return state.told["jacobian"].square() / self._now(state, "sigma")

    def _penalty(self, state: BVFSMState, g: Float[Tensor, "B p"]) -> tuple[Tensor, Tensor]:
        """Q and its derivative."""
        sigma = self._now(state, "sigma")
        violated = torch.where(state.geometry.equal, g, g.clamp_min(0))
        return violated.square().sum(-1, True) / (2 * sigma), violated / sigma

    def _by_y(self, state: BVFSMState, seen: Observation, gradient: str, pullback: str) -> Tensor:
        """The gradient by y of a function with Q."""
        whole = seen[gradient] + seen[pullback] if state.multipliers.shape[1] else seen[gradient]
        return split(whole, state.x)[1]


def _step(given: Float[Tensor, "B 1"], curvature: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
    """The step that is given, or 1 over the curvature where it is 0."""
    tiny = torch.finfo(curvature.dtype).tiny
    return torch.where(given > 0, given, 1 / curvature.clamp_min(tiny))
