"""BLOCC: the value function as a penalty, by two primal-dual loops a step (Jiang, Xiao, et al. 2024).

With v(x) = min over y in Y of f(x, y) subject to g(x, y) <= 0 (or = 0), what is descended over X is

    phi(x) = min over y in Y, g(x, y) <= 0, of F(x, y) + penalty (f(x, y) - v(x)).

Two saddles are followed at x, from where they were left:

    (y_g, mu_g) of f + mu' g,        (y_F, mu_F) of F + penalty f + mu' g,

each by ``rounds`` of ``primal`` steps y <- P_Y(y - tau grad_y L(x, y, mu)) and a dual step mu <- max(mu +
sigma g(x, y), 0), of an equality without the max. Then

    x <- P_X(x - eta (grad_x F(x, y_F) + penalty (grad_x f(x, y_F) - grad_x f(x, y_g))
                      + J_x(x, y_F)' mu_F - penalty J_x(x, y_g)' mu_g)).

A query asks a step of both saddles at once: 5 derivatives (3 without constraints), a dual step none; the step
of x as much as a primal one. y_F is recommended. It leaves the lower problem by O(1 / penalty) where F's pull
on y is not held by active constraints. The theory wants f strongly convex in y; a merely convex f is not
refused, since all that is used of the first saddle is the slope of v, which is the same at all solutions of
many such problems.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.offer import WANT
from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation
from ._levels import (
    advanced,
    check,
    constants,
    constrained,
    rate,
    require_numbers,
    split,
    start_of,
)
from ._stages import StagedState, beginning, require_whole

Number = float | Float[Tensor, "B"]
PRIMAL, DUAL, OUTER = range(3)
"""What a query is for: the steps of y, those of the multipliers, the step of x."""


@struct
class BloccState(StagedState):
    """Where an instance stands, beside what agents in stages remember.

    ``stage`` is one of the module's constants, y is y_F, ``j`` counts the steps of y in this round; work are
    ``projections`` onto X and Y, and ``inner_steps``, of y and of multipliers, of both saddles.

    Attributes:
        mu: mu_F, ``(B, 0)`` without constraints.
        inner, inner_mu: y_g and mu_g.
        rounds: dual steps since x moved, ``(B,)``.
        wanted: what the last query wanted, ``(B, kinds)``.
    """

    mu: Float[Tensor, "B p"]
    inner: Float[Tensor, "B m"]
    inner_mu: Float[Tensor, "B p"]
    rounds: Int64[Tensor, "B"]
    wanted: Int64[Tensor, "B kinds"]


@dataclass(frozen=True, eq=False)
class Blocc(Agent):
    """BLOCC as printed. Each number but the counts may be a tensor ``(B,)`` with one an instance.

    Where a step of the saddles is ``None`` it follows from the constants that the problem tells. With
    curvatures between m and l of the objective by y and the Jacobian's norm j, tau = 1/l and sigma = max(m, l
    / primal) / j^2, with which the steps contract whatever ``primal`` is. For the second saddle l = L_F +
    penalty L_f and m = max(penalty mu_f - L_F, 0).

    Args:
        penalty: that of the lower level, gamma in the paper, > 0; the published script's for an SVM.
        eta: the step of x, >= 0; likewise.
        rounds: dual steps in a step of x, >= 1; likewise.
        primal: steps of y in a dual step, >= 1; likewise. With affine constraints 1 is enough.
        tau: the step of y_g; in the script 1e-3 or 1e-5.
        tau_upper: that of y_F; likewise.
        sigma: the step of mu_g; in the script 1e-4.
        sigma_upper: that of mu_F; likewise.
    """

    penalty: Number = 12.0
    eta: Number = 0.01
    rounds: int = 20
    primal: int = 20
    tau: Number | None = None
    tau_upper: Number | None = None
    sigma: Number | None = None
    sigma_upper: Number | None = None

    needs = ("upper_gradient", "lower_gradient", "inner_gradient")
    takes = ("equations", "inequalities", "minibatches")

    def __post_init__(self) -> None:
        require_numbers(self, "penalty", lambda v: (v > 0) & v.isfinite(), "a finite number > 0")
        for field in ("eta", "tau", "tau_upper", "sigma", "sigma_upper"):
            require_numbers(
                self, field, lambda v: (v >= 0) & v.isfinite(), "a finite number >= 0", none=field != "eta"
            )
        require_whole(self, "rounds", "primal")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> BloccState:
        check(self, problem)
        x, y = start_of(observation)
        y = problem.geometry.lower(y)
        mu = torch.zeros_like(problem.geometry.equal, dtype=x.dtype)
        work = Ledger.empty(("projections", "inner_steps"), len(keys), keys.device)
        begun: dict[str, Any] = beginning(keys, problem, self._settings(problem, x), x, y)
        begun["work"] = work.bill({"projections": 2})
        return BloccState(
            **begun,
            mu=mu,
            inner=y,
            inner_mu=mu,
            rounds=torch.zeros_like(keys),
            wanted=torch.zeros_like(observation["answered"]),
        )

    def _settings(self, problem: Any, x: Float[Tensor, "B n"]) -> dict[str, Float[Tensor, "B 1"]]:
        """The numbers, one a row, with what follows from the problem where nothing is given."""
        penalty = rate(self, "penalty", x)

        def curvatures(field: str) -> tuple[Tensor, Tensor]:
            """The least and the largest of the objective of the saddle that the field is of, by y."""
            F, f, least = constants(self, field, problem, "upper", "lower", "convexity")
            if field.endswith("upper"):
                return (penalty * least - F).clamp_min(0), F + penalty * f
            return least, f

        def tau(field: str) -> Callable[[], Tensor]:
            return lambda: 1 / curvatures(field)[1]

        def sigma(field: str) -> Callable[[], Tensor]:
            def rule() -> Tensor:
                least, most = curvatures(field)
                return (
                    torch.maximum(least, most / self.primal)
                    / constants(self, field, problem, "jacobian") ** 2
                )

            return rule

        found = {"penalty": penalty, "eta": rate(self, "eta", x)}
        found |= {field: rate(self, field, x, tau(field)) for field in ("tau", "tau_upper")}
        if constrained(problem):
            found |= {field: rate(self, field, x, sigma(field)) for field in ("sigma", "sigma_upper")}
        return found

    def act(self, state: BloccState, observation: Observation) -> tuple[Action, BloccState]:
        after, paid = advanced(state, observation, state.stage, self._primal, self._dual, self._outer)
        action = self._ask(after)
        return action, replace(after, wanted=action[WANT], finished=state.finished | ~paid)

    # What is done with an answer ---------------------------------------------------------------

    def _primal(self, state: BloccState, seen: Observation) -> BloccState:
        """A step of y in both saddles."""
        at, x, lower = state.settings, state.x, state.geometry.lower
        above = split(seen["upper_gradient"] + at["penalty"] * seen["lower_gradient"], x)[1]
        below = split(seen["inner_gradient"], x)[1]
        if state.mu.shape[1]:
            above = above + split(seen["pullback"], x)[1]
            below = below + split(seen["inner_pullback"], x)[1]
        j = state.j + 1
        through = j >= self.primal
        after = replace(
            state,
            y=lower(state.y - at["tau_upper"] * above),
            inner=lower(state.inner - at["tau"] * below),
            j=torch.where(through, 0, j),
            work=state.work.bill({"projections": 2, "inner_steps": 2}),
        )
        if state.mu.shape[1]:
            return replace(after, stage=torch.where(through, DUAL, PRIMAL))
        return self._counted(after, through)

    def _dual(self, state: BloccState, seen: Observation) -> BloccState:
        """A step of the multipliers of both."""
        at, multipliers = state.settings, state.geometry.multipliers
        after = replace(
            state,
            mu=multipliers(state.mu + at["sigma_upper"] * seen["constraints"], torch.inf),
            inner_mu=multipliers(state.inner_mu + at["sigma"] * seen["inner_constraints"], torch.inf),
            work=state.work.bill({"inner_steps": 2}),
        )
        return self._counted(after, torch.ones_like(state.finished))

    def _counted(self, state: BloccState, through: Bool[Tensor, "B"]) -> BloccState:
        """With the round counted where it is through."""
        rounds = state.rounds + through.long()
        last = rounds >= self.rounds
        return replace(state, rounds=torch.where(last, 0, rounds), stage=torch.where(last, OUTER, PRIMAL))

    def _outer(self, state: BloccState, seen: Observation) -> BloccState:
        """The step of x."""
        at, x = state.settings, state.x
        slope = seen["upper_gradient"] + at["penalty"] * (seen["lower_gradient"] - seen["inner_gradient"])
        if state.mu.shape[1]:
            slope = slope + seen["pullback"] - at["penalty"] * seen["inner_pullback"]
        return replace(
            state,
            x=state.geometry.upper(x - at["eta"] * split(slope, x)[0]),
            stage=torch.full_like(state.stage, PRIMAL),
            work=state.work.bill({"projections": 1}),
        )

    # What is asked -----------------------------------------------------------------------------

    def _ask(self, state: BloccState) -> dict[str, Tensor]:
        places = {"x": state.x, "y": state.y, "inner": state.inner}
        kinds: tuple[str, ...] = ("upper_gradient", "lower_gradient", "inner_gradient")
        if not state.mu.shape[1]:
            return state.offer.query(dict.fromkeys(kinds, True), **places)
        places |= {"multipliers": state.mu, "inner_multipliers": state.inner_mu}
        dual = state.stage == DUAL
        wanted: dict[str, Tensor] = dict.fromkeys((*kinds, "pullback", "inner_pullback"), ~dual)
        wanted |= dict.fromkeys(("constraints", "inner_constraints"), dual)
        return state.offer.query(wanted, **places)
