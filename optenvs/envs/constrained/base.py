"""Constrained programs: min f(x) subject to c_E(x) = 0, c_I(x) <= 0 and bounds, asked by a menu.

* State: the instance (the data of f and c, the bounds), the last answers.
* Query: a point ``x``, ``multipliers``, a ``vector`` and a ``covector``, and which kinds are wanted there.
* Answer: ``value``, ``constraints`` (equations first), ``gradient``, ``jacobian``, ``objective_hessian``, the
  ``hessian`` of the Lagrangian f + multipliers' c, and the products ``jacobian_product`` (J vector),
  ``adjoint_product`` (J' covector) and ``hessian_product`` (of the Lagrangian's, by the vector).
* Bill: one of its own name a kind. Metrics are exact and unbilled.

The recommendation is the point asked, with its multipliers. The merit is the residual of
:mod:`.residual` there: at the multipliers of the query, if it gives some, else at least-squares ones, with
which it is a metric in any case. A row gives multipliers where they are not all zero, where a kind that
depends on them is answered, and in the query of ``reset``, which asks at ``problem.lambda0``.

A new program is a subclass with :meth:`Constrained.draw`, :meth:`Constrained.objective` and
:meth:`Constrained.constraints`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.linear import times
from optenvs.core.menu import Judgement, Kind, MenuEnv, Query
from optenvs.core.oracles import hessian, hvp, jacobian, value_and_gradient, vjp
from optenvs.core.oracles import jvp as forward
from optenvs.core.random import Keys
from optenvs.core.struct import rows

from .given import shaped, vector
from .parts import MEANINGS, Draw, Hidden, Problem
from .residual import Residual, infeasibility, least_squares, residual

DENSE = ("gradient", "jacobian", "objective_hessian", "hessian")
KINDS = ("value", "constraints", *DENSE, "jacobian_product", "adjoint_product", "hessian_product")
_NAN = ("diverge", "infeasible")


@dataclass(frozen=True, eq=False, kw_only=True)
class Constrained(MenuEnv):
    """A program with constraints.

    Args:
        start: a starting point in place of the instance's own, n numbers; within the bounds, where all
            instances have the same.
        start_multipliers: the multipliers to begin with in place of the instance's own, m numbers.
        nan: what it means that f, c or a first derivative is no finite number at a finite point:
            ``infeasible``, a hidden constraint: value and constraints are infinite, the other answers zeros,
            the point earns no credit, and the episode goes on, so that a line search can come back;
            ``diverge``, the episode's end.
        tolerance: the residual at which an episode is solved.
        budget: a number counts values.
        reward, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    start: Any = None
    start_multipliers: Any = None
    nan: str = "infeasible"
    tolerance: float | None = 1e-4
    dtype: str = "float64"

    begins_itself: ClassVar[bool] = False
    """Whether :meth:`draw` begins at ``start``, or about it; else it is put in the place of what is drawn."""
    painter = "optenvs.envs.constrained.picture:program"
    meanings: ClassVar[dict[str, str]] = MEANINGS

    # What an author writes ---------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """The number n of variables."""

    @property
    @abc.abstractmethod
    def equality_count(self) -> int:
        """The number of equations."""

    @property
    def inequality_count(self) -> int:
        """The number of inequalities."""
        return 0

    @property
    def known_bounds(self) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]] | None:
        """The bounds, where all instances have the same; a given start must lie within them."""
        return None

    @property
    def dense(self) -> bool:
        """Whether Jacobian and Hessians are on the menu; else their products alone are."""
        return True

    @abc.abstractmethod
    def draw(self, keys: Keys) -> Draw:
        """One program a key."""

    @abc.abstractmethod
    def objective(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """The function f; rows do not see each other."""

    @abc.abstractmethod
    def constraints(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
        """The functions c, equations first."""

    # What is inherited, by autograd; a closed form is several times faster ------------------------

    def objective_slope(
        self, data: Any, x: Float[Tensor, "B n"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B n"]]:
        """The objective and its gradient."""
        return value_and_gradient(lambda y: shaped("objective", self.objective(data, y), x.shape[:1]), x)

    def constraint_slopes(
        self, data: Any, x: Float[Tensor, "B n"]
    ) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B m n"]]:
        """The constraints and their Jacobian."""
        shape = (len(x), self.count)
        return jacobian(lambda y: shaped("constraints", self.constraints(data, y), shape), x)

    def lagrangian_hessian(
        self, data: Any, x: Float[Tensor, "B n"], multipliers: Float[Tensor, "B m"] | None
    ) -> Float[Tensor, "B n n"]:
        """The Hessian of the Lagrangian; without multipliers that of the objective. It is symmetric."""
        return hessian(lambda y: self._lagrangian(data, y, multipliers), x)[2]

    def jacobian_product(
        self, data: Any, x: Float[Tensor, "B n"], vector: Float[Tensor, "B n"]
    ) -> Float[Tensor, "B m"]:
        """J vector, where nothing is dense."""
        return forward(lambda y: self.constraints(data, y), x, vector)[1]

    def adjoint_product(
        self, data: Any, x: Float[Tensor, "B n"], covector: Float[Tensor, "B m"]
    ) -> Float[Tensor, "B n"]:
        """J' covector, where nothing is dense."""
        return vjp(lambda y: self.constraints(data, y), x, covector)[1]

    def hessian_product(
        self,
        data: Any,
        x: Float[Tensor, "B n"],
        multipliers: Float[Tensor, "B m"],
        vector: Float[Tensor, "B n"],
    ) -> Float[Tensor, "B n"]:
        """The product of the Lagrangian's Hessian with the vector."""
        return hvp(lambda y: self._lagrangian(data, y, multipliers), x, vector)[2]

    def best_multipliers(self, state: State, x: Tensor, seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Least-squares multipliers ``(B, m)``, and whether LICQ fails, bool ``(B,)``.

        What is not dense has a way of its own.

        Args:
            state: the episodes.
            x: the points, ``(B, n)``.
            seen: ``value``, ``gradient``, ``constraints``, and ``jacobian`` where it is dense.
        """
        return least_squares(state.problem, x, seen["gradient"], seen["constraints"], seen["jacobian"])

    def measure(self, data: Any, x: Float[Tensor, "B n"]) -> dict[str, Tensor]:
        """More metrics of a point, ``(B,)`` each."""
        return {}

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        if self.nan not in _NAN:
            raise ValueError(f"nan: expected one of {', '.join(_NAN)}, got {self.nan!r}")
        super().__post_init__()
        _ = self._begin  # what does not fit is an error now, not at the first reset

    @property
    def first(self) -> tuple[str, ...]:  # type: ignore[override]
        """What ``reset`` asks: nothing of second order, and no product with vectors of zeros."""
        return ("value", "constraints", "gradient", "jacobian")[: 4 if self.dense else 3]

    @property
    def count(self) -> int:
        """The number m of constraints."""
        return self.equality_count + self.inequality_count

    def _given(self, name: str, size: int) -> Float[Tensor, "n"] | None:
        """The numbers of a keyword, of which ``size`` are expected."""
        value = getattr(self, name)
        return None if value is None else vector(name, value, size).to(self.torch_device, self.torch_dtype)

    @cached_property
    def _begin(self) -> tuple[Tensor | None, Tensor | None]:
        start, bounds = self._given("start", self.size), self.known_bounds
        if start is not None and bounds is not None:
            lower, upper = (end.to(start) for end in bounds)
            for place in torch.nonzero((start < lower) | (start > upper)).flatten().tolist():
                between = f"{float(lower[place])} to {float(upper[place])}"
                raise ValueError(f"start: {float(start[place])} at {place} lies outside the bounds {between}")
        return start, self._given("start_multipliers", self.count)

    def places(self) -> dict[str, Any]:
        n, m = self.size, self.count
        return {"x": (n,), "multipliers": (m,), "vector": (n,), "covector": (m,)}

    def menu(self) -> dict[str, Kind]:
        n, m, x = self.size, self.count, ("x",)

        def seen(name: str) -> Any:
            return lambda state, query: self._look(state, query)[name]

        def masked(answer: Any) -> Any:
            return lambda s, q: self._shown(s, q, answer(s.hidden.data, q["x"], q))

        kinds = {
            "value": Kind((1,), seen("value"), at=x),
            "constraints": Kind((m,), seen("constraints"), at=x),
            "gradient": Kind((n,), seen("gradient"), at=x, slope_of="value"),
            "jacobian": Kind((m, n), seen("jacobian"), at=x, slope_of="constraints"),
            "objective_hessian": Kind(
                (n, n),
                masked(lambda data, x, query: self.lagrangian_hessian(data, x, None)),
                at=x,
                slope_of="gradient",
                dear=True,
            ),
            "hessian": Kind(
                (n, n),
                masked(lambda data, x, query: self._hessian(data, query)),
                at=("x", "multipliers"),
                dear=True,
            ),
            "jacobian_product": Kind(
                (m,),
                lambda s, q: self._shown(s, q, self._along(s, q, q["vector"])),
                at=("x", "vector"),
                slope_of="constraints",
                times="vector",
            ),
            "adjoint_product": Kind(
                (n,),
                lambda s, q: self._shown(s, q, self._across(s, q, q["covector"])),
                at=("x", "covector"),
            ),
            "hessian_product": Kind(
                (n,),
                masked(lambda data, x, query: self._turned(data, query)),
                at=("x", "multipliers", "vector"),
                dear=True,
            ),
        }
        return kinds if self.dense else {n: kind for n, kind in kinds.items() if n not in DENSE[1:]}

    def sample(self, keys: Keys) -> Instance:
        draw = self.draw(keys)
        start, multipliers = draw.start, draw.multipliers
        if multipliers is None:
            multipliers = start.new_zeros(len(keys), self.count)
        if self._begin[0] is not None and not self.begins_itself:
            start = self._begin[0].expand_as(start)
        if self._begin[1] is not None:
            multipliers = self._begin[1].expand_as(multipliers)
        problem = Problem(
            lower=torch.full_like(start, -torch.inf) if draw.lower is None else draw.lower,
            upper=torch.full_like(start, torch.inf) if draw.upper is None else draw.upper,
            lambda0=multipliers,
            bounded=draw.lower is not None or draw.upper is not None,
            equalities=self.equality_count,
            menu=self.card.offer,
        )
        return Instance(
            problem=problem,
            hidden=Hidden(data=draw.data, optimum=draw.optimum, lowest=draw.lowest, notes=draw.notes),
            start=self.card.start(x=start, multipliers=multipliers),
            floor=torch.zeros_like(start[:, 0]),
        )

    def judge(self, state: State, query: Query) -> Judgement:
        x, hidden, seen = query["x"], state.hidden, self._first(state, query)
        best, singular = self.best_multipliers(state, x, seen)
        feasibility = infeasibility(state.problem, x, seen["constraints"])
        least = self._residual(state, query, best, feasibility)
        own = self._residual(state, query, query["multipliers"], feasibility)
        given = (query["multipliers"] != 0).any(-1) | (state.k == 0)
        for kind in ("hessian", "hessian_product"):
            given = given | query.paid[kind] if kind in query.paid else given
        parts = {name: torch.where(given, getattr(own, name), part) for name, part in least._asdict().items()}
        total, value = least.total, seen["value"]
        merit, bad = torch.where(given, own.total, total), self._bad(state, query)
        merit = torch.where(bad, torch.inf if self.nan == "infeasible" else torch.nan, merit)
        metrics = {"kkt": merit, "least_squares_kkt": total, **parts, "value": value}
        metrics["singular"] = singular.to(x.dtype)
        if hidden.lowest is not None:
            metrics["gap"] = value - hidden.lowest
        if hidden.optimum is not None:
            metrics["distance"] = torch.linalg.vector_norm(x - hidden.optimum, dim=-1)
        metrics |= dict(hidden.notes or {}) | self.measure(hidden.data, x)
        solved = None if self.tolerance is None else merit <= self.tolerance
        return Judgement(merit, metrics, solved, infeasible=None if self.nan == "diverge" else bad)

    def recordable(self, state: State) -> dict[str, Tensor]:
        """The point asked, under the name that it has in other families."""
        return {"point": state.observation["x"]}

    # How it is computed, once a query -----------------------------------------------------------

    def _first(self, state: State, query: Query) -> dict[str, Tensor]:
        """Value, gradient and constraints as they are, and the Jacobian where it is dense."""

        def make() -> dict[str, Tensor]:
            data, x = state.hidden.data, query["x"]
            value, gradient = self.objective_slope(data, x)
            seen = {"value": value, "gradient": gradient}
            if self.dense:
                seen["constraints"], seen["jacobian"] = self.constraint_slopes(data, x)
            else:
                seen["constraints"] = self.constraints(data, x)
            batch, m = len(x), self.count
            shapes = {"value": (batch,), "gradient": x.shape, "constraints": (batch, m)}
            shapes["jacobian"] = (batch, m, self.size)
            return {name: shaped(name, part, shapes[name]) for name, part in seen.items()}

        def picked() -> dict[str, Tensor]:
            assert query.source is not None
            all_rows, everywhere, which = query.source  # which are judged in any case
            return rows(self._first(all_rows, everywhere), which)

        return query.once("first", make if query.source is None else picked)

    def _bad(self, state: State, query: Query) -> Bool[Tensor, "B"]:
        """Where something is no finite number."""

        def make() -> Tensor:
            seen = [part.reshape(len(part), -1) for part in self._first(state, query).values()]
            return torch.cat(seen, -1).mul(0).sum(-1).isnan()  # times 0, a number is 0 and the rest NaN

        return query.once("bad", make)

    def _look(self, state: State, query: Query) -> dict[str, Tensor]:
        """The same as they are shown."""
        if self.nan == "diverge":
            return self._first(state, query)

        def make() -> dict[str, Tensor]:
            bad = self._bad(state, query)
            shown = {}
            for name, part in self._first(state, query).items():
                there = bad.reshape(-1, *[1] * (part.ndim - 1))
                shown[name] = torch.where(there, torch.inf if name in ("value", "constraints") else 0.0, part)
            return shown

        return query.once("shown", make)

    def _shown(self, state: State, query: Query, answer: Tensor) -> Tensor:
        if self.nan == "diverge":
            return answer
        return torch.where(self._bad(state, query).reshape(-1, *[1] * (answer.ndim - 1)), 0.0, answer)

    def _lagrangian(self, data: Any, x: Tensor, multipliers: Tensor | None) -> Tensor:
        value = self.objective(data, x)
        return value if multipliers is None else value + (multipliers * self.constraints(data, x)).sum(-1)

    def _hessian(self, data: Any, query: Query) -> Tensor:
        make = lambda: self.lagrangian_hessian(data, query["x"], query["multipliers"])  # noqa: E731
        return query.once("hessian", make)

    def _turned(self, data: Any, query: Query) -> Tensor:
        x, multipliers, vector = query["x"], query["multipliers"], query["vector"]
        if "hessian" in query.kinds:  # it is there
            return times(self._hessian(data, query), vector)
        return self.hessian_product(data, x, multipliers, vector)

    def _along(self, state: State, query: Query, vector: Tensor) -> Tensor:
        if self.dense:
            return times(self._first(state, query)["jacobian"], vector)
        return self.jacobian_product(state.hidden.data, query["x"], vector)

    def _across(self, state: State, query: Query, covector: Tensor) -> Tensor:
        if self.dense:
            return (covector.unsqueeze(-2) @ self._first(state, query)["jacobian"]).squeeze(-2)
        return self.adjoint_product(state.hidden.data, query["x"], covector)

    def _residual(self, state: State, query: Query, multipliers: Tensor, feasibility: Tensor) -> Residual:
        seen, x = self._first(state, query), query["x"]
        slope = seen["gradient"] + self._across(state, query, multipliers)
        return residual(state.problem, x, slope, seen["constraints"], multipliers, feasibility)
