"""Two levels: minimise F(x, y) over x in X, where y solves min f(x, y) over y in Y with g(x, y) <= 0 or = 0.

* State: the instance (what F, f, g depend on, the sets X, Y and C, the constants told), the pair (x, y)
  that was recommended last, and what the last query was answered.
* Query: the places ``x`` (n,), ``y`` (m,), a second lower point ``inner`` (m,), ``multipliers`` (p,) at (x,
  y), ``inner_multipliers`` (p,) at (x, inner), ``vector`` (m,), and which kinds are wanted there. Without
  constraints, p = 0, there are no multipliers. The pair (x, y) of the query is the recommendation.
* Answer: of F at (x, y) ``upper`` and ``upper_gradient``; of f at (x, y) ``lower`` and ``lower_gradient``, at
  (x, inner) ``inner_lower`` and ``inner_gradient``; ``constraints`` g and ``pullback`` J' multipliers at
  (x, y), ``inner_constraints`` and ``inner_pullback`` at (x, inner) with ``inner_multipliers``;
  ``product``, the derivative of <the gradient by y of the lower Lagrangian f + multipliers' g at (x, y),
  vector>: the Hessian's product with the vector, and the mixed one; ``inner_product``, the same at (x,
  inner) with ``inner_multipliers``. Gradients, pullbacks and products are by x and y together, (n + m,),
  that by x first. Where the lower problem is solved exactly ``solution``, y*(x) with its multipliers behind
  it (m + p,), and ``hypergradient`` (n,), the gradient of Phi(x) = F(x, y*(x)).
* Bill: 1 of each kind's own name, and ``derivatives``, the unit of a budget: 1 for a gradient, a pullback or
  a hypergradient, 2 for a product. Where a solution is found step by step, its steps, too, in the same unit
  or one of their own: a ``solution`` pays them, and so does a ``hypergradient``, which rests on one; who asks
  both pays twice, as nobody could tell which of them a budget had left out. Projections onto X, Y, C and Z
  are known geometry (``problem.geometry``): agents compute them, and count them as work.

Metrics, exact and unbilled, at (x, y): ``upper_value`` F(x, y); ``infeasibility``, the largest violation of
g; and of the exact lower solution at x, where there is one: ``value`` Phi(x) = F(x, y*(x)), ``distance`` of
y from the set S(x) of solutions, ``lower_gap`` f(x, y) - f(x, y*(x)) (negative only where y is infeasible;
of a user's functions else ``unsolved`` says that y*(x) is no minimum),
``multiplier``, the largest |multiplier|, and ``short``, 1 where r of Z is smaller than that: then the
reformulation with Z is another problem. With the optimum known ``gap`` = Phi(x) - Phi*, else ``residual``,
the length of the projected gradient x - P_X(x - grad Phi(x)).

Merit: max(gap, 0) + distance; without a known optimum residual + distance, which is 0 at stationary points of
Phi with y solved. Where X or Y is not the whole space, ``astray``, how far (x, y) is from X x Y, is a
metric and added to the merit. Where the exact solution costs many steps (:attr:`Bilevel.measures_merit`),
all of that is measured by :meth:`Bilevel.evaluate`, and stands meanwhile. Without an exact solution see
``functions.py``. Where the lower problem at x has no solution that Newton's method finds (``unsolved``: x
admits no y, or the constraints no multipliers) there is no merit: the point earns nothing, and the row goes
on. A row whose F is no number has diverged, and ends.

A family writes ``sizes``, ``draw``, ``upper``, ``lower``, with constraints ``constrain``, and ``solve``
where it can (see ``levels.py``); closed forms (``upper_slope``, ``lower_slope``, ``pull``,
``hypergradient``, ``values``) are several times faster than what is inherited. All are pure, of rows that do
not see each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.measured import with_merit
from optenvs.core.menu import Judgement, Kind, Query
from optenvs.core.offer import Function, Shape
from optenvs.core.random import Keys

from .levels import Levels
from .meanings import MEANINGS
from .parts import Hidden, Own, Problem, Solution


@dataclass(frozen=True, eq=False, kw_only=True)
class Bilevel(Levels):
    """A problem of two levels; see the module for what is asked and answered.

    Args:
        tolerance: the merit at which an episode is solved.
        budget: a number counts ``derivatives``.
        reward, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    tolerance: float | None = 1e-6
    dtype: str = "float64"

    first = ("upper", "lower")
    unit = "derivatives"
    meanings: ClassVar[Mapping[str, str]] = MEANINGS
    painter = "optenvs.envs.bilevel.picture:two_levels"

    # What it gets ------------------------------------------------------------------------------

    @property
    def bounded_below(self) -> bool:
        return self.solvable

    def places(self) -> dict[str, Shape | spaces.Box]:
        n, m, p = self.sizes
        places: dict[str, Shape | spaces.Box] = {"x": (n,), "y": (m,), "inner": (m,)}
        if p:
            places |= {"multipliers": (p,), "inner_multipliers": (p,)}
        return places | {"vector": (m,)}

    def menu(self) -> dict[str, Kind]:
        n, m, p = self.sizes
        here, there, two = ("x", "y"), ("x", "inner"), {"derivatives": 2}

        def slope(answer: Function, at: tuple[str, ...]) -> Kind:
            return Kind((n + m,), answer, at, {"derivatives": 1}, fresh=True)

        kinds = {
            "upper": Kind((1,), lambda s, q: self._upper(s, q)[0], here),
            "upper_gradient": slope(lambda s, q: self._upper(s, q)[1], here),
            "lower": Kind((1,), lambda s, q: self._lower(s, q, "y")[0], here),
            "lower_gradient": slope(lambda s, q: self._lower(s, q, "y")[1], here),
            "inner_lower": Kind((1,), lambda s, q: self._lower(s, q, "inner")[0], there),
            "inner_gradient": slope(lambda s, q: self._lower(s, q, "inner")[1], there),
        }
        if p:
            at, within = (*here, "multipliers"), (*there, "inner_multipliers")
            kinds |= {
                "constraints": Kind((p,), lambda s, q: self._constraints(s, q, "y")[0], here),
                "pullback": slope(lambda s, q: self._constraints(s, q, "y")[1], at),
                "inner_constraints": Kind((p,), lambda s, q: self._constraints(s, q, "inner")[0], there),
                "inner_pullback": slope(lambda s, q: self._constraints(s, q, "inner")[1], within),
            }
        at, within = ((*here, "multipliers"), (*there, "inner_multipliers")) if p else (here, there)
        kinds |= {
            "product": Kind((n + m,), lambda s, q: self._product(s, q, "y"), (*at, "vector"), two, dear=True),
            "inner_product": Kind(
                (n + m,), lambda s, q: self._product(s, q, "inner"), (*within, "vector"), two, dear=True
            ),
        }
        if self.answers_solutions:
            price = dict(self.solution_price() or {})
            more = price | {"derivatives": _one_more(price.get("derivatives", 0))}
            dear = self.measures_merit  # else it is found to be judged, and shared
            kinds["solution"] = Kind((m + p,), self._solution, ("x",), price, dear=dear)
            kinds["hypergradient"] = Kind(
                (n,),
                lambda s, q: self.hypergradient(self._asked(s, q), q["x"]),
                ("x",),
                more,
                dear=dear,
            )
        return kinds

    def sample(self, keys: Keys) -> Instance:
        draw = self.draw(keys)
        problem = Problem(draw.geometry, draw.smoothness, self.card.offer, self.unique, self.stochastic)
        start = self.card.start(x=draw.x, y=draw.y, inner=draw.y)
        floor = torch.zeros_like(draw.x[:, 0]) if self.bounded_below else None
        hidden = Hidden(data=draw.data, best=draw.best)
        return Instance(problem=problem, hidden=hidden, start=start, floor=floor)

    def own(self, state: State) -> Own:
        """What the functions depend on, with all data."""
        return Own(known=state.problem.geometry, data=state.hidden.data)

    def _asked(self, state: State, query: Query) -> Own:
        """The same, with what this query's answers rest on."""
        return query.once("own", lambda: Own(known=state.problem.geometry, data=self.drawn(state)))

    def _upper(self, state: State, query: Query) -> tuple[Tensor, Tensor]:
        own = self._asked(state, query)
        if "upper_gradient" in query.kinds:
            return query.once("upper", lambda: self.upper_slope(own, query["x"], query["y"]))
        value = query.once("upper", lambda: (self.upper(own, query["x"], query["y"]),))[0]
        return value, value

    def _lower(self, state: State, query: Query, place: str) -> tuple[Tensor, Tensor]:
        own, kind = self._asked(state, query), "lower_gradient" if place == "y" else "inner_gradient"
        name = f"lower at {place}"
        if kind == "inner_gradient" and kind in query.kinds and "inner_lower" not in query.kinds:
            slope = self.lower_gradient(own, query["x"], query[place])
            return slope, slope
        if kind in query.kinds:
            return query.once(name, lambda: self.lower_slope(own, query["x"], query[place]))
        value = query.once(name, lambda: (self.lower(own, query["x"], query[place]),))[0]
        return value, value

    def _constraints(self, state: State, query: Query, place: str) -> tuple[Tensor, Tensor]:
        own, prefix = self._asked(state, query), "" if place == "y" else "inner_"
        name, x, y = f"constraints at {place}", query["x"], query[place]
        if f"{prefix}pullback" in query.kinds:
            along = query[f"{prefix}multipliers"]
            return query.once(name, lambda: self.pull(own, x, y, along))
        g = query.once(name, lambda: (self.constrain(own, x, y),))[0]
        return g, g

    def _product(self, state: State, query: Query, place: str) -> Tensor:
        prefix = "" if place == "y" else "inner_"
        along = query[f"{prefix}multipliers"] if self.sizes.p else None
        return self.second(self._asked(state, query), query["x"], query[place], along, query["vector"])

    def _solution(self, state: State, query: Query) -> Tensor:
        found = self.solved(state, query)
        return torch.cat((found.y, found.multipliers), -1)

    def solved(self, state: State, query: Query) -> Solution:
        """The lower solution that answers this query, found once."""
        own = self._asked(state, query)
        return query.once("solution", lambda: self.solve(own, query["x"]))

    # What is judged ----------------------------------------------------------------------------

    def judge(self, state: State, query: Query) -> tuple[Any, ...]:
        own, x, y = self.own(state), query["x"], query["y"]
        metrics = {"upper_value": self._exact(query, "upper", lambda: self.upper(own, x, y))}
        if self.sizes.p:
            g = self._exact(query, "constraints at y", lambda: self.constrain(own, x, y))
            metrics["infeasibility"] = state.problem.geometry.violation(g)
        if self.measures_merit and state.metrics:  # those of the last evaluation stand; reset has none
            merit, measured = state.merit, {name: state.metrics[name] for name in state.metrics}
            metrics = measured | metrics
        else:
            f = self._exact(query, "lower at y", lambda: self.lower(own, x, y))
            solution = self.solved(state, query) if self.answers_solutions and not self.closed else None
            merit, measured = self.measure(own, state.hidden.best, x, y, metrics["upper_value"], f, solution)
            merit, metrics = _of_solved(merit, measured), metrics | measured
        sound = metrics["upper_value"].isfinite()
        if self.measures_merit:  # else the merit says so
            sound = sound & (x.sum(-1) + y.sum(-1)).isfinite()
        solved = merit <= self.tolerance if self.tolerance is not None and self.solvable else None
        merit = torch.where(sound, merit, torch.nan)  # a row whose F is no number has diverged
        lost = metrics.get("unsolved")
        return Judgement(merit, metrics, solved, infeasible=None if lost is None else sound & (lost > 0))

    def _exact(self, query: Query, name: str, compute: Any) -> Tensor:
        """What an answer has computed already, unless it rests on a mini-batch."""
        return compute() if self.stochastic else query.once(name, lambda: (compute(),))[0]

    def measure(
        self,
        own: Own,
        best: Float[Tensor, "B"] | None,
        x: Float[Tensor, "B n"],
        y: Float[Tensor, "B m"],
        F: Float[Tensor, "B"],
        f: Float[Tensor, "B"],
        solution: Solution | None = None,
    ) -> tuple[Float[Tensor, "B"], dict[str, Tensor]]:
        """Merit and the metrics that rest on the exact lower solution."""
        found = self.solve(own, x) if solution is None else solution
        value, least = self.values(own, x, found)
        metrics = {
            "value": value,
            "distance": self.distance(own, x, y, found),
            "lower_gap": f - least,
        }
        if self.sizes.p:
            largest = found.multipliers.abs().amax(-1)
            metrics |= {"multiplier": largest, "short": (largest > own.known.bound).to(largest)}
        if best is not None:
            metrics["gap"] = metrics["value"] - best
            away = metrics["gap"].clamp_min(0)
        else:
            moved = own.known.upper(x - self.hypergradient(own, x))
            away = metrics["residual"] = torch.linalg.vector_norm(x - moved, dim=-1)
        if not own.known.free:
            metrics["astray"] = own.known.astray(x, y)
            away = away + metrics["astray"]
        return away + metrics["distance"], metrics

    def recordable(self, state: State) -> dict[str, Tensor]:
        """The pair as one: ``point``, (x, y)."""
        return {"point": torch.cat((state.observation["x"], state.observation["y"]), -1)}

    def evaluate(self, state: State) -> State:
        if not self.measures_merit:
            return state
        own, x, y = self.own(state), state.observation["x"], state.observation["y"]
        with torch.no_grad():
            F, f = self.upper(own, x, y), self.lower(own, x, y)
            merit, measured = self.measure(own, state.hidden.best, x, y, F, f)
            merit = _of_solved(merit, measured)
        return with_merit(self, state, merit, measured)


def _one_more(price: int | Function) -> int | Function:
    """A price and 1."""
    return (lambda state, query: price(state, query) + 1) if callable(price) else price + 1


def _of_solved(merit: Float[Tensor, "B"], metrics: Mapping[str, Tensor]) -> Float[Tensor, "B"]:
    """The merit, which is infinite where the lower problem has not been solved: it rests on a solution."""
    return torch.where(metrics["unsolved"] > 0, torch.inf, merit) if "unsolved" in metrics else merit
