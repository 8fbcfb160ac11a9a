"""One instance as the functions that a solver calls back: value, gradient, constraints, Jacobian, Hessian.

Whoever answers asks by the problem's own query: see :class:`optenvs.faces.function.BilledFunction`, which
steps an environment, and :mod:`agents.adapters.called_back`, which hands the question to an agent.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from optenvs.core.errors import BudgetSpent

from .form import MULTIPLIERS, Form

TOGETHER = {"value": "constraints", "gradient": "jacobian"}
"""Kinds that solvers ask where they have asked the first. The other way round they need not."""


class _Held(NamedTuple):
    """The last answer of a kind, where it was given, and the point as the caller wrote it."""

    places: dict[str, np.ndarray]
    answer: np.ndarray
    written: np.ndarray


class Functions(abc.ABC):
    """One instance of a problem as functions of one point.

    Attributes:
        owner: whose problem it is, for messages.
        form: how it is asked.
        start: the first point, ``(n,)``.
        lower, upper: the ends of the box that the problem names, ``(n,)`` each; infinite without one.
        multipliers: of the constraints, ``(m,)``, which go along with every question; those of the problem's
            start at first. Whoever solves sets them where it knows better ones.
    """

    owner: str
    form: Form
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    multipliers: Any

    @abc.abstractmethod
    def ask(self, kind: str, x: Any, **places: Any) -> np.ndarray:
        """The answer of one kind in float64, the caller's own.

        Args:
            kind: of the menu.
            x: the point.
            **places: the other places that the kind depends on.

        Raises:
            TypeError: it is not answered.
            BudgetSpent: the rest of the budget does not pay it.
        """

    @property
    def count(self) -> int:
        """The number m of constraints."""
        return self.form.count

    @property
    def equalities(self) -> int:
        """How many constraints, the first ones, are equations."""
        return self.form.equalities

    def answers(self, kind: str) -> bool:
        """Whether the problem answers a kind."""
        return kind in self.form.offer.kinds

    def value(self, x: Any) -> float:
        """The value at ``x``, shape ``(n,)``."""
        return float(self.ask("value", x).reshape(()))

    def gradient(self, x: Any) -> Float[np.ndarray, "n"]:
        """The gradient of the value at ``x``."""
        return self.ask("gradient", x)

    def constraints(self, x: Any) -> Float[np.ndarray, "m"]:
        """The constraints at ``x``: equations first, then those that are satisfied where <= 0."""
        return self.ask("constraints", x)

    def jacobian(self, x: Any) -> Float[np.ndarray, "m n"]:
        """The gradients of the constraints at ``x``, as rows."""
        return self.ask("jacobian", x)

    def hessian(self, x: Any, multipliers: Any = None) -> Float[np.ndarray, "n n"]:
        """The Hessian at ``x``: of the value; with ``multipliers`` of value + multipliers' constraints."""
        if multipliers is None and self.answers("objective_hessian"):
            return self.ask("objective_hessian", x)
        if not self.form.lagrangian:
            if multipliers is not None and self.count:
                raise TypeError(f"{self.owner} answers no Hessian of the constraints")
            return self.ask("hessian", x)
        given = np.zeros(self.count) if multipliers is None else multipliers
        return self.ask("hessian", x, **{MULTIPLIERS: given})

    def constraints_hessian(self, x: Any, multipliers: Any) -> Float[np.ndarray, "n n"]:
        """The Hessian of multipliers' constraints alone: the difference of two Hessians."""
        return self.hessian(x, multipliers) - self.hessian(x)

    def hessian_product(self, x: Any, vector: Any, multipliers: Any = None) -> Float[np.ndarray, "n"]:
        """The Hessian's product with ``vector``; ``multipliers`` as in :meth:`hessian`."""
        kind = self.form.product
        if kind is None:
            raise TypeError(f"{self.owner} answers no product of the Hessian with this oracle")
        places = {self.form.along(kind): vector}
        if MULTIPLIERS in self.form.at(kind):
            places[MULTIPLIERS] = np.zeros(self.count) if multipliers is None else multipliers
        elif multipliers is not None and self.count:
            raise TypeError(f"{self.owner} answers no Hessian of the constraints")
        return self.ask(kind, x, **places)

    def jacobian_product(self, x: Any, vector: Any) -> Float[np.ndarray, "m"]:
        """The Jacobian's product with ``vector``, ``(n,)``."""
        return self._product("jacobian_product", x, vector)

    def adjoint_product(self, x: Any, covector: Any) -> Float[np.ndarray, "n"]:
        """The transposed Jacobian's product with ``covector``, ``(m,)``."""
        return self._product("adjoint_product", x, covector)

    def _product(self, kind: str, x: Any, vector: Any) -> np.ndarray:
        self._check(kind)
        return self.ask(kind, x, **{self.form.along(kind): vector})

    def _check(self, kind: str) -> None:
        if not self.answers(kind):
            raise TypeError(f"{self.owner} answers no {kind} with this oracle")


class AskedFunctions(Functions):
    """Functions that ask.

    A kind is not asked again where it was answered last, and constraints nowhere where they were answered:
    COBYQA asks them ten times at a point. Values and slopes that have noise can be drawn anew by a way back.

    Args:
        owner: whose problem it is, for messages.
        form: how it is asked.
        known: start, box and multipliers, as :func:`optenvs.solvers.form.row_of` gives them.
        together: which kind is asked in one query with another one, if it is not held.
    """

    def __init__(
        self,
        owner: str,
        form: Form,
        known: Mapping[str, np.ndarray],
        together: Mapping[str, str] | None = None,
    ) -> None:
        self.owner, self.form, self._together = owner, form, dict(together or {})
        self.start, self.multipliers = known["start"].copy(), known["multipliers"].copy()
        self.lower, self.upper = known["lower"], known["upper"]
        self._held: dict[str, _Held] = {}
        self._constraints: dict[bytes, np.ndarray] = {}
        self._asked: set[tuple[bytes, bytes]] = set()

    @abc.abstractmethod
    def _query(self, kinds: frozenset[str], places: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Ask some kinds; gives what is answered, by kind."""

    def _rounded(self, places: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The places in the problem's own precision."""
        return {name: np.array(value, self.form.dtype) for name, value in places.items()}

    def _same(self, held: np.ndarray, now: np.ndarray) -> None:
        """Called where a point rounds to that of an answer that is held."""

    def ask(self, kind: str, x: Any, again: bool = False, **places: Any) -> np.ndarray:
        """As in :class:`Functions`; ``again``: although it is held."""
        self._check(kind)
        form = self.form
        given = self._rounded({form.place: x, **places})
        kept = self._constraints.get(given[form.place].tobytes()) if kind == "constraints" else None
        if kept is not None and not again:
            return kept.copy()
        if not again and not self._misses(kind, given):
            held = self._held[kind]
            self._same(held.written, np.asarray(x, np.float64))
            return held.answer.copy()
        other = self._together.get(kind)
        more = set() if other is None or not self._misses(other, given) else {other}
        missing = frozenset({kind} | more)
        whole = self._whole(given)
        self.hold(self._query(missing, whole), whole, x)
        if self._misses(kind, given):
            raise BudgetSpent(f"{self.owner}: the rest of the budget does not pay {kind}")
        return self._held[kind].answer.copy()

    def conclude(self, x: Any, multipliers: Any = None) -> None:
        """Ask what a solver has found, for one value, so that it is judged; nothing where it was asked.

        The problem's own question is judged at the multipliers that the problem begins with, be they zeros,
        and any other one without multipliers at the best ones: it does not count as asked.

        Args:
            x: the point, ``(n,)``.
            multipliers: of the constraints, ``(m,)``; ``None``, as zeros, where the solver says nothing.
        """
        places = {}
        if MULTIPLIERS in self.form.places:
            found = np.zeros(self.count) if multipliers is None else np.array(multipliers, np.float64) + 0.0
            if np.any(found):
                self.multipliers = found
            places = {MULTIPLIERS: found}
        if self._key(self._whole(self._rounded({self.form.place: x, **places}))) not in self._asked:
            self.ask("value", x, again=True, **places)

    def hold_first(self, answers: Mapping[str, np.ndarray]) -> None:
        """Keep the answers to the problem's own question, at its start."""
        whole = self._whole(self._rounded({self.form.place: self.start}))
        self.hold(answers, whole)
        if MULTIPLIERS in whole and not whole[MULTIPLIERS].any():
            self._asked.discard(self._key(whole))  # see conclude

    def hold(
        self, answers: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray], written: Any = None
    ) -> None:
        """Keep the answers to a query at ``places``; ``written`` is the point as the caller wrote it."""
        x = places[self.form.place]
        for kind, answer in answers.items():
            at = {name: np.array(places[name]) for name in self.form.at(kind)}
            self._held[kind] = _Held(
                at, np.asarray(answer, np.float64), np.array(x if written is None else written, np.float64)
            )
        if "constraints" in answers:
            self._constraints[x.tobytes()] = np.asarray(answers["constraints"], np.float64)
        if answers:
            self._asked.add(self._key(places))

    def _key(self, places: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        pair = places[self.form.place], places.get(MULTIPLIERS)
        return pair[0].tobytes(), b"" if pair[1] is None else pair[1].tobytes()

    def _whole(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All places of a query: those that matter, the multipliers of now, and zeros."""
        form = self.form
        whole = {name: np.zeros(shape, dtype) for name, shape, dtype in form.offer.places}
        if MULTIPLIERS in whole:
            whole[MULTIPLIERS] = self.multipliers.astype(whole[MULTIPLIERS].dtype)
        return whole | given

    def _misses(self, kind: str, given: dict[str, np.ndarray]) -> bool:
        """Whether the last answer of a kind that is on offer was given elsewhere."""
        if not self.answers(kind) or kind not in self._held:
            return self.answers(kind)
        places = self._held[kind].places
        return not all(np.array_equal(place, given[name]) for name, place in places.items() if name in given)
