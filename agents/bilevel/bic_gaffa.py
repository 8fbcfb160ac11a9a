"""BiC-GAFFA: one loop without Hessians or a projection onto C (Yao, Yin, Zeng, Zhang 2024).

The lower problem is replaced by the doubly regularised gap function

    G(x, y, z) = max over lambda >= 0 of f(x, y) + lambda' g(x, y) - |lambda - z|^2 / (2 gamma2)
                 - min over theta in Y of f(x, theta) + z' g(x, theta) + |theta - y|^2 / (2 gamma1) >= 0,

and what is descended is F / c_k + G over X x Y x Z, Z = [0, r]^p (of an equality [-r, r]), with c_k = min(c
(k + 1)^power, cap). The max is lambda = max(z + gamma2 g(x, y), 0), of an equality without the max. One
iteration asks twice:

1. at (x, y) g, and at (x, theta, z): theta <- P_Y(theta - eta (grad_y f(x, theta) + J_y' z + (theta - y) /
   gamma1));
2. at (x, y, lambda) and (x, theta, z) with the new theta and lambda:
   x <- P_X(x - alpha (grad_x F / c_k + grad_x f(x, y) + J_x(x, y)' lambda - grad_x f(x, theta) - J_x(x,
   theta)' z)),
   y <- P_Y(y - alpha (grad_y F / c_k + grad_y f(x, y) + J_y(x, y)' lambda - (y - theta) / gamma1)),
   z <- P_Z(z - beta (-(z - lambda) / gamma2 - g(x, theta))), all at the old x, y, z.

It is billed 7 derivatives an iteration, and two values of g; without constraints 4. While c_k is capped the
limit is a stationary point of F / cap + G, which violates the lower problem by O(1 / cap) unless F and the
lower problem agree there.
"""

from __future__ import annotations

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
from ._levels import SaddleState, advanced, check, rate, require_numbers, split, start_of

Number = float | Float[Tensor, "B"]


@struct
class BiCGaffaState(SaddleState):
    """Where an instance stands.

    ``outer`` says whether the next answer is that of an iteration's second query. Projections are onto X and
    onto Y.

    Attributes:
        wanted: what the last query wanted, ``(B, kinds)``.
        finished: rows whose budget did not pay it, ``(B,)``.
    """

    wanted: Int64[Tensor, "B kinds"]
    finished: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class BiCGaffa(Agent):
    """BiC-GAFFA as its authors' scripts run it. Each number may be a tensor ``(B,)`` with one an instance.

    Args:
        alpha: the step of x and y, >= 0; the scripts', as those of beta and eta.
        beta: that of z.
        eta: that of theta.
        gamma1: the proximal parameter of theta; 10 in the script for the toy problem.
        gamma2: that of lambda.
        c: the penalty's first value.
        power: its power of k + 1, >= 0; 0.2 to 0.3 in the scripts. The theory wants less than 1/2.
        cap: the penalty's largest value, which may be infinite; the script for the SVM has none.
        r: the bound of the multipliers' box in place of the problem's; infinite for none.
        z0: the first z, in each entry.
    """

    alpha: Number = 1e-3
    beta: Number = 1e-3
    eta: Number = 1e-2
    gamma1: Number = 1.0
    gamma2: Number = 1.0
    c: Number = 1.0
    power: Number = 0.3
    cap: Number = 10.0
    r: Number | None = None
    z0: Number = 0.0

    needs = ("upper_gradient", "lower_gradient", "inner_gradient")
    takes = ("equations", "inequalities", "minibatches")

    def __post_init__(self) -> None:
        for field in ("alpha", "beta", "eta", "power"):
            require_numbers(self, field, lambda v: (v >= 0) & v.isfinite(), "a finite number >= 0")
        for field in ("gamma1", "gamma2", "c"):
            require_numbers(self, field, lambda v: (v > 0) & v.isfinite(), "a finite number > 0")
        require_numbers(self, "cap", lambda v: v > 0, "a number > 0")
        require_numbers(self, "r", lambda v: v > 0, "a number > 0", none=True)
        require_numbers(self, "z0", torch.isfinite, "a finite number")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> BiCGaffaState:
        offer, (x, y) = check(self, problem), start_of(observation)
        geometry, numbers = (
            problem.geometry,
            ("alpha", "beta", "eta", "gamma1", "gamma2", "c", "power", "cap"),
        )
        settings = {name: rate(self, name, x) for name in numbers}
        settings["r"] = geometry.bound.unsqueeze(-1) if self.r is None else rate(self, "r", x)
        x, y = geometry.upper(x), geometry.lower(y)
        z = torch.zeros_like(geometry.equal, dtype=x.dtype) + rate(self, "z0", x)
        none = torch.zeros_like(keys, dtype=torch.bool)
        return BiCGaffaState(
            x=x,
            y=y,
            theta=y,
            lam=z,
            z=geometry.multipliers(z, settings["r"]),
            k=torch.zeros_like(settings["c"]),
            outer=none,
            settings=settings,
            geometry=geometry,
            work=Ledger.empty(("projections",), len(keys), keys.device).bill({"projections": 2}),
            wanted=torch.zeros_like(observation["answered"]),
            finished=none,
            offer=offer,
        )

    def act(self, state: BiCGaffaState, observation: Observation) -> tuple[Action, BiCGaffaState]:
        after, paid = advanced(state, observation, state.outer, self._inner, self._descend)
        action = self._ask(after)
        return action, replace(after, wanted=action[WANT], finished=state.finished | ~paid)

    def _inner(self, state: BiCGaffaState, seen: Observation) -> BiCGaffaState:
        """The step of theta, and lambda; both at the old z."""
        y, theta, lam, at = state.y, state.theta, state.lam, state.settings
        slope = split(seen["inner_gradient"], state.x)[1]
        if lam.shape[1]:
            slope = slope + split(seen["inner_pullback"], state.x)[1]
            lam = state.geometry.multipliers(state.z + at["gamma2"] * seen["constraints"], torch.inf)
        theta = state.geometry.lower(theta - at["eta"] * (slope + (theta - y) / at["gamma1"]))
        return replace(
            state, theta=theta, lam=lam, outer=~state.outer, work=state.work.bill({"projections": 1})
        )

    def _descend(self, state: BiCGaffaState, seen: Observation) -> BiCGaffaState:
        """The step on the penalised objective."""
        x, y, z, at = state.x, state.y, state.z, state.settings
        weight = 1 / (at["c"] * (state.k + 1) ** at["power"]).minimum(at["cap"])
        by_x, by_y = split(weight * seen["upper_gradient"] + seen["lower_gradient"], x)
        by_x = by_x - split(seen["inner_gradient"], x)[0]
        if z.shape[1]:
            held, pulled = split(seen["pullback"], x), split(seen["inner_pullback"], x)
            by_x, by_y = by_x + held[0] - pulled[0], by_y + held[1]
            by_z = (state.lam - z) / at["gamma2"] - seen["inner_constraints"]
            z = state.geometry.multipliers(z - at["beta"] * by_z, at["r"])
        by_y = by_y - (y - state.theta) / at["gamma1"]
        return replace(
            state,
            x=state.geometry.upper(x - at["alpha"] * by_x),
            y=state.geometry.lower(y - at["alpha"] * by_y),
            z=z,
            k=state.k + 1,
            outer=~state.outer,
            work=state.work.bill({"projections": 2}),
        )

    def _ask(self, state: BiCGaffaState) -> dict[str, Tensor]:
        second = state.outer
        wanted = {
            "inner_gradient": torch.ones_like(second),
            "upper_gradient": second,
            "lower_gradient": second,
        }
        places = {"x": state.x, "y": state.y, "inner": state.theta}
        if state.z.shape[1]:
            wanted |= {"inner_pullback": torch.ones_like(second), "constraints": ~second}
            wanted |= dict.fromkeys(("pullback", "inner_constraints"), second)
            places |= {"multipliers": state.lam, "inner_multipliers": state.z}
        return state.offer.query(wanted, **places)
