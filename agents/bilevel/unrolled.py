"""The gradient through K steps of lower gradient descent, in reverse mode (Franceschi et al. 2017).

    for k = 0 .. K - 1:  y_{k+1} = y_k - eta grad_y f(x, y_k)
    h = grad_x F(x, y_K),  a = grad_y F(x, y_K)
    for k = K - 1 .. 0:  h <- h - eta grad2_xy f(x, y_k) a,  a <- a - eta grad2_yy f(x, y_k) a
    x <- P_X(x - alpha h)

so that h is the gradient of F(x, y_K(x)) by x (Reverse-HG, algorithm 1 of Franceschi, Donini, Frasconi,
Pontil, ICML 2017; Maclaurin, Duvenaud, Adams 2015). ``back`` steps backwards alone are the truncated form
of Shaban, Cheng, Hatch and Boots (2019). An iteration asks K gradients, one of F, and a product (2
derivatives) a step back. Steps and products are asked at ``inner``, so that what is recommended is x with
the y_K that was found last.
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
from ._levels import check, constants, rate, refuse, split, start_of
from ._stages import Stage, Staged, StagedState, beginning, in_rows, require_positive, require_whole, to_stage

DOWN, TURN, BACK = 1, 2, 3


@struct
class UnrolledState(StagedState):
    """Where an instance stands, beside what all such agents remember.

    Attributes:
        inner: the step now, ``(B, m)``.
        first: y_0, ``(B, m)``.
        path: y_0 .. y_{K-1}, ``(B, K, m)``.
        adjoint, slope: a and h, ``(B, m)`` and ``(B, n)``.
    """

    inner: Float[Tensor, "B m"]
    first: Float[Tensor, "B m"]
    path: Float[Tensor, "B K m"]
    adjoint: Float[Tensor, "B m"]
    slope: Float[Tensor, "B n"]


@dataclass(frozen=True, eq=False)
class Unrolled(Staged):
    """Reverse-mode differentiation of lower gradient descent, for problems without lower constraints.

    Args:
        alpha: the step of x: a number, or a tensor ``(B,)``, as ``eta``.
        eta: that of y; ``None`` for 1 over the curvature of f that the problem tells.
        inner: K.
        back: the steps that are gone back; ``None`` for all K.
        warm: whether y_0 is the last y_K, and not the problem's start each time, as published.
    """

    alpha: float | Float[Tensor, "B"] = 0.1
    eta: float | Float[Tensor, "B"] | None = None
    inner: int = 20
    back: int | None = None
    warm: bool = False

    needs = ("inner_gradient", "upper_gradient", "inner_product")
    asks = (("inner_gradient",), ("upper_gradient",), ("inner_product",))

    def __post_init__(self) -> None:
        require_positive(self, "alpha", "eta", none=("eta",))
        require_whole(self, "inner")
        if self.back is not None:
            require_whole(self, "back")
            require(self, "back", self.back <= self.inner, f"at most inner = {self.inner}")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> UnrolledState:
        check(self, problem)
        x, y = start_of(observation)
        refuse(self, problem, constraints=True, bounded=True, batches=True)
        settings = {
            "alpha": rate(self, "alpha", x),
            "eta": rate(self, "eta", x, lambda: 1 / constants(self, "eta", problem, "lower")),
        }
        return UnrolledState(
            inner=y,
            first=y,
            path=torch.zeros_like(y).unsqueeze(1).repeat(1, self.inner, 1),
            adjoint=torch.zeros_like(y),
            slope=torch.zeros_like(x),
            **beginning(keys, problem, settings, x, y),
        )

    def stages(self) -> Sequence[Stage]:
        return self._down, self._turn, self._back

    def places(self, state: UnrolledState) -> dict[str, Tensor]:
        index = state.j.clamp(0, self.inner - 1).reshape(-1, 1, 1).expand(-1, 1, state.y.shape[1])
        passed = state.path.gather(1, index).squeeze(1)
        inner = in_rows(state.stage == BACK, passed, state.inner)
        return {"x": state.x, "y": state.y, "inner": inner, "vector": state.adjoint}

    # The stages --------------------------------------------------------------------------------

    def _down(self, state: UnrolledState, seen: Observation) -> UnrolledState:
        """One step of y."""
        here = torch.arange(self.inner, device=state.j.device) == state.j.unsqueeze(-1)
        by_y, j = split(seen["inner_gradient"], state.x)[1], state.j + 1
        inner, arrived = state.inner - state.settings["eta"] * by_y, j >= self.inner
        return replace(
            state,
            path=torch.where(here.unsqueeze(-1), state.inner.unsqueeze(1), state.path),
            inner=inner,
            y=in_rows(arrived, inner, state.y),
            j=j,
            stage=to_stage(arrived, TURN, state.stage),
        )

    def _turn(self, state: UnrolledState, seen: Observation) -> UnrolledState:
        """The slope of F at (x, y_K)."""
        slope, adjoint = split(seen["upper_gradient"], state.x)
        stage = torch.full_like(state.stage, BACK)
        return replace(state, slope=slope, adjoint=adjoint, j=state.j - 1, stage=stage)

    def _back(self, state: UnrolledState, seen: Observation) -> UnrolledState:
        """One step back; after the last, the step of x."""
        by_x, by_y = split(seen["inner_product"], state.x)
        eta, j = state.settings["eta"], state.j - 1
        slope = state.slope - eta * by_x
        done = j < self.inner - (self.inner if self.back is None else self.back)
        x = state.geometry.upper(state.x - state.settings["alpha"] * slope)
        return replace(
            state,
            x=in_rows(done, x, state.x),
            inner=in_rows(done, state.y if self.warm else state.first, state.inner),
            slope=slope,
            adjoint=state.adjoint - eta * by_y,
            j=torch.where(done, 0, j),
            stage=to_stage(done, DOWN, state.stage),
            work=state.work.bill({"projections": done.long()}),
        )
