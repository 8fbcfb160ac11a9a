"""F2SA: two levels by first derivatives alone (Kwon, Kwon, Wright, Nowak, ICML 2023, algorithm 1).

The lower problem is a constraint f(x, y) - min f(x, .) <= 0 with a multiplier lambda that grows, and two
lower variables are descended side by side, y of F + lambda f and z of f. Iteration k is

    T times:  z <- z - gamma_k grad_y f(x, z),   y <- y - alpha_k (grad_y F(x, y) + lambda_k grad_y f(x, y))
    x <- P_X(x - xi alpha_k (grad_x F(x, y) + lambda_k (grad_x f(x, y) - grad_x f(x, z))))

with gamma_k ~ (k + k0)^-c, alpha_k ~ (k + k0)^-a and lambda_k = gamma_k / (2 alpha_k), as the analysis wants
it: a = 1/3, c = 0 where answers are exact, 3/5 and 2/5 where those of F are noisy, 5/7 and 4/7 where all are.
At a constant lambda x ends O(1 / lambda) away. It bills 3 (T + 1) gradients an iteration. What is recommended
is (x, y).
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
from ._levels import check, constants, rate, refuse, require_numbers, split, start_of
from ._stages import Stage, Staged, StagedState, beginning, require_positive, require_whole, to_stage

INNER, OUTER = 1, 2
Number = float | Float[Tensor, "B"]


@struct
class F2SAState(StagedState):
    """Where an instance stands, beside what all such agents remember.

    Attributes:
        z: ``(B, m)``.
        k: iterations, ``(B, 1)``.
    """

    z: Float[Tensor, "B m"]
    k: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class F2SA(Staged):
    """F2SA, for problems without lower constraints. Each number may be a tensor ``(B,)``.

    Args:
        gamma: gamma_0, the first step of z; ``None`` for 1 over the curvature of f that the problem tells.
        multiplier: lambda_0; ``None`` for the ratio of the curvatures of F and f that it tells, 1 at least.
            The first step of y is gamma_0 / (2 lambda_0).
        xi: the step of x over that of y.
        a, c: the powers; a = c keeps lambda, and c > a, with which it would fall to 0 and leave
            x to F alone, is refused.
        k0: what delays both.
        inner: T.
    """

    gamma: Number | None = None
    multiplier: Number | None = None
    xi: Number = 1.0
    a: Number = 1 / 3
    c: Number = 0.0
    k0: Number = 1.0
    inner: int = 10

    needs = ("upper_gradient", "lower_gradient", "inner_gradient")
    takes = ("minibatches",)
    asks = (needs, needs)

    def __post_init__(self) -> None:
        require_positive(self, "gamma", "multiplier", "xi", "k0", none=("gamma", "multiplier"))
        for field in ("a", "c"):
            require_numbers(self, field, lambda v: (v >= 0) & v.isfinite(), "a finite number >= 0")
        falls = torch.as_tensor(self.c) > torch.as_tensor(self.a)
        require(self, "c", not bool(falls.any()), f"at most a, {self.a!r}: else the multiplier falls to 0")
        require_whole(self, "inner")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> F2SAState:
        check(self, problem)
        x, y = start_of(observation)
        refuse(self, problem, many=True, constraints=True, bounded=True)

        def multiplier() -> Tensor:
            above, below = constants(self, "multiplier", problem, "upper", "lower")
            return (above / below).clamp_min(1)

        settings = {name: rate(self, name, x) for name in ("xi", "a", "c", "k0")}
        settings["gamma"] = rate(self, "gamma", x, lambda: 1 / constants(self, "gamma", problem, "lower"))
        settings["multiplier"] = rate(self, "multiplier", x, multiplier)
        return F2SAState(
            z=y,
            k=torch.zeros_like(x[:, :1]),
            **beginning(keys, problem, settings, x, y),
        )

    def stages(self) -> Sequence[Stage]:
        return self._below, self._above

    def places(self, state: F2SAState) -> dict[str, Tensor]:
        return {"x": state.x, "y": state.y, "inner": state.z}

    def _numbers(self, state: F2SAState) -> tuple[Tensor, Tensor, Tensor]:
        """gamma_k, lambda_k and alpha_k."""
        at = state.settings
        time = (state.k + at["k0"]) / at["k0"]
        gamma, multiplier = at["gamma"] * time ** -at["c"], at["multiplier"] * time ** (at["a"] - at["c"])
        return gamma, multiplier, gamma / (2 * multiplier)

    def _below(self, state: F2SAState, seen: Observation) -> F2SAState:
        """One step of y and z."""
        gamma, multiplier, alpha = self._numbers(state)
        by_y = split(seen["upper_gradient"] + multiplier * seen["lower_gradient"], state.x)[1]
        by_z, j = split(seen["inner_gradient"], state.x)[1], state.j + 1
        stage = to_stage(j >= self.inner, OUTER, state.stage)
        return replace(state, y=state.y - alpha * by_y, z=state.z - gamma * by_z, j=j, stage=stage)

    def _above(self, state: F2SAState, seen: Observation) -> F2SAState:
        """The step of x."""
        _, multiplier, alpha = self._numbers(state)
        slope = seen["upper_gradient"] + multiplier * (seen["lower_gradient"] - seen["inner_gradient"])
        x = state.x - state.settings["xi"] * alpha * split(slope, state.x)[0]
        return replace(
            state,
            x=state.geometry.upper(x),
            k=state.k + 1,
            j=torch.zeros_like(state.j),
            stage=torch.full_like(state.stage, INNER),
            work=state.work.bill({"projections": 1}),
        )
