"""Landscapes: functions of a point, whole or with noise, under a random shift and rotation.

* State: the point asked last, and the instance (shift, rotation, coefficients, known optimum).
* Query: one point; with ``oracle="hvp"`` a point and a vector; with ``"hessian"`` these and which kinds are
  wanted (a menu, see :mod:`optenvs.core.menu`): a rejected trial asks and pays a value alone.
* Answer: the value; with ``oracle="gradient"`` also the gradient; with ``"hvp"`` also the Hessian's product
  with the vector; with ``"hessian"`` what is wanted of these and the Hessian.
* Bill: one call of each kind answered. Metrics (value, gap, distance) are exact and unbilled.

A new landscape is a subclass with :meth:`Landscape.draw` and :meth:`Landscape.value`.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.blocks import row_blocks
from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.errors import parts
from optenvs.core.menu import Judgement, Menu, Query
from optenvs.core.oracles import hvp, value_and_gradient
from optenvs.core.random import Keys, normal, orthogonal
from optenvs.core.spaces import box
from optenvs.core.struct import rows, tree_map

from .boxes import ends_of, one, searched_box
from .menu import kinds as menu_kinds
from .menu import look
from .parts import Draw, Hidden, Problem, turned

ORACLES = ("value", "gradient", "hvp", "hessian")
Limit = float | Sequence[float]
"""An end of a box: a number, or one a coordinate."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Landscape(OptimizationEnv):
    """A function to minimise.

    Args:
        dim: the number n of coordinates.
        oracle: what is answered: ``value``, ``gradient`` (with the value), ``hvp`` (with both); ``hessian``:
            of these and the Hessian what a query wants (a ``budget`` that is a number then counts values).
        noise: standard deviation of the Gaussian noise in each answered value and partial derivative.
        shift: standard deviation of a random shift of the function, one an instance.
        rotate: whether each instance is turned about its optimum by a random rotation.
        bounds: limits of the query: ``None`` for none, ``"domain"`` for the function's search domain, or a
            pair ``(low, high)``, each a number or one a coordinate. Outside them an action is invalid.
        start: a fixed starting point in place of the instance's own.
        nan: what a value that is no finite number means at a finite point: ``diverge``, the episode's end;
            ``infeasible``, a hidden constraint: the value is infinite, the other answers are zeros, the point
            earns no credit, and the episode goes on.
        tolerance: the gap at which an episode is solved.
        budget, reward, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    dim: int = 2
    oracle: str = "gradient"
    noise: float = 0.0
    shift: float = 0.0
    rotate: bool = False
    bounds: str | tuple[Limit, Limit] | None = None
    start: tuple[float, ...] | None = None
    nan: str = "diverge"
    tolerance: float | None = 1e-8

    domain: ClassVar[tuple[float, float]] = (-5.0, 5.0)
    """The box in which the literature searches, and where its features are."""
    painter = "optenvs.envs.landscapes.picture:landscape"
    fixed_dim: ClassVar[int | None] = None
    """The dimension, for functions that are defined in one only."""

    # What an author writes ---------------------------------------------------------------------

    @abc.abstractmethod
    def draw(self, keys: Keys) -> Draw:
        """One function a key."""

    @abc.abstractmethod
    def value(self, x: Float[Tensor, "B n"], coefficients: Any) -> Float[Tensor, "B"]:
        """The function, ``(B, n) -> (B,)``; rows do not see each other."""

    def value_and_gradient(
        self, x: Float[Tensor, "B n"], coefficients: Any
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B n"]]:
        """Both at once. Inherited: by autograd; a closed form here is several times faster."""
        return value_and_gradient(lambda y: self.value(y, coefficients), x)

    @property
    def search_domain(self) -> tuple[Limit, Limit]:
        """Where to search, unless ``bounds`` say otherwise: :attr:`domain`, or what an instance is told."""
        return self.domain

    def measure(self, x: Float[Tensor, "B n"]) -> dict[str, Tensor]:
        """More metrics of a point of the unmoved function, ``(B,)`` each."""
        return {}

    def known_minima(self) -> Float[Tensor, "m n"] | None:
        """All global minimisers of the unmoved function, where it has several and they are known."""
        return None

    # What it gets ------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        for name, known in (("oracle", ORACLES), ("nan", ("diverge", "infeasible"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"dim: expected a whole number >= 1, got {self.dim!r}")
        if self.fixed_dim is not None and self.dim != self.fixed_dim:
            raise ValueError(f"dim: {self.name} has dimension {self.fixed_dim}, got {self.dim}")
        for name in ("noise", "shift"):
            if not isinstance(getattr(self, name), Real) or not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a number >= 0, got {getattr(self, name)!r}")
        if isinstance(self.bounds, str) and self.bounds != "domain":
            raise ValueError(f"bounds: expected None, 'domain' or (low, high), got {self.bounds!r}")
        low, high = self.limits_of_points
        if not (low < high).all():
            raise ValueError(f"bounds: expected low < high, got {self.bounds!r}")
        if self.start is not None:
            start = np.asarray(self.start, dtype=float)
            if start.shape != (self.dim,) or not np.isfinite(start).all():
                raise ValueError(f"start: expected {self.dim} finite numbers, got {self.start!r}")
            if (start < low).any() or (start > high).any():
                raise ValueError(f"start: {self.start!r} lies outside bounds {self.bounds!r}")
        super().__post_init__()

    @cached_property
    def limits_of_points(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The ends of the box that no query may leave; infinite without ``bounds``."""
        bounds = self.search_domain if isinstance(self.bounds, str) else self.bounds
        return ends_of((-np.inf, np.inf) if bounds is None else bounds, self.dim)

    @cached_property
    def searched(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The ends of the box that agents are told: ``bounds``, and the search domain without them."""
        return searched_box(self.limits_of_points, ends_of(self.search_domain, self.dim))

    @property
    def oracles(self) -> tuple[str, ...]:
        return ORACLES[: ORACLES.index(self.oracle) + 1]

    @cached_property
    def card(self) -> Menu | None:
        """The menu at work, where a query says what it wants."""
        if self.oracle != "hessian":
            return None
        places = {"point": self._point, "vector": (self.dim,)}
        kinds = menu_kinds(self.dim, self._look, exact=not self.noise)
        return Menu(places, kinds, dtype=self.dtype, device=self.torch_device, owner=self.name)

    @property
    def fixed_cost(self) -> bool:
        return self.card is None

    @property
    def bill(self) -> dict[str, int]:
        return dict.fromkeys(reversed(self.oracles), 1) if self.card is None else self.card.bill

    @property
    def first_bill(self) -> dict[str, int]:
        return self.bill if self.card is None else self.card.first_bill

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        if self.card is not None:
            return self.card.action_fields()
        return (
            self._point
            if self.oracle != "hvp"
            else {"point": self._point, "vector": box((self.dim,), self.dtype)}
        )

    @property
    def _point(self) -> spaces.Box:
        return box((self.dim,), self.dtype, *(one(end) for end in self.limits_of_points))

    def observation_fields(self) -> dict[str, spaces.Space]:
        if self.card is not None:
            return self.card.observation_fields()
        shapes: dict[str, tuple[int, ...]] = {"point": (self.dim,), "value": (1,)}
        shapes |= dict.fromkeys(self.oracles[1:], (self.dim,))
        return {name: box(shape, self.dtype) for name, shape in shapes.items()}

    def sample(self, keys: Keys) -> Instance:
        draw = self.draw(keys)
        dtype = self.torch_dtype
        start, optimum, pivot, shift, rotation = draw.start, draw.optimum, None, None, None
        if self.shift or self.rotate:
            pivot = torch.zeros_like(start) if optimum is None else optimum
            shift = torch.zeros_like(start)
            if self.shift:
                shift = self.shift * normal(keys, "shift", self.dim, dtype=dtype)
            start = start - pivot
            if self.rotate:
                rotation = orthogonal(keys, "rotation", self.dim, dtype=dtype)
                start = (rotation @ start.unsqueeze(-1)).squeeze(-1)
            start = pivot + shift + start
            optimum = None if optimum is None else pivot + shift
        if self.start is not None:
            start = torch.tensor(self.start, dtype=dtype, device=keys.device)
            start = start.expand(len(keys), self.dim)
        elif self.bounds is not None:
            low, high = (torch.tensor(end, dtype=dtype, device=keys.device) for end in self.limits_of_points)
            start = start.clamp(low, high)
        ends = torch.tensor(np.stack(self.searched), dtype=dtype, device=keys.device)
        query: Action = start
        if self.oracle == "hvp":
            query = {"point": start, "vector": torch.zeros_like(start)}
        if self.card is not None:
            query = self.card.start(point=start)
        return Instance(
            problem=Problem(
                lower=ends[0].expand_as(start),
                upper=ends[1].expand_as(start),
                menu=None if self.card is None else self.card.offer,
                metric=turned(draw.metric, rotation),
            ),
            hidden=Hidden(
                optimum=optimum,
                lowest=draw.lowest,
                coefficients=draw.coefficients,
                pivot=pivot,
                shift=shift,
                rotation=rotation,
            ),
            start=query,
            floor=draw.lowest,
        )

    def _unmove(self, hidden: Hidden, x: Tensor) -> Tensor:
        """The point of the unmoved function that the query ``x`` means."""
        if hidden.pivot is None:
            return x
        assert hidden.shift is not None  # it comes with the pivot
        centred = x - hidden.pivot - hidden.shift
        if hidden.rotation is not None:
            centred = (centred.unsqueeze(-2) @ hidden.rotation).squeeze(-2)
        return hidden.pivot + centred

    def _ask(self, hidden: Hidden, x: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self.value_and_gradient(self._unmove(hidden, x), hidden.coefficients)
        if hidden.rotation is not None:
            gradient = (hidden.rotation @ gradient.unsqueeze(-1)).squeeze(-1)
        return value, gradient

    def _products(self, hidden: Hidden, x: Tensor, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return hvp(lambda y: self._ask(hidden, y), x, vector, written=True)

    def found_at(self, hidden: Hidden, query: Query) -> tuple[Tensor, dict[str, Tensor]]:
        """The value ``(B,)``, and of the other kinds what a query of the menu needs."""
        return look(
            lambda y: self.value(self._unmove(hidden, y), hidden.coefficients),
            lambda y: self._ask(hidden, y),
            query,
        )

    def answer(self, state: State, action: Action) -> Answer:
        if self.card is not None:
            return self.card.answer(self.limits, state, action, self._judge)
        hidden: Hidden = state.hidden
        point = action["point"] if isinstance(action, dict) else action
        observation = {"point": point}
        if self.oracle == "value":
            value = self.value(self._unmove(hidden, point), hidden.coefficients)
        elif self.oracle == "gradient":
            value, observation["gradient"] = self._ask(hidden, point)
        else:
            vector = parts(self.name, action, ("point", "vector"))["vector"]
            value, observation["gradient"], observation["hvp"] = self._products(hidden, point, vector)
        observation["value"] = value.unsqueeze(-1)
        if self.noise:
            observation |= self._noise(state, observation)
        value, infeasible = self._allowed(observation, point, value)
        metrics, solved = self.measured_at(hidden, point, value)
        return Answer(
            observation=observation, merit=value, metrics=metrics, solved=solved, infeasible=infeasible
        )

    def _allowed(
        self, found: dict[str, Tensor], point: Tensor, value: Tensor
    ) -> tuple[Tensor, Bool[Tensor, "B"] | None]:
        """The value, infinite where the point breaks a hidden constraint, and where it does.

        What was ``found`` at such a point besides is zeros, in place.
        """
        if self.nan == "diverge":
            return value, None
        infeasible = ~(value < torch.inf) & point.isfinite().all(-1)
        for name in found.keys() - {"point"}:
            mask = infeasible.reshape(-1, *[1] * (found[name].ndim - 1))
            found[name] = torch.where(mask, torch.inf if name == "value" else 0.0, found[name])
        return torch.where(infeasible, torch.inf, value), infeasible

    def _look(self, state: State, query: Query) -> dict[str, Tensor]:
        """All that a query of the menu needs of the function, in one pass; ``exact`` is the value."""
        value, found = self.found_at(state.hidden, query)
        found["value"] = value.unsqueeze(-1)
        if self.noise:
            found |= self._noise(state, found)
        value, _ = self._allowed(found, query["point"], value)
        return found | {"exact": value}

    def _judge(self, state: State, query: Query) -> Judgement:
        value = query.once("look", lambda: self._look(state, query))["exact"]
        metrics, solved = self.measured_at(state.hidden, query["point"], value)
        infeasible = None if self.nan == "diverge" else value == torch.inf
        return Judgement(value, metrics, solved, infeasible=infeasible)

    def measured_at(
        self, hidden: Hidden, point: Tensor, value: Tensor
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "B"] | None]:
        """The metrics of a point, and whether it solves the problem."""
        metrics = {"value": value}
        solved = None
        if hidden.lowest is not None:
            metrics["gap"] = value - hidden.lowest
            if self.tolerance is not None:
                solved = metrics["gap"] <= self.tolerance
        if hidden.optimum is not None:
            metrics["distance"] = torch.linalg.vector_norm(point - hidden.optimum, dim=-1)
        metrics |= self.measure(self._unmove(hidden, point))
        return metrics, solved

    def _noise(self, state: State, observation: dict[str, Tensor]) -> dict[str, Tensor]:
        noisy = {}
        for name in ("value", "gradient"):
            if name in observation:
                exact = observation[name]
                draw = normal(state.key, f"noise {name}", exact.shape[-1], state.k, exact.dtype)
                noisy[name] = exact + self.noise * draw
        return noisy

    def unmove_swarm(self, hidden: Hidden, points: Float[Tensor, "B N n"]) -> Float[Tensor, "B N n"]:
        """The points of the unmoved function that ``N`` queries of each instance mean."""
        if hidden.pivot is None:
            return points
        assert hidden.shift is not None  # it comes with the pivot
        centred = points - (hidden.pivot + hidden.shift).unsqueeze(1)
        if hidden.rotation is not None:
            centred = centred @ hidden.rotation
        return hidden.pivot.unsqueeze(1) + centred

    def ask_swarm(
        self, hidden: Hidden, points: Float[Tensor, "B N n"], gradient: bool = False
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N n"] | None]:
        """Exact values at ``N`` points of each instance, and on demand the gradients.

        Shift, rotation and coefficients are shared by the points of an instance, and copied for none.
        """
        blocks = row_blocks(points)
        if len(blocks) == 1:
            return self._ask_swarm(hidden, points, gradient)
        answers = [self._ask_swarm(rows(hidden, block), points[block], gradient) for block in blocks]
        value = torch.cat([value for value, _ in answers])
        slopes = [slope for _, slope in answers if slope is not None]
        return value, torch.cat(slopes) if gradient else None

    def _ask_swarm(
        self, hidden: Hidden, points: Float[Tensor, "B N n"], gradient: bool
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N n"] | None]:
        """The same for one block of instances."""
        unmoved, coefficients = self.unmove_swarm(hidden, points), hidden.coefficients
        ask = self.value_and_gradient if gradient else lambda x, c: (self.value(x, c), None)
        batch, count, dim = points.shape
        if coefficients is None:
            value, slope = ask(unmoved.reshape(batch * count, dim), None)
            value = value.reshape(batch, count)
            slope = None if slope is None else slope.reshape(batch, count, dim)
        else:  # vmap gives every particle the instance's own coefficients

            def particle(x: Tensor) -> Any:
                return ask(x, coefficients) if gradient else self.value(x, coefficients)

            answer = torch.func.vmap(particle, in_dims=1, out_dims=1)(unmoved)
            value, slope = answer if gradient else (answer, None)
        if slope is not None and hidden.rotation is not None:
            slope = slope @ hidden.rotation.mT
        if self.nan == "infeasible":
            value = torch.where(value < torch.inf, value, torch.inf)
        return value, slope

    def values_at(self, hidden: Hidden, points: Float[Tensor, "m n"]) -> Float[Tensor, "m"]:
        """The exact values of one instance at many points, unbilled, for pictures."""
        values = []
        for part in points.split(2048):
            many = tree_map(lambda leaf, part=part: leaf[:1].expand(len(part), *leaf.shape[1:]), hidden)
            with torch.no_grad():
                values.append(self.value(self._unmove(many, part), many.coefficients))
        return torch.cat(values)
