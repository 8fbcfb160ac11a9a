"""The way back: an environment as billed callables, for ``scipy.optimize.minimize`` and its like."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from optenvs.core.env import OptimizationEnv, State
from optenvs.core.errors import BudgetSpent
from optenvs.core.given import numbers
from optenvs.core.offer import ANSWERED, WANT
from optenvs.core.random import keys_from_seed
from optenvs.core.spaces import as_action, check_action
from optenvs.core.struct import Named
from optenvs.core.threads import Threads
from optenvs.solvers.form import MULTIPLIERS, Form, known_of, row_of
from optenvs.solvers.functions import AskedFunctions
from optenvs.solvers.scipy_forms import (
    box,
    check,
    dict_constraints,
    keywords,
    method_of,
    nonlinear_constraint,
)
from optenvs.solvers.solve import SPENT, Solution, solve

from .seeding import instance_keys


class BilledFunction(AskedFunctions):
    """One instance as ``f(x) -> float``, at the same accounting as an agent's queries.

    A solver that asks value and gradient of one point apart is billed one query, as an agent would be. So is
    one that asks a point which rounds to the query before; a warning says so once. A value that is no number
    is returned as it is, and the next point can be asked. There is one bill: copies, and other processes,
    are refused.

    Where a query says what it wants (a menu), each kind is asked, and paid, when it is called for, and is not
    asked again at the point where it was answered last; constraints at no point where they were. Values come
    with constraints, Jacobians, Hessians and products, as far as the problem answers them. Multipliers are
    those of value + multipliers' constraints, of which the first ``f.equalities`` are equations and the
    others satisfied where <= 0.

    Example:
        >>> f = optenvs.as_function(core, seed=0)                          # doctest: +SKIP
        >>> scipy.optimize.minimize(f, f.start, jac=f.gradient)            # doctest: +SKIP
        >>> f.calls["gradient"], f.metrics["gap"]                          # doctest: +SKIP
        >>> scipy.optimize.minimize(x0=f.start, **f.keywords("trust-constr"))   # doctest: +SKIP
        >>> f.minimize("SLSQP").multipliers, f.metrics["kkt"]              # doctest: +SKIP

    Attributes:
        start: the starting point, float64 ``(n,)``; its query is the first of the bill.
        bounds: pairs ``(low, high)`` where the problem names a search domain, else ``None``.
        multipliers: ``(m,)``, go along with every query; those of the problem's start at first.
        history: the state after each billed query.
        best_point, best_multipliers: of the query with the best merit so far.
    """

    def __init__(self, core: OptimizationEnv, seed: int = 0, key: int | None = None) -> None:
        _check_fields(core)
        device = core.torch_device
        keys = instance_keys({"instance": key}, keys_from_seed(seed, 1, device))
        self.core = core
        self._process = os.getpid()
        with torch.no_grad(), Threads(core, 1):
            first = core.reset(keys)
        form = Form.of(f"as_function: {core.name}", first.problem, first.observation)
        known = known_of(form, first.problem, first.observation[form.place])
        super().__init__(core.name, form, row_of(known, 0))
        self.history: list[State] = [first]
        self._warned = False
        self.best_point, self.best_multipliers = self.start.copy(), self.multipliers.copy()
        self.hold_first(self._answers())
        ends = (self.lower, self.upper)
        self.bounds = None if np.isinf(ends).all() else list(zip(*ends, strict=True))

    @property
    def state(self) -> State:
        """The episode after the last billed query."""
        return self.history[-1]

    @property
    def calls(self) -> dict[str, int]:
        """The ledger."""
        return Named({kind: int(count) for kind, count in self.state.calls.items()})

    @property
    def metrics(self) -> dict[str, float]:
        """The truth at the last point asked."""
        return Named({name: float(value) for name, value in self.state.metrics.items()})

    @property
    def best(self) -> float:
        """The best merit so far."""
        return float(self.state.best)

    @property
    def solved(self) -> bool:
        """Whether a query has solved the problem, to the environment's tolerance."""
        return any(bool(state.terminated) for state in self.history)

    @property
    def box(self) -> Any:
        """The bounds as ``scipy.optimize.Bounds``, which are kept; ``None`` where there are none."""
        return box(self)

    @property
    def dict_constraints(self) -> list[dict[str, Any]]:
        """The constraints as SLSQP takes them; none, where there are none."""
        return dict_constraints(self)

    @property
    def nonlinear_constraint(self) -> Any:
        """The constraints as one ``scipy.optimize.NonlinearConstraint``, with what is answered of its slopes.

        Raises:
            TypeError: there are none.
        """
        if not self.count:
            raise TypeError(f"{self.owner} has no constraints")
        return nonlinear_constraint(self)

    def keywords(self, method: str, hessian: str = "auto", bounded: bool = True) -> dict[str, Any]:
        """All that ``scipy.optimize.minimize`` is given for a method, but the start ``x0`` and options.

        Args:
            method: scipy's name.
            hessian: where curvature comes from: ``auto``, what is answered; ``exact``; ``products`` with
                vectors; ``none``, gradients alone.
            bounded: whether the bounds are kept, where the method can.

        Raises:
            ValueError, OracleMismatch: the method does not fit the problem, or ``tol`` or an option is none.
        """
        check(self, method_of(method), bounded, hessian)
        return keywords(self, method, hessian, bounded)

    def minimize(
        self,
        method: str,
        *,
        start: Any = None,
        multipliers: Any = None,
        tol: float | None = None,
        hessian: str = "auto",
        bounded: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> Solution:
        """Let a method of scipy's, or IPOPT, solve it.

        What the solver found is asked with its multipliers, for a value, where it was not, so that it is
        judged. Whether it is a success is the environment's word, not the solver's. Where the budget ends it,
        the best query so far is given, which :attr:`best_point` is in any case. A start outside of the bounds
        is brought in, and coordinates whose bounds are equal stay.

        Args:
            method: scipy's name, or ``ipopt`` (which needs the package ``casadi``).
            start: where to begin, ``(n,)``, in place of the problem's own start.
            multipliers: to begin with, ``(m,)``, in place of the problem's own; IPOPT makes use of them.
            tol: the solver's tolerance.
            hessian: as in :meth:`keywords`.
            bounded: as in :meth:`keywords`.
            options: the solver's own.

        Raises:
            ValueError, OracleMismatch: the method does not fit the problem, or ``tol`` or an option is none.
        """
        if multipliers is not None:
            try:
                given = numbers(multipliers)
            except (TypeError, ValueError):
                given = np.full(self.count, np.nan)  # bools, or words
            if given.shape != (self.count,) or not np.isfinite(given).all():
                raise ValueError(f"multipliers: expected {self.count} finite numbers, got {multipliers!r}")
            self.multipliers = given
        if start is not None:
            start = self._rounded({self.form.place: start})[self.form.place]
        settings: dict[str, Any] = {"tol": tol, "hessian": hessian, "bounded": bounded, "options": options}
        try:
            found = solve(self, method, start=start, **settings)
            self.conclude(found.x, found.multipliers)
        except BudgetSpent as error:
            given = self.best_multipliers.copy() if self.count else None
            found = Solution(self.best_point.copy(), given, SPENT, str(error))
        judged = self._judged(found)
        return dataclasses.replace(found, merit=float(judged.merit), success=bool(judged.terminated))

    def __call__(self, x: Any) -> float:
        """The value at ``x``, shape ``(n,)``; billed unless ``x`` is the last point asked.

        Raises:
            BudgetSpent: the budget is used up; the bill and the history are as they were.
            gymnasium.error.InvalidAction: ``x`` has a wrong shape, a NaN, or is out of bounds.
            TypeError: it is called in another process than the one that made it.
        """
        return self.value(x)

    def value_and_gradient(self, x: Any) -> tuple[float, np.ndarray]:
        """Both, for ``minimize(..., jac=True)``."""
        return self(x), self.gradient(x)

    def ask(self, kind: str, x: Any, again: bool = False, **places: Any) -> np.ndarray:
        """The answer of one kind, for those that have no method; raises as :meth:`__call__`."""
        if os.getpid() != self._process:
            raise TypeError(self._alone)
        return super().ask(kind, x, again, **places)

    def _rounded(self, places: Mapping[str, Any]) -> dict[str, np.ndarray]:
        fields = self.core.action_space
        if not isinstance(fields, spaces.Dict):
            fields = spaces.Dict({"action": fields})
        named = {name if name in fields.spaces else "action": value for name, value in places.items()}
        part = spaces.Dict({name: fields[name] for name in named})
        found = as_action(part, named, None, self.core.torch_device)
        assert isinstance(found, dict)
        return {name: found[own][0].cpu().numpy() for name, own in zip(places, named, strict=True)}

    def _query(self, kinds: frozenset[str], places: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._spent():
            raise BudgetSpent(f"{self.core.name}: the budget is spent: {self.calls}")
        space = self.core.action_space
        query: Any = places[self.form.place]
        if isinstance(space, spaces.Dict):
            query = dict(places)
            if self.form.menu:
                query[WANT] = np.array([kind in kinds for kind in self.form.offer.kinds], np.int64)
        action = as_action(space, query, None, self.core.torch_device)
        check_action(space, action)
        with torch.no_grad(), Threads(self.core, 1):
            state = self.core.step(self.state, action)
        if self.form.menu and not bool(state.observation[ANSWERED].any()):
            raise BudgetSpent(f"{self.core.name}: the rest of the budget does not pay {', '.join(kinds)}")
        before = self.best
        self.history.append(state)
        if self.best < before:
            self.best_point = places[self.form.place].astype(np.float64)
            self.best_multipliers = places.get(MULTIPLIERS, np.zeros(0)).astype(np.float64)
        return self._answers()

    def _judged(self, found: Solution) -> State:
        """The last query of what was found: with its multipliers; without some the best one at its point."""
        x, given = self._rounded({self.form.place: found.x})[self.form.place], found.multipliers
        at = [s for s in self.history if np.array_equal(s.observation[self.form.place][0].cpu().numpy(), x)]
        if given is None:
            return min(reversed(at), key=lambda state: float(state.merit))
        for state in reversed(at):
            asked = state.observation.get(MULTIPLIERS)
            if asked is None or np.allclose(asked[0].double().cpu().numpy(), given, rtol=1e-6):
                return state
        return at[-1]

    def _answers(self) -> dict[str, np.ndarray]:
        """What the last query was answered, by kind."""
        seen, kinds = self.state.observation, self.form.offer.kinds
        told = seen[ANSWERED][0].tolist() if self.form.menu else [1] * len(kinds)
        return {k: seen[k][0].double().cpu().numpy() for k, some in zip(kinds, told, strict=True) if some}

    def _spent(self) -> bool:
        """Whether the budget pays no more. A value that is no number ends an episode, but not this."""
        state = self.state
        if not bool(state.diverged):
            return bool(state.truncated)
        return any(int(state.calls[kind]) >= limit for kind, limit in self.core.limits.items())

    def _same(self, held: np.ndarray, now: np.ndarray) -> None:
        """Say once that another point is the same query."""
        if self._warned or np.array_equal(held, now):
            return
        self._warned = True
        warnings.warn(
            f"as_function: another point than the last one asked rounds to the same {self.core.dtype} "
            "numbers, and has the same answer (unbilled); differences of values then are zero. "
            f"Make {self.core.name} with dtype='float64'",
            stacklevel=5,
        )

    @property
    def _alone(self) -> str:
        return (
            f"as_function: the bill of {self.core.name} is kept in the process that made it, and a copy "
            "would count by itself; ask there (its threads share the bill), or make a function a process"
        )

    def __reduce__(self) -> Any:
        raise TypeError(self._alone)


def _check_fields(core: OptimizationEnv) -> None:
    """Raise ``TypeError`` where a query is neither a point, nor one with a vector, nor a menu's."""
    space = core.action_space
    known = isinstance(space, spaces.Box) or (
        isinstance(space, spaces.Dict) and (WANT in space.spaces or {*space} == {"point", "vector"})
    )
    if not known:
        raise TypeError(f"as_function: needs one query field, or a menu; {core.name} has {space}")
