"""A user's own objective and constraints as an environment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_finite, check_settings
from optenvs.core.oracles import jacobian
from optenvs.core.random import Keys, normal

from .base import Constrained
from .given import array, consistent, limits
from .parts import Draw
from .trial import Function, answers, tried

_ROUNDED = 1e-3
"""By how much a minimiser that was copied from a paper may be off, relative to its coordinates."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ConstrainedFunctions(Constrained):
    """A program of the user's; :func:`constrained_from_functions` makes one and says what the fields mean."""

    function: Function
    equality: Function | None = None
    inequality: Function | None = None
    lower: Any = None
    upper: Any = None
    minimum: float | None = None
    minimiser: Any = None
    perturbation: float = 0.0

    begins_itself = True

    def __post_init__(self) -> None:
        for name, function in self._functions.items():
            if not callable(function):
                raise ValueError(f"{name}: expected a function, got {function!r}")
        if len(self._functions) == 1:
            raise ValueError(
                "equality, inequality: expected one of them; without constraints, or with bounds alone, "
                "optenvs.from_function makes a landscape"
            )
        check_finite("perturbation", self.perturbation, 0)
        if self.minimum is not None:
            check_finite("minimum", self.minimum)
        super().__post_init__()
        if self.equality_count > self.size:
            raise ValueError(
                f"equality: expected at most as many equations as the {self.size} variables, got "
                f"{self.equality_count}, whose gradients cannot be independent"
            )
        self._check_linear()
        self._check_minimiser()

    @property
    def _functions(self) -> dict[str, Any]:
        """The functions that there are, under the names of their keywords."""
        given = {"equality": self.equality, "inequality": self.inequality}
        return {"objective": self.function} | {n: f for n, f in given.items() if f is not None}

    @cached_property
    def _point(self) -> Float[Tensor, "n"]:
        """The start, in float64 on the host."""
        point = array("start", () if self.start is None else self.start)
        if point.ndim != 1 or not len(point) or point.isinf().any():
            raise ValueError(f"start: expected a vector of finite numbers, got {self.start!r}")
        return point

    @property
    def known_bounds(self) -> tuple[Tensor, Tensor] | None:
        return self._box

    @cached_property
    def _box(self) -> tuple[Tensor, Tensor] | None:
        if self.lower is None and self.upper is None:
            return None
        ends = []
        for name, otherwise in (("lower", -math.inf), ("upper", math.inf)):
            value = getattr(self, name)
            end = array(name, otherwise if value is None else value)
            if tuple(end.shape) not in ((), (1,), (self.size,)):
                raise ValueError(f"{name}: expected a number or {self.size} of them, got {value!r}")
            ends.append(end.expand(self.size))
        limits("lower, upper", *ends)
        return ends[0], ends[1]

    @cached_property
    def _counts(self) -> tuple[int, int]:
        """How many equations and inequalities there are, by a call of each function at the start."""
        start = self._point.to(self.torch_device, self.torch_dtype)
        found = {name: tried(name, function, start) for name, function in self._functions.items()}
        return found.get("equality", 0), found.get("inequality", 0)

    def _check_linear(self) -> None:
        """Raise ``ValueError`` where the equations that are linear have no solution."""
        if not self.equality_count:
            return
        k, place = self.equality_count, torch.arange(1, self.size + 1, dtype=self.torch_dtype)
        start = self._point.to(self.torch_dtype)
        other = start + (1 + start.abs()) * torch.sin(2.39996 * place)  # beside it in every coordinate
        points = torch.stack((start, other)).to(self.torch_device)
        c, J = jacobian(lambda x: self.constraints(None, x)[:, :k], points)
        c, J = c.to("cpu", torch.float64), J.to("cpu", torch.float64)
        close = 1e-6 if self.dtype == "float32" else 1e-12
        linear = (J[0] - J[1]).abs().amax(-1) <= close * J.abs().amax((0, 2))
        rows = J[0][linear]
        consistent("equality: linear ones", rows, rows @ points[0].to(rows) - c[0][linear], 1e4 * close)

    def _check_minimiser(self) -> None:
        """Raise ``ValueError`` where it is infeasible by more than rounding to three digits explains."""
        point, k = self._given("minimiser", self.size), self.equality_count
        if point is None:
            return
        c, J = (part[0].double().cpu() for part in jacobian(lambda x: self.constraints(None, x), point[None]))
        point = point.double().cpu()
        over = torch.cat((c[:k].abs(), c[k:].clamp_min(0)))
        allowed = _ROUNDED * (1 + J.abs() @ point.abs())
        for row in torch.nonzero(~(over <= allowed)).flatten().tolist():  # a NaN is over, too
            name, place = ("equality", row) if row < k else ("inequality", row - k)
            raise ValueError(
                f"minimiser: expected a point that satisfies the constraints, got {name} {float(c[row]):.6g} "
                f"at {place}"
            )
        for name, end in zip(("lower", "upper"), self.known_bounds or (), strict=False):
            beyond = end - point if name == "lower" else point - end
            for place in torch.nonzero(beyond > _ROUNDED * (1 + point.abs())).flatten().tolist():
                raise ValueError(
                    f"minimiser: expected a point within the bounds, got {float(point[place]):g} at {place}, "
                    f"where {name} is {float(end[place]):g}"
                )

    @property
    def size(self) -> int:
        return len(self._point)

    @property
    def equality_count(self) -> int:
        return self._counts[0]

    @property
    def inequality_count(self) -> int:
        return self._counts[1]

    def draw(self, keys: Keys) -> Draw:
        like = torch.zeros(len(keys), self.size, dtype=self.torch_dtype, device=keys.device)
        start, bounds = self._point.to(like) + like, self.known_bounds
        if self.perturbation:
            moved = normal(keys, "start", self.size, dtype=self.torch_dtype)
            start = start + self.perturbation * start.abs().clamp_min(1) * moved
        ends = (None, None) if bounds is None else tuple(end.to(like) + like for end in bounds)
        if bounds is not None:
            start = start.clamp(*ends)
        optimum = self._given("minimiser", self.size)
        return Draw(
            data=None,
            start=start,
            lower=ends[0],
            upper=ends[1],
            optimum=None if optimum is None else optimum + like,
            lowest=None if self.minimum is None else like[:, 0] + self.minimum,
        )

    def objective(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        return answers("objective", self.function, x).squeeze(1)

    def constraints(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
        names = [name for name in self._functions if name != "objective"]
        return torch.cat([answers(name, self._functions[name], x) for name in names], -1)


def constrained_from_functions(
    objective: Function,
    equality: Function | None = None,
    inequality: Function | None = None,
    *,
    start: Any,
    lower: Any = None,
    upper: Any = None,
    minimum: float | None = None,
    minimiser: Any = None,
    perturbation: float = 0.0,
    **keywords: Any,
) -> ConstrainedFunctions:
    """Make an environment of a program: min f(x) with c_E(x) = 0, c_I(x) <= 0, lower <= x <= upper.

    The functions are torch's, of one point ``(n,)``; they are vectorised over instances by
    ``torch.func.vmap``, and all derivatives are torch's, too::

        >>> import torch, optenvs
        >>> from optenvs.core.random import keys_from_seed
        >>> env = optenvs.constrained_from_functions(
        ...     lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        ...     equality=lambda x: (x**2).sum() - 40,
        ...     inequality=lambda x: 25 - x[0] * x[1] * x[2] * x[3],
        ...     start=(1.0, 5.0, 5.0, 1.0), lower=1.0, upper=5.0)
        >>> state = env.reset(keys_from_seed(0, 2))
        >>> state.observation["constraints"].tolist()
        [[12.0, 0.0], [12.0, 0.0]]
        >>> env.oracles[:4]
        ('value', 'constraints', 'gradient', 'jacobian')

    A point at which a function or a first derivative is no finite number is a hidden constraint, see ``nan``
    of :class:`optenvs.envs.constrained.base.Constrained`. Constraints that say one thing twice are no error:
    the metric ``singular`` tells of them, as of every point where the gradients of the active ones depend on
    each other.

    Args:
        objective: f, one number.
        equality: c_E, a vector; one number is taken for a vector of one.
        inequality: c_I, likewise, satisfied where <= 0 (scipy's are satisfied where >= 0).
        start: where all instances begin, or about which with ``perturbation``: n numbers within the bounds.
        lower: a number, or one a variable, infinite where there is no bound. At most ``upper``; where they
            are equal, the variable is fixed.
        upper: likewise.
        minimum: the least value of a feasible point, if known: then ``gap`` is measured.
        minimiser: where it is, if known, to three digits at least: then ``distance`` is measured.
        perturbation: standard deviation of a normal perturbation of each coordinate of the start, relative to
            max(1, its size), moved into the bounds; without one all instances begin alike.
        **keywords: those of :class:`optenvs.envs.constrained.base.Constrained`: ``start_multipliers``,
            ``nan``, ``tolerance``, ``budget``, ...

    Raises:
        ValueError: a function that cannot be called, vectorised or differentiated, with the cause; one that
            writes into its point; one of which torch's derivative is not that of central differences (partly
            detached), or is zero where its values change (rounded), beside the start; one whose answer is no
            vector (of a batch, say), or not finite at the start; no constraint at all; more equations than
            variables; linear equations without a solution; bounds that are not ordered; a start outside of
            them; a ``minimiser`` that breaks bounds or constraints.
    """
    check_settings("constrained_from_functions", keywords, ConstrainedFunctions, ("function",))
    return ConstrainedFunctions(
        function=objective,
        equality=equality,
        inequality=inequality,
        start=start,
        lower=lower,
        upper=upper,
        minimum=minimum,
        minimiser=minimiser,
        perturbation=perturbation,
        **keywords,
    )
