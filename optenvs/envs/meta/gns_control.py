"""Control of the radius gamma of gradient-regularised Newton steps: the action is gamma.

The method of Semenov, Jaggi, Doikov 2025 (arXiv 2506.13710), one trial an action, in the norms of B::

    lambda = |g|_* / (gamma + epsilon),     h = -(H + lambda B)^-1 g
    accepted where f(x) - f(x + h) >= |g+|_*^2 / (8 lambda),     g+ the gradient at x + h;     else x stays

* State: the instance (that of a landscape, with B), the accepted point with value and gradient there, and the
  last action.
* Query: a number a in [-1, 1]: log2 of gamma is ``low + (a + 1) / 2 * (high - low)``.
* Answer: features of the trial, see :attr:`GnsControl.feature_names`. No point, value or gradient.
* Bill: a trial, which is one linear system, with a value and a gradient; and a Hessian, where the trial is
  the first one from its point.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import only_part
from optenvs.core.inner import refuse_unused
from optenvs.core.menu import Query
from optenvs.core.random import Keys
from optenvs.core.spaces import box
from optenvs.core.struct import select, static, struct
from optenvs.envs.landscapes.base import Landscape
from optenvs.envs.landscapes.curvature.log_sum_exp import LogSumExp
from optenvs.envs.landscapes.parts import Hidden

FEATURES = ("gradient", "progress", "growth", "ratio", "alignment", "accepted", "action", "time")
_DECADES = 4.0  # logarithms are divided by this, so that four decades are one unit
_MOST = 4.0  # where the ratios are cut off


@struct
class Ends:
    """What an agent may know: the ends of log2 of gamma, which the actions -1 and 1 mean."""

    low: float = static()
    high: float = static()
    start: Float[Tensor, "B 1"]
    """The action that means gamma = 1, or the end that is nearer, where the paper begins."""


@struct
class Stand:
    """Where an episode stands.

    Attributes:
        function: the landscape's own.
        metric, root: B and its Cholesky factor, ``(B, n, n)``; ``None`` for the Euclidean norm.
        point, gradient: the accepted ones, ``(B, n)``.
        value: there, ``(B,)``.
        norm, first: the gradient's dual norm there and at the start, ``(B, 1)``.
        fresh: whether nothing has been tried from the point, ``(B,)``.
    """

    function: Hidden
    metric: Float[Tensor, "B n n"] | None
    root: Float[Tensor, "B n n"] | None
    point: Float[Tensor, "B n"]
    gradient: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    norm: Float[Tensor, "B 1"]
    first: Float[Tensor, "B 1"]
    fresh: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False, kw_only=True)
class GnsControl(OptimizationEnv):
    """Regularised Newton steps whose radius gamma is the action; a rejected trial moves nothing.

    Merit, metrics and reward are of the accepted point. The adaptive search of the paper doubles gamma after
    an accepted trial and halves it after a rejected one.

    Args:
        landscape: the function: a landscape, or in ``optenvs.make`` an id, whose keywords (``hessian``,
            ``dim``) may then stand beside these. Its oracle, budget, reward, tolerance, device and dtype are
            those of this environment; it has neither noise nor bounds.
        low, high: the ends of log2 of gamma.
        epsilon: what is added to gamma, > 0 or 0.
        budget: as everywhere; a number counts trials, the query of ``reset`` as one.
        tolerance: the gap at which an episode is solved.
    """

    landscape: Landscape = dataclasses.field(
        default_factory=lambda: LogSumExp(), metadata={"environment": True}
    )
    low: float = -10.0
    high: float = 20.0
    epsilon: float = 1e-8
    budget: int | dict[str, int] | None = 100
    tolerance: float | None = 1e-8
    dtype: str = "float64"

    painter = "optenvs.envs.meta.picture:trials"
    meanings: ClassVar = {
        "action": "where log2 of the radius gamma lies between its ends",
        "features": "size of the gradient, its change since the start and by the last move, how the last "
        "trial went, the last action, the time",
        "value": "the objective at the accepted point",
        "accepted": "1 where the last trial was accepted",
        "gamma": "the radius of the last trial",
        "norm": "the dual norm of the gradient at the accepted point",
    }

    def __post_init__(self) -> None:
        if not isinstance(self.landscape, Landscape):
            raise TypeError(
                f"landscape: expected a Landscape, got {self.landscape!r}; optenvs.make takes an id"
            )
        for name in ("noise", "bounds"):
            if getattr(self.landscape, name):
                raise ValueError(
                    f"landscape: expected one without {name}, got {name}={getattr(self.landscape, name)!r}"
                )
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low, high: expected low < high, got {self.low!r}, {self.high!r}")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(f"epsilon: expected a number >= 0, got {self.epsilon!r}")
        refuse_unused("landscape", self.landscape, self, {"oracle": "hessian"})
        _ = self.function
        super().__post_init__()

    @cached_property
    def function(self) -> Landscape:
        """The landscape on this device, in this precision, asked for Hessians."""
        made = self.landscape.replace(
            device=self.device,
            dtype=self.dtype,
            tolerance=self.tolerance,
            oracle="hessian",
            budget=None,
            reward="improvement",
        )
        assert isinstance(made, Landscape)
        return made

    @property
    def vectorizable(self) -> bool:
        return self.function.vectorizable

    @property
    def bounded_below(self) -> bool:
        return self.function.bounded_below

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("trial",)

    @property
    def fixed_cost(self) -> bool:
        return False

    @property
    def bill(self) -> dict[str, int]:
        return {"trial": 1, "value": 1, "gradient": 1, "hessian": 1}

    @property
    def first_bill(self) -> dict[str, int]:
        return {"trial": 1, "value": 1, "gradient": 1}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What the entries of the observation's ``features`` are.

        ``gradient``: log10 of its dual norm at the accepted point, ``progress`` that since the start,
        ``growth`` its change by the last trial, all in units of four decades; ``ratio``: the decrease of the
        last trial over that which is needed, 8 lambda (f - f+) / |g+|_*^2; ``alignment``:
        2 lambda <g+, -h> / |g+|_*^2, at least 1 where gamma is small enough; both within [-4, 4], and 0
        before the first trial and where no system was solved; ``accepted``: 0 or 1; ``action``: the last one;
        ``time``: the share of the budget used.
        """
        return FEATURES

    def action_fields(self) -> spaces.Box:
        return box((1,), self.dtype, -1.0, 1.0)

    def observation_fields(self) -> dict[str, spaces.Space]:
        return {"features": box((len(FEATURES),), self.dtype)}

    def radius(self, action: Float[Tensor, "B 1"]) -> Float[Tensor, "B 1"]:
        """The gamma that an action means."""
        return torch.exp2(self.low + (action + 1) / 2 * (self.high - self.low))

    def sample(self, keys: Keys) -> Instance:
        inner = self.function.sample(keys)
        assert isinstance(inner.start, dict)  # of the menu
        point, metric = inner.start["point"], inner.problem.metric
        root = None if metric is None else torch.linalg.cholesky_ex(metric).L
        value, gradient, _ = self._ask(inner.hidden, point, "gradient")
        norm = _dual(gradient, root)
        start = min(max(0.0, self.low), self.high)
        action = torch.full_like(norm, 2 * (start - self.low) / (self.high - self.low) - 1)
        return Instance(
            problem=Ends(low=self.low, high=self.high, start=action),
            hidden=Stand(
                function=inner.hidden,
                metric=metric,
                root=root,
                point=point,
                gradient=gradient,
                value=value,
                norm=norm,
                first=norm,
                fresh=torch.ones_like(keys, dtype=torch.bool),
            ),
            start=action,
            floor=inner.floor,
        )

    def _ask(self, hidden: Hidden, x: Tensor, *kinds: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """The value, the gradient, and the Hessian where it is among the kinds."""
        query = Query({"point": x, "vector": x})
        query.kinds = frozenset(("value", *kinds))
        value, found = self.function.found_at(hidden, query)
        return value, found["gradient"], found.get("hessian")

    def answer(self, state: State, action: Action) -> Answer:
        action = only_part(self.name, action)
        before: Stand = state.hidden
        tried = state.k > 0  # the query of reset tries nothing
        gamma = self.radius(action)
        after, ratio, alignment, accepted = self._try(before, gamma, tried)
        metrics, solved = self.function.measured_at(after.function, after.point, after.value)
        calls = dict.fromkeys(self.bill, torch.ones_like(state.k))
        calls["hessian"] = (tried & before.fresh).long()
        size = _log10(after.norm)
        spent = self.spent(state.calls.bill(calls))
        features = torch.cat(
            (
                size,
                size - _log10(after.first),
                size - _log10(before.norm),
                ratio.clamp(-_MOST, _MOST),
                alignment.clamp(-_MOST, _MOST),
                accepted.to(size.dtype).unsqueeze(-1),
                action,
                spent,
            ),
            -1,
        )
        told = {
            "accepted": accepted.to(size.dtype),
            "gamma": gamma.squeeze(-1),
            "norm": after.norm.squeeze(-1),
        }
        return Answer(
            observation={"features": features},
            merit=after.value,
            metrics=metrics | told,
            solved=solved,
            hidden=after,
            calls=calls,
            ended=(after.norm == 0).squeeze(-1),  # nothing can be tried where the gradient is 0
        )

    def _try(
        self, at: Stand, gamma: Float[Tensor, "B 1"], tried: Bool[Tensor, "B"]
    ) -> tuple[Stand, Float[Tensor, "B 1"], Float[Tensor, "B 1"], Bool[Tensor, "B"]]:
        """Where the trial leads, its two ratios, and whether it was accepted."""
        _, _, bent = self._ask(at.function, at.point, "gradient", "hessian")
        assert bent is not None
        damping = at.norm / (gamma + self.epsilon)
        eye = torch.eye(at.point.shape[-1], dtype=gamma.dtype, device=gamma.device)
        whole = bent + damping.unsqueeze(-1) * (eye if at.metric is None else at.metric)
        root, wrong = torch.linalg.cholesky_ex(whole)
        solvable = (wrong == 0) & (damping > 0).squeeze(-1) & tried
        root = torch.where(solvable[:, None, None], root, eye)
        step = -torch.cholesky_solve(at.gradient.unsqueeze(-1), root).squeeze(-1)
        step = torch.where(solvable.unsqueeze(-1), step, 0.0)
        point = at.point + step
        value, gradient, _ = self._ask(at.function, point, "gradient")
        norm = _dual(gradient, at.root)
        square = norm * norm
        decrease = (at.value - value).unsqueeze(-1)
        # at a point without a slope every decrease is enough
        scale = damping / torch.where(square > 0, square, torch.finfo(norm.dtype).tiny)
        ratio = 8 * scale * decrease
        alignment = -2 * scale * (gradient * step).sum(-1, keepdim=True)
        enough = (8 * damping * decrease >= square).squeeze(-1)
        accepted = solvable & enough & (value.abs() < torch.inf)
        moved = dataclasses.replace(
            at, point=point, gradient=gradient, value=value, norm=norm, fresh=torch.ones_like(at.fresh)
        )
        stayed = dataclasses.replace(at, fresh=at.fresh & ~tried)
        known = solvable.unsqueeze(-1)
        ratio, alignment = (torch.where(known, x, 0.0).nan_to_num(0.0) for x in (ratio, alignment))
        return select(accepted, moved, stayed), ratio, alignment, accepted

    def recordable(self, state: State) -> dict[str, Tensor]:
        return {"point": state.hidden.point}


def _dual(gradient: Float[Tensor, "B n"], root: Float[Tensor, "B n n"] | None) -> Float[Tensor, "B 1"]:
    """The gradient's norm (g' B^-1 g)^(1/2), by the Cholesky factor of B."""
    if root is not None:
        gradient = torch.linalg.solve_triangular(root, gradient.unsqueeze(-1), upper=False).squeeze(-1)
    return torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)


def _log10(x: Tensor) -> Tensor:
    return torch.log10(x.clamp_min(1e-100 if x.dtype == torch.float64 else 1e-30)) / _DECADES
