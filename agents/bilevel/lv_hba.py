"""LV-HBA: a single loop without Hessians on the proximal Lagrangian value function (Yao et al. 2024).

With proximal centres y and z, Z = [0, r]^p (of an equality [-r, r]) and

    v(x, y, z) = min over theta in Y, max over lambda in Z of
                 f(x, theta) + lambda' g(x, theta) + |theta - y|^2 / (2 gamma1) - |lambda - z|^2 / (2 gamma2)

the problem is min F(x, y) over C x Z subject to f(x, y) - v(x, y, z) <= 0, and what is descended is its
penalised form F / c_k + f - v with c_k = c (k + 1)^power. One iteration asks twice:

1. at (x, y, theta, lambda): a step of descent and ascent on the inner saddle,
   theta <- P_Y(theta - eta (grad_y f(x, theta) + J_y' lambda + (theta - y) / gamma1)),
   lambda <- P_Z(lambda - eta (-g(x, theta) + (lambda - z) / gamma2)), both at the old theta and lambda;
2. at the new theta and lambda and the old x, y, z: with the envelope's gradient of v,
   (x, y) <- P_C((x, y) - alpha (grad F / c_k + grad f(x, y) - (grad_x f(x, theta) + J_x' lambda, (y -
   theta) / gamma1))), z <- P_Z(z - beta (z - lambda) / gamma2).

g is divided by the norm of its Jacobian, which is the same problem with lambda and z in other units:
undivided, a Jacobian of norm j asks for eta of the order of 1/j^2, and alpha has to be smaller still, since
(x, y) may not outrun theta and lambda.

It is billed 6 derivatives an iteration (F once, f three times, the pullback twice) and one value of g;
without constraints 4, and it is then descent on the Moreau envelope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys, uniform
from optenvs.core.struct import replace, struct

from ..core import Agent, Observation, require
from ._levels import (
    SaddleState,
    by_phase,
    check,
    constants,
    constrained,
    rate,
    require_numbers,
    split,
    start_of,
)

INNER = ("y", "ones", "uniform")
Number = float | Float[Tensor, "B"]


@struct
class LVHBAState(SaddleState):
    """Where an instance stands.

    ``outer`` says whether the last query was the second one of its iteration. Multipliers are in the units of
    the scaled constraints; ``settings`` has ``unit``, too, what constraints are divided by, and ``r`` in the
    units of the scaled ones. Projections are onto C, and onto what is feasible at x.
    """


@dataclass(frozen=True, eq=False)
class LVHBA(Agent):
    """LV-HBA as printed. Each number may be a tensor ``(B,)`` with one an instance.

    Where a step size is ``None`` it follows, instance by instance, from the constants that the problem tells:
    with the divided Jacobian's norm j, a = L_f + 1/gamma1, b = 1/gamma2, mu = min(mu_f + 1/gamma1, b) and L =
    (a + b)/2 + sqrt((a - b)^2/4 + j^2), which bounds the norm of the saddle's operator, a step of the saddle
    contracts for eta < 2 mu/L^2; ``eta`` is half of that, ``beta`` = gamma2/2, and ``alpha`` = 1/(2 (L_F/c +
    L_f + 1/gamma1)). So it runs on every problem of two levels whose constants and projection onto C are
    known; how fast is measured in ``examples/bilevel_residual.py``.

    Args:
        alpha: the step of (x, y), >= 0.
        beta: that of z, >= 0; 0 freezes it, as the published SVM scripts do.
        eta: that of theta and lambda, >= 0.
        gamma1: the proximal parameter of theta; scripts that write ``gama1 = 0.1`` mean 10.
        gamma2: that of lambda.
        c: the penalty's first value.
        power: its power of k + 1, >= 0; 0 keeps it constant. The theory wants less than 1/2.
        r: the bound of the multipliers' box in place of the problem's; infinite for none.
        lambda0: the first lambda, in each entry.
        z0: the first z.
        scale: whether the constraints are divided by the norm of their Jacobian, which the problem tells. The
            units of lambda and z are then others, and what gamma2, beta and eta mean: published settings are
            those of constraints that are not, ``False``.
        inner: the first theta: ``y``, ``ones``, or ``uniform`` in [0, 1).
        project_inner: whether theta is also projected onto what is feasible at x, as the script for the
            strongly convex toy does.
    """

    alpha: Number | None = None
    beta: Number | None = None
    eta: Number | None = None
    gamma1: Number = 1.0
    gamma2: Number = 1.0
    c: Number = 1.0
    power: Number = 0.3
    r: Number | None = None
    lambda0: Number = 0.0
    z0: Number = 0.0
    scale: bool = True
    inner: str = "y"
    project_inner: bool = False

    needs = ("upper_gradient", "lower_gradient", "inner_gradient")
    takes = ("equations", "inequalities", "minibatches")

    def __post_init__(self) -> None:
        for field in ("alpha", "beta", "eta", "power"):
            require_numbers(self, field, lambda v: v >= 0, "a number >= 0", none=field != "power")
        for field in ("gamma1", "gamma2", "c"):
            require_numbers(self, field, lambda v: (v > 0) & v.isfinite(), "a number > 0")
        require_numbers(self, "r", lambda v: v > 0, "a number > 0", none=True)
        for field in ("lambda0", "z0"):
            require_numbers(self, field, torch.isfinite, "a finite number")
        require(self, "inner", self.inner in INNER, f"one of {', '.join(INNER)}")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LVHBAState:
        needed = ("joint", "feasible") if self.project_inner else ("joint",)
        offer = check(self, problem, *needed)
        geometry, (x, y) = problem.geometry, start_of(observation)
        x, y = geometry.joint(x, y)
        settings = self._settings(problem, x)
        theta = self._inner(y, keys)
        if self.project_inner:
            theta = geometry.feasible(x, theta)
        none = torch.zeros_like(geometry.equal, dtype=x.dtype)
        projections = {"projections": 1 + self.project_inner}
        return LVHBAState(
            x=x,
            y=y,
            theta=theta,
            lam=none + rate(self, "lambda0", x),
            z=none + rate(self, "z0", x),
            k=torch.zeros_like(settings["c"]),
            outer=torch.ones_like(keys, dtype=torch.bool),  # so that the first query is an iteration's first
            settings=settings,
            geometry=geometry,
            work=Ledger.empty(("projections",), len(keys), keys.device).bill(projections),
            offer=offer,
        )

    def _settings(self, problem: Any, x: Float[Tensor, "B n"]) -> dict[str, Float[Tensor, "B 1"]]:
        """The numbers, one a row, with what follows from the problem where nothing is given."""
        found = {name: rate(self, name, x) for name in ("gamma1", "gamma2", "c", "power")}
        unit = torch.ones_like(found["c"])
        if self.scale and constrained(problem):
            unit = constants(self, "scale", problem, "jacobian", expected="False").to(x)
        r = problem.geometry.bound.unsqueeze(-1) if self.r is None else rate(self, "r", x)
        g1, g2 = found["gamma1"], found["gamma2"]

        def eta() -> Tensor:
            f, least, jacobian = constants(self, "eta", problem, "lower", "convexity", "jacobian")
            a, b, j = f + 1 / g1, 1 / g2, jacobian / unit
            norm = (a + b) / 2 + ((a - b).square() / 4 + j.square()).sqrt()
            return torch.minimum(least + 1 / g1, b) / norm.square()

        def alpha() -> Tensor:
            F, f = constants(self, "alpha", problem, "upper", "lower")
            return 0.5 / (F / found["c"] + f + 1 / g1)

        return found | {
            "alpha": rate(self, "alpha", x, alpha),
            "beta": rate(self, "beta", x, lambda: 0.5 * g2),
            "eta": rate(self, "eta", x, eta),
            "unit": unit,
            "r": r * unit,
        }

    def _inner(self, y: Float[Tensor, "B m"], keys: Keys) -> Float[Tensor, "B m"]:
        if self.inner == "uniform":
            return uniform(keys, "theta", y.shape[1], dtype=y.dtype)
        return y if self.inner == "y" else torch.ones_like(y)

    def act(self, state: LVHBAState, observation: Observation) -> tuple[Action, LVHBAState]:
        return by_phase(
            state.outer,
            lambda: self._ask_outer(self._saddle(state, observation)),
            lambda: self._ask_inner(self._descend(state, observation)),
        )

    # The two halves of an iteration ------------------------------------------------------------

    def _saddle(self, state: LVHBAState, seen: Observation) -> LVHBAState:
        """Descent in theta and ascent in lambda."""
        y, theta, lam, work, at = state.y, state.theta, state.lam, state.work, state.settings
        slope = split(seen["inner_gradient"], state.x)[1]
        if lam.shape[1]:
            slope = slope + split(seen["inner_pullback"], state.x)[1]
            up = (lam - state.z) / at["gamma2"] - seen["inner_constraints"] / at["unit"]
            lam = state.geometry.multipliers(lam - at["eta"] * up, at["r"])
        slope = torch.addcmul(slope, theta - y, 1 / at["gamma1"])
        theta = state.geometry.lower(torch.addcmul(theta, at["eta"], slope, value=-1))
        if self.project_inner:
            theta = state.geometry.feasible(state.x, theta)
            work = work.bill({"projections": 1})
        return replace(state, theta=theta, lam=lam, outer=~state.outer, work=work)

    def _descend(self, state: LVHBAState, seen: Observation) -> LVHBAState:
        """The projected step on the penalised objective; before the first iteration there is none."""
        x, y, z, at, begun = state.x, state.y, state.z, state.settings, (state.k > 0).to(state.x)
        alpha, beta = begun * at["alpha"], begun * at["beta"]
        weight = 1 / (at["c"] * state.k.clamp_min(1) ** at["power"])
        by_x, by_y = split(torch.addcmul(seen["lower_gradient"], weight, seen["upper_gradient"]), x)
        by_x = by_x - split(seen["inner_gradient"], x)[0]
        if z.shape[1]:
            by_x = by_x - split(seen["inner_pullback"], x)[0]
            z = state.geometry.multipliers(z - beta * (z - state.lam) / at["gamma2"], at["r"])
        by_y = torch.addcmul(by_y, state.theta - y, 1 / at["gamma1"])
        x, y = torch.addcmul(x, alpha, by_x, value=-1), torch.addcmul(y, alpha, by_y, value=-1)
        x, y = state.geometry.joint(x, y)
        work = state.work.bill({"projections": begun.squeeze(-1).long()})
        return replace(state, x=x, y=y, z=z, k=state.k + 1, outer=~state.outer, work=work)

    def _ask_inner(self, state: LVHBAState) -> tuple[Action, LVHBAState]:
        return self._ask(state, ("inner_gradient",), ("inner_pullback", "inner_constraints"))

    def _ask_outer(self, state: LVHBAState) -> tuple[Action, LVHBAState]:
        return self._ask(state, ("upper_gradient", "lower_gradient", "inner_gradient"), ("inner_pullback",))

    def _ask(
        self, state: LVHBAState, kinds: tuple[str, ...], with_constraints: tuple[str, ...]
    ) -> tuple[Action, LVHBAState]:
        places = {"x": state.x, "y": state.y, "inner": state.theta}
        if state.lam.shape[1]:
            kinds = (*kinds, *with_constraints)
            places["inner_multipliers"] = state.lam / state.settings["unit"]
        return state.offer.query(dict.fromkeys(kinds, True), **places), state
