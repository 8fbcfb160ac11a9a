"""AiPOD and E-AiPOD: alternating implicit projected descent under equalities (Xiao, Shen, Yin, Chen 2023).

The lower level is min f(x, y) subject to A y + h(x) = 0, and has one solution. An iteration is S steps below,

    z = y - tau (grad_y f(x, y) - r)
    with probability p:  y <- P(z - (tau / p) r), r <- r + (p / tau) (y - z);   else:  y <- z

with the projection P onto what is feasible at x, and T steps x <- x - zeta h above, with a projection onto X
after them. AiPOD has p = T = 1: projected gradient steps, since r then cancels. E-AiPOD skips projections, as
ProxSkip does (Mishchenko et al. 2022), which corrects what that changes by r. With J = grad_x h, the
pseudo-inverse A^+ of A and V an orthonormal basis of its null space, the hypergradient is

    h = grad_x F + (J' A^{+}' grad2_yy f - grad2_xy f) w - J' A^{+}' grad_y F,
    w = V (V' grad2_yy f V)^-1 V' grad_y F.

The published comparison by the authors of LV-HBA leaves the last term out (``full=False``), and descends
something else where h(x) is not constant. w is found by conjugate gradients on that null space, a product
with the Hessian each, of which the mixed products come along. It bills S gradients of f, and T times one of
F and 2 derivatives a product. Projections onto both levels' sets are on its own ledger. (arXiv 2211.07096)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, uniform
from optenvs.core.struct import replace, struct

from ..core import Observation, require
from ._levels import check, constants, constrained, rate, refuse, require_numbers, split, start_of
from ._stages import Stage, Staged, StagedState, beginning, in_rows, require_positive, require_whole, to_stage

LOWER, UPPER, SOLVE = 1, 2, 3
Number = float | Float[Tensor, "B"]


@struct
class Solve:
    """Conjugate gradients on the null space of A.

    Attributes:
        residual, direction: ``(B, m)`` each.
        pressed: the product with w so far, by x and y, ``(B, n + m)``.
        aim: the square of the residual at which it ends, ``(B,)``.
    """

    residual: Float[Tensor, "B m"]
    direction: Float[Tensor, "B m"]
    pressed: Float[Tensor, "B nm"]
    aim: Float[Tensor, "B"]


@struct
class AiPODState(StagedState):
    """Where an instance stands, beside what all such agents remember.

    Attributes:
        correction: r, ``(B, m)``.
        upper: the gradient of F, ``(B, n + m)``.
        solve: of w.
        by_y, inverse: A and its pseudo-inverse, ``(B, p, m)`` and ``(B, m, p)``.
        above: steps above in this iteration, ``(B,)``.
        count: steps below in all iterations, ``(B,)``.
        key: of the draws, ``(B,)``.
    """

    correction: Float[Tensor, "B m"]
    upper: Float[Tensor, "B nm"]
    solve: Solve
    by_y: Float[Tensor, "B p m"]
    inverse: Float[Tensor, "B m p"]
    above: Int64[Tensor, "B"]
    count: Int64[Tensor, "B"]
    key: Keys


@dataclass(frozen=True, eq=False)
class AiPOD(Staged):
    """AiPOD, for lower levels with equalities that are affine in y, or without constraints.

    Each number may be a tensor ``(B,)``. The published settings for the strongly convex toy are tau = 1e-3,
    zeta = 0.02, S = 5, T = 2, p = 1.

    Args:
        tau: the step of y; ``None`` for 1 over the curvature of f that the problem tells.
        zeta: that of x.
        p: the probability of a projection below, in (0, 1].
        inner: S.
        outer: T.
        full: whether the hypergradient has its last term.
        products: the most of one solve.
        accuracy: at which a solve ends, relative.
    """

    tau: Number | None = None
    zeta: Number = 0.02
    p: Number = 1.0
    inner: int = 5
    outer: int = 1
    full: bool = True
    products: int = 20
    accuracy: float = 1e-8

    needs = ("lower_gradient", "upper_gradient", "product")
    takes = ("equations",)
    asks = (("lower_gradient",), ("upper_gradient",), ("product",))

    def __post_init__(self) -> None:
        require_positive(self, "tau", "zeta", none=("tau",))
        require_numbers(self, "p", lambda v: (v > 0) & (v <= 1), "a number in (0, 1]")
        require_whole(self, "inner", "outer", "products")
        require(self, "full", isinstance(self.full, bool), "True or False")
        require(self, "accuracy", 0 <= self.accuracy < 1, "a number in [0, 1)")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AiPODState:
        check(self, problem)
        x, y = start_of(observation)
        refuse(self, problem, many=True, inequalities=True, bounded=True, batches=True)
        check(self, problem, *(("feasible", "jacobian") if constrained(problem) else ("feasible",)))
        geometry = problem.geometry
        x = geometry.upper(x)
        y = geometry.feasible(x, y)
        by_y = y.new_zeros(len(y), 0, y.shape[1])
        if constrained(problem):
            by_y = geometry.jacobian(x, y)[:, :, x.shape[1] :]
        none, both = torch.zeros_like(keys), torch.zeros_like(torch.cat((x, y), -1))
        settings = {name: rate(self, name, x) for name in ("zeta", "p")}
        settings["tau"] = rate(self, "tau", x, lambda: 1 / constants(self, "tau", problem, "lower"))
        zero = torch.zeros_like(y)
        common = beginning(keys, problem, settings, x, y)
        return AiPODState(
            correction=zero,
            upper=both,
            solve=Solve(residual=zero, direction=zero, pressed=both, aim=zero[:, 0]),
            by_y=by_y,
            inverse=torch.linalg.pinv(by_y),
            above=none,
            count=none,
            key=keys,
            **common | {"work": common["work"].bill({"projections": 1})},
        )

    def stages(self) -> Sequence[Stage]:
        return self._below, self._above, self._solved

    def places(self, state: AiPODState) -> dict[str, Tensor]:
        return {"x": state.x, "y": state.y, "vector": state.solve.direction}

    # The stages --------------------------------------------------------------------------------

    def _below(self, state: AiPODState, seen: Observation) -> AiPODState:
        """One step of y."""
        tau, p, r = state.settings["tau"], state.settings["p"], state.correction
        z = state.y - tau * (split(seen["lower_gradient"], state.x)[1] - r)
        drawn = uniform(state.key, "projection", 1, state.count, dtype=z.dtype) < p
        projected = state.geometry.feasible(state.x, z - tau / p * r)
        j = state.j + 1
        return replace(
            state,
            y=torch.where(drawn, projected, z),
            correction=torch.where(drawn, r + p / tau * (projected - z), r),
            j=j,
            count=state.count + 1,
            stage=to_stage(j >= self.inner, UPPER, state.stage),
            work=state.work.bill({"projections": drawn.squeeze(-1).long()}),
        )

    def _above(self, state: AiPODState, seen: Observation) -> AiPODState:
        """The slope of F, and with it the beginning of a solve."""
        slope = seen["upper_gradient"]
        residual = self._along(state, split(slope, state.x)[1])
        size = residual.square().sum(-1)
        begun = Solve(
            residual=residual,
            direction=residual,
            pressed=torch.zeros_like(slope),
            aim=self.accuracy**2 * size,
        )
        after = replace(state, upper=slope, solve=begun, j=torch.zeros_like(state.j))
        return self._stepped(after, size == 0)

    def _solved(self, state: AiPODState, seen: Observation) -> AiPODState:
        """One step of conjugate gradients; where it ends, the step of x."""
        now, product = state.solve, seen["product"]
        turned = self._along(state, split(product, state.x)[1])
        before = now.residual.square().sum(-1, True)
        bent = (now.direction * turned).sum(-1, True)
        step = torch.where(bent > 0, before / torch.where(bent > 0, bent, 1.0), 0.0)
        residual = now.residual - step * turned
        left = residual.square().sum(-1, True)
        after = Solve(
            residual=residual,
            direction=residual + left / torch.where(before > 0, before, 1.0) * now.direction,
            pressed=now.pressed + step * product,
            aim=now.aim,
        )
        j = state.j + 1
        done = (bent <= 0).squeeze(-1) | (left.squeeze(-1) <= now.aim) | (j >= self.products)
        return self._stepped(replace(state, solve=after, j=j), done)

    def _stepped(self, state: AiPODState, done: Bool[Tensor, "B"]) -> AiPODState:
        """A step of x where the solve is ``done``; the others go on with it."""
        by_x, by_y = split(state.upper, state.x)
        mixed, bent = split(state.solve.pressed, state.x)
        slope = by_x - mixed
        if state.by_y.shape[1]:
            own = state.geometry.jacobian(state.x, state.y)[:, :, : state.x.shape[1]]
            forced = _times(state.inverse.mT, bent - by_y if self.full else bent)
            slope = slope + _times(own.mT, forced)
        x, above = state.x - state.settings["zeta"] * slope, state.above + done
        last = done & (above >= self.outer)
        x = in_rows(last, state.geometry.upper(x), x)
        return replace(
            state,
            x=in_rows(done, x, state.x),
            above=torch.where(last, 0, above),
            j=torch.where(done, 0, state.j),
            stage=to_stage(last, LOWER, to_stage(done, UPPER, SOLVE)),
            work=state.work.bill({"projections": last.long()}),
        )

    def _along(self, state: AiPODState, vector: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """What of the vector is in the null space of A."""
        return vector - _times(state.inverse, _times(state.by_y, vector))


@dataclass(frozen=True, eq=False)
class EAiPOD(AiPOD):
    """E-AiPOD: AiPOD that skips projections at both levels. See :class:`AiPOD` for its fields.

    The published comparison has p = 1, so that it skips none below.
    """

    p: Number = 0.5
    outer: int = 2


def _times(matrix: Float[Tensor, "B p n"], vector: Float[Tensor, "B n"]) -> Float[Tensor, "B p"]:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
