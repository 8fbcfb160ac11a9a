"""stocBiO: implicit differentiation by a Neumann series, on mini-batches (Ji, Yang, Liang, ICML 2021).

Algorithms 2 and 3. Each iteration begins below where the last one ended, and

    D times:  y <- y - alpha grad_y f(x, y)
    r = grad_y F(x, y), and Q times  r <- r - eta grad2_yy f(x, y) r;   v = eta (the sum of all Q + 1 of them)
    x <- P_X(x - beta (grad_x F(x, y) - grad2_xy f(x, y) v))

where each answer rests on a mini-batch of its own, as the problem draws them anew at each query: a product
with the Hessian for each term, and another, mixed one at the end. It bills D + 1 gradients and Q + 1
products, of 2 derivatives each. The published batches of the terms grow; those here are the problem's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import replace, struct

from ..core import Observation
from ._levels import check, constants, rate, refuse, split, start_of
from ._stages import Stage, Staged, StagedState, beginning, require_positive, require_whole, to_stage

LOWER, UPPER, TERM, MIXED = 1, 2, 3, 4


@struct
class StocBiOState(StagedState):
    """Where an instance stands, beside what all such agents remember.

    Attributes:
        term, total: r and the sum of them; at the end ``term`` is v, ``(B, m)`` each.
        slope: grad_x F, ``(B, n)``.
    """

    term: Float[Tensor, "B m"]
    total: Float[Tensor, "B m"]
    slope: Float[Tensor, "B n"]


@dataclass(frozen=True, eq=False)
class StocBiO(Staged):
    """stocBiO, for problems without lower constraints. Each number may be a tensor ``(B,)``.

    Args:
        alpha: the step of y; ``None`` for 1 over the curvature of f that the problem tells.
        beta: that of x.
        eta: of the series, which converges below 2 over that curvature; ``None`` as above.
        inner: D.
        terms: Q, of the series after its first.
    """

    alpha: float | Float[Tensor, "B"] | None = None
    beta: float | Float[Tensor, "B"] = 0.1
    eta: float | Float[Tensor, "B"] | None = None
    inner: int = 10
    terms: int = 10

    needs = ("lower_gradient", "upper_gradient", "product")
    takes = ("minibatches",)
    asks = (("lower_gradient",), ("upper_gradient",), ("product",), ("product",))

    def __post_init__(self) -> None:
        require_positive(self, "alpha", "beta", "eta", none=("alpha", "eta"))
        require_whole(self, "inner")
        require_whole(self, "terms", least=0)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> StocBiOState:
        check(self, problem)
        x, y = start_of(observation)
        refuse(self, problem, many=True, constraints=True, bounded=True)
        settings = {"beta": rate(self, "beta", x)}
        for name in ("alpha", "eta"):
            settings[name] = rate(self, name, x, lambda n=name: 1 / constants(self, n, problem, "lower"))
        return StocBiOState(
            term=torch.zeros_like(y),
            total=torch.zeros_like(y),
            slope=torch.zeros_like(x),
            **beginning(keys, problem, settings, x, y),
        )

    def stages(self) -> Sequence[Stage]:
        return self._below, self._above, self._sum, self._step

    def places(self, state: StocBiOState) -> dict[str, Tensor]:
        return {"x": state.x, "y": state.y, "vector": state.term}

    # The stages --------------------------------------------------------------------------------

    def _below(self, state: StocBiOState, seen: Observation) -> StocBiOState:
        """One step of y."""
        by_y, j = split(seen["lower_gradient"], state.x)[1], state.j + 1
        stage = to_stage(j >= self.inner, UPPER, state.stage)
        return replace(state, y=state.y - state.settings["alpha"] * by_y, j=j, stage=stage)

    def _above(self, state: StocBiOState, seen: Observation) -> StocBiOState:
        """The first term of the series."""
        slope, first = split(seen["upper_gradient"], state.x)
        after = replace(state, slope=slope, total=first, j=torch.zeros_like(state.j))
        if not self.terms:
            return self._closed(after, state.stage >= 0, first)
        return replace(after, term=first, stage=torch.full_like(state.stage, TERM))

    def _sum(self, state: StocBiOState, seen: Observation) -> StocBiOState:
        """One more term."""
        term = state.term - state.settings["eta"] * split(seen["product"], state.x)[1]
        j = state.j + 1
        return self._closed(replace(state, total=state.total + term, j=j), j >= self.terms, term)

    def _closed(self, state: StocBiOState, done: Bool[Tensor, "B"], term: Tensor) -> StocBiOState:
        """The vector of the next product: the next term, or where the series is ``done``, v."""
        vector = torch.where(done.unsqueeze(-1), state.settings["eta"] * state.total, term)
        return replace(state, term=vector, stage=to_stage(done, MIXED, TERM))

    def _step(self, state: StocBiOState, seen: Observation) -> StocBiOState:
        """The step of x."""
        slope = state.slope - split(seen["product"], state.x)[0]
        return replace(
            state,
            x=state.geometry.upper(state.x - state.settings["beta"] * slope),
            j=torch.zeros_like(state.j),
            stage=torch.full_like(state.stage, LOWER),
            work=state.work.bill({"projections": 1}),
        )
