"""A user's own two levels, from torch functions of one instance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.evaluations import check_evaluations
from optenvs.core.given import bound_of, check_bound
from optenvs.core.oracles import jacobian
from optenvs.core.random import Keys, integers, normal
from optenvs.core.struct import tree_map

from . import kkt
from .curvature import largest
from .geometry import Affine, Geometry, Given, affine, keep
from .meanings import MEANINGS
from .parts import Draw, Own, Sizes, Smoothness, Solution
from .user_calls import floating, generic
from .user_checks import (
    CONSTANTS,
    LARGEST,
    check_effects,
    check_projections,
    check_samples,
    check_solver,
    check_start,
    count,
    leaves,
    try_functions,
)
from .user_solution import Conditioned

_SOLVED = 1e-5


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelFunctions(Conditioned):
    """Two levels of the user's; :func:`bilevel_from_functions` makes one and says what the fields mean."""

    outer_function: Callable[..., Tensor]
    inner_function: Callable[..., Tensor]
    x: int | tuple[float, ...]
    y: int | tuple[float, ...]
    equality: Callable[..., Tensor] | None = None
    inequality: Callable[..., Tensor] | None = None
    project: Callable[..., Any] | Mapping[str, Callable[..., Any]] | str | None = None
    solution: Callable[..., Any] | None = None
    samples: Mapping[str, Any] | None = None
    batch_size: int | None = None
    solver: str | None = "auto"
    minimum: float | None = None
    smoothness: Mapping[str, float] | None = None
    bound: float | None = None
    evaluation_period: int | tuple[int, ...] | None = 10

    meanings: ClassVar[Mapping[str, str]] = {
        **MEANINGS,
        "unsolved": "1 where no lower solution is known: none found, or one that curves down or that y beats",
        "lower_residual": "the length of y - P(y - grad_y f(x, y)), with P onto what is feasible at x",
    }

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            check_start(name, getattr(self, name))
        check_bound(self.bound)
        check_evaluations(self.evaluation_period)
        check_samples(self.samples, self.batch_size)
        check_projections(self.project, *self.counts)
        check_solver(self.solver, self.solution, "lower" in self._projections)
        check_effects(self)
        if self.smoothness is not None and set(self.smoothness) != set(CONSTANTS):
            raise ValueError(f"smoothness: expected {', '.join(CONSTANTS)} by name, got {self.smoothness!r}")
        try_functions(self, self._named, self.counts[0], self.project, self.solution)
        super().__post_init__()

    # What there is -----------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> Sizes:  # type: ignore[override]
        n, m = (v if isinstance(v, int) else len(v) for v in (self.x, self.y))
        return Sizes(n, m, sum(self.counts))

    @cached_property
    def counts(self) -> tuple[int, int]:
        """The numbers of equalities and of inequalities."""
        x, y = (generic(v if isinstance(v, int) else len(v), 1)[0] for v in (self.x, self.y))
        x, y = (v.to(self.torch_device, self.torch_dtype) for v in (x, y))
        return count("equality", self.equality, x, y), count("inequality", self.inequality, x, y)

    @property
    def solvable(self) -> bool:
        return self.solution is not None or self.by_newton

    @property
    def by_newton(self) -> bool:
        """Whether lower solutions come from Newton's method."""
        if self.solution is not None or self.solver is None:
            return False
        _, m, p = self.sizes
        kept = self.solver == "newton" or m + p <= LARGEST
        return kept and "lower" not in self._projections

    @property
    def stochastic(self) -> bool:
        return self.batch_size is not None

    @property
    def measures_merit(self) -> bool:
        return self.by_newton

    @property
    def differentiable(self) -> bool:
        return not self.by_newton

    @property
    def optimum_known(self) -> bool:
        return self.minimum is not None

    @property
    def evaluations(self) -> Any:
        return self.evaluation_period if self.by_newton else None

    def solution_price(self) -> Mapping[str, Any] | None:
        if not self.by_newton:
            return None
        return {"newton": lambda state, query: self.solved(state, query).steps}

    # Functions ---------------------------------------------------------------------------------

    @cached_property
    def _samples(self) -> dict[str, Any]:
        """The samples of each level on the device, in the dtype."""

        def placed(leaf: Any) -> Tensor:
            leaf = torch.as_tensor(leaf)
            return leaf.to(self.torch_device, self.torch_dtype if leaf.is_floating_point() else None)

        return {level: tree_map(placed, part) for level, part in (self.samples or {}).items()}

    def drawn(self, state: State) -> Any:
        """The mini-batches of this query, by level: drawn with replacement, anew at each query."""
        if self.batch_size is None:
            return None
        found = {}
        for level, part in self._samples.items():
            count_ = len(leaves(part)[0])
            index = integers(state.key, f"{level} samples", self.batch_size, count_, state.k)
            found[level] = tree_map(functools.partial(_take, index), part)
        return found

    def _call(self, level: str, own: Own, x: Tensor, y: Tensor) -> Tensor:
        function = self.outer_function if level == "upper" else self.inner_function
        if level not in self._samples:
            value = torch.func.vmap(function)(x, y)
        elif own.data is None:
            value = torch.func.vmap(function, in_dims=(0, 0, None))(x, y, self._samples[level])
        else:
            value = torch.func.vmap(function)(x, y, own.data[level])
        if value.shape != (len(x),):
            raise ValueError(f"{level}: expected one number, got shape {tuple(value.shape[1:])}")
        return floating(level, value, x)

    def upper(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return self._call("upper", own, x, y)

    def lower(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B"]:
        return self._call("lower", own, x, y)

    def constrain(self, own: Own, x: Tensor, y: Tensor) -> Float[Tensor, "B p"]:
        if not self._constraints_given:
            return y[:, :0]
        return torch.cat([self._constrain(name, x, y) for name in self._constraints_given], -1)

    @property
    def _constraints_given(self) -> dict[str, Callable[..., Tensor]]:
        given = {"equality": self.equality, "inequality": self.inequality}
        return {name: function for name, function in given.items() if function is not None}

    def _constrain(self, name: str, x: Tensor, y: Tensor) -> Float[Tensor, "B _"]:
        return floating(name, torch.func.vmap(self._constraints_given[name])(x, y), x)

    @property
    def _named(self) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """Every function of batches, by the name of its keyword, with all samples."""
        own = Own(known=None, data=None)
        functions = {level: functools.partial(self._call, level, own) for level in ("upper", "lower")}
        return functions | {n: functools.partial(self._constrain, n) for n in self._constraints_given}

    # Lower solutions ---------------------------------------------------------------------------

    def solve(self, own: Own, x: Tensor) -> Solution:
        if self.solution is not None:
            return self._given_solution(x)
        both, steps = kkt.solve(self.residual(own), x.detach(), self._first(x))
        m = self.sizes.m
        return Solution(both[:, :m], both[:, m:], steps)

    def _given_solution(self, x: Tensor) -> Solution:
        assert self.solution is not None
        found = torch.func.vmap(self.solution)(x)
        y, multipliers = found if isinstance(found, tuple) else (found, x.new_zeros(len(x), self.sizes.p))
        return Solution(y, multipliers)

    def _first(self, x: Tensor) -> Float[Tensor, "B mp"]:
        """Where Newton's method begins: the given y or 0, so that a solution depends on x alone."""
        _, m, p = self.sizes
        y = x.new_zeros(m) if isinstance(self.y, int) else x.new_tensor(self.y)
        return torch.cat((y, x.new_zeros(p))).expand(len(x), -1)

    def residual(self, own: Own) -> kkt.Residual:
        equal, m = self._equal(1), self.sizes.m

        def slope(x: Tensor, y: Tensor) -> Tensor:
            return torch.func.grad(lambda v: self.lower(own, x, v).sum())(y)

        return kkt.conditions(slope, lambda x, y: self.constrain(own, x, y), equal, m)

    def curved(self, own: Own, x: Tensor, both: Tensor, level: Float[Tensor, "B"]) -> Bool[Tensor, "B"]:
        g = self.constrain(own, x, both[:, : self.sizes.m])
        return kkt.falls(self.residual(own), x, both, g, self._equal(len(x)), level)

    def _beaten(
        self, own: Own, x: Tensor, y: Tensor, found: Solution, gap: Float[Tensor, "B"], size: Tensor
    ) -> Bool[Tensor, "B"]:
        """Where y is feasible, and lower than what is called the lower solution."""
        known: Geometry = own.known
        off = torch.linalg.vector_norm(y - known.lower(y), dim=-1)
        slack = torch.zeros_like(gap)
        if self.sizes.p:
            g = self.constrain(own, x, y)
            off, over = off + known.violation(g), torch.where(known.equal, g.abs(), g.clamp_min(0))
            slack = (found.multipliers.abs() * over).sum(-1)  # what the violation may gain, to first order
        feasible = off <= _SOLVED * (1 + torch.linalg.vector_norm(y, dim=-1))
        return feasible & (gap + slack < -_SOLVED * (1 + size.abs()))

    def hypergradient(self, own: Own, x: Tensor) -> Float[Tensor, "B n"]:
        if not self.by_newton:
            return super().hypergradient(own, x)
        found = self.solve(own, x)
        both = torch.cat((found.y, found.multipliers), -1)
        return kkt.hypergradient(
            self.residual(own), lambda u, v: self.upper(own, u, v), x, both, self.sizes.m
        )

    def measure(
        self,
        own: Own,
        best: Tensor | None,
        x: Tensor,
        y: Tensor,
        F: Tensor,
        f: Tensor,
        solution: Solution | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Without lower solutions: F + the lower residual + the violation, which is bounded by nothing."""
        if self.solvable:
            found = self.solve(own, x) if solution is None else solution
            merit, metrics = super().measure(own, best, x, y, F, f, found)
            lost = self._beaten(own, x, y, found, metrics["lower_gap"], f)
            if self.by_newton:
                both = torch.cat((found.y, found.multipliers), -1)
                left = torch.linalg.vector_norm(self.residual(own)(x, both), dim=-1)
                small = _SOLVED * (1 + torch.linalg.vector_norm(both, dim=-1))
                lost = lost | ~(left <= small) | self.curved(own, x, both, small)
            metrics["unsolved"] = lost.to(merit)
            return merit, metrics
        geometry, n = own.known, self.sizes.n
        violation = geometry.violation(self.constrain(own, x, y))
        merit, metrics = F + violation, {}
        if "feasible" in geometry.has:
            moved = geometry.feasible(x, y - self.lower_slope(own, x, y)[1][:, n:])
            metrics["lower_residual"] = torch.linalg.vector_norm(y - moved, dim=-1)
            merit = merit + metrics["lower_residual"]
        if not geometry.free:
            metrics["astray"] = geometry.astray(x, y)
            merit = merit + metrics["astray"]
        return merit, metrics

    # Instances ---------------------------------------------------------------------------------

    def _equal(self, batch: int) -> Tensor:
        equalities, others = self.counts
        flags = [True] * equalities + [False] * others
        row = torch.tensor(flags, dtype=torch.bool, device=self.torch_device)
        return row.expand(batch, equalities + others)

    @cached_property
    def _projections(self) -> dict[str, Callable[..., Any]]:
        """The projections that were given, by name."""
        if self.project is None or isinstance(self.project, str):
            return {}
        if isinstance(self.project, Mapping):
            return dict(self.project)
        whole, (n, m, p) = self.project, self.sizes
        if p:
            return {"joint": whole}
        return {  # of a product of sets the parts do not see each other
            "joint": whole,
            "upper": lambda x: whole(x, x.new_zeros(m))[0],
            "lower": lambda y: whole(y.new_zeros(n), y)[1],
            "feasible": lambda x, y: whole(x, y)[1],
        }

    def _geometry(self, x: Tensor) -> Geometry:
        bound, equal = bound_of(self.bound, x), self._equal(len(x))
        if self.project == "affine":
            return self._affine(x, bound)
        if not self._projections:
            return Geometry(equal=equal, bound=bound)
        own = dict(self._projections)
        if not self.sizes.p:  # C is X times Y
            up, low = own.get("upper", _same), own.get("lower", _same)
            own = {"joint": lambda x, y: (up(x), low(y)), "feasible": lambda x, y: low(y)} | own
        return Given(equal=equal, bound=bound, token=keep(own))

    def _affine(self, x: Tensor, bound: Tensor) -> Affine:
        n, m, _ = self.sizes
        empty = Own(known=None, data=None)
        zero = x.new_zeros(1, n + m)
        g, matrix = jacobian(lambda u: self.constrain(empty, u[:, :n], u[:, n:]), zero)
        spread = (len(x), -1, -1)
        by_x, by_y, right = matrix[:, :, :n].expand(spread), matrix[:, :, n:].expand(spread), -g
        return affine(by_x, by_y, right.expand(len(x), -1), x.new_zeros(len(x), 0, n), bound)

    def draw(self, keys: Keys) -> Draw:
        n, m, _ = self.sizes
        x, y = (self._start(name, size, keys) for name, size in (("x", n), ("y", m)))
        geometry = self._geometry(x)
        if "joint" in geometry.has:
            x, y = geometry.joint(x, y)
        else:
            x = geometry.upper(x)
            y = geometry.feasible(x, y) if "feasible" in geometry.has else geometry.lower(y)
        own = Own(known=geometry, data=None)
        best = None if self.minimum is None else torch.full_like(x[:, 0], self.minimum)
        smoothness = self._told_constants(x) if self.smoothness else self._curvatures(own, x, y)
        return Draw(data=None, geometry=geometry, smoothness=smoothness, x=x, y=y, best=best)

    def _start(self, name: str, size: int, keys: Keys) -> Tensor:
        value = getattr(self, name)
        if isinstance(value, int):
            return normal(keys, name, size, dtype=self.torch_dtype)
        return torch.tensor(value, dtype=self.torch_dtype, device=keys.device).expand(len(keys), size)

    def _told_constants(self, x: Tensor) -> Smoothness:
        assert self.smoothness is not None
        return Smoothness(**{name: torch.full_like(x[:, 0], self.smoothness[name]) for name in CONSTANTS})

    def _curvatures(self, own: Own, x: Tensor, y: Tensor) -> Smoothness:
        """Curvatures at the start, by the power method; convexity is not looked for."""
        n, both = self.sizes.n, torch.cat((x, y), -1)

        def curvature(function: Callable[..., Tensor]) -> Tensor:
            return largest(lambda u: function(own, u[:, :n], u[:, n:]), both)

        norm = torch.ones_like(x[:, 0])
        if self.sizes.p:
            matrix = jacobian(lambda u: self.constrain(own, u[:, :n], u[:, n:]), both)[1]
            norm = torch.linalg.matrix_norm(matrix.nan_to_num(), 2)  # one row's NaN is no other's error
        return Smoothness(curvature(self.upper), curvature(self.lower), torch.zeros_like(norm), norm)


def _take(index: Tensor, leaf: Tensor) -> Tensor:
    """The samples of each row, ``(B, batch_size, ...)``."""
    return leaf[index]


def _same(point: Tensor) -> Tensor:
    return point
