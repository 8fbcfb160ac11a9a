"""Random strictly convex quadratic programs, whose solution is known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_finite, check_whole
from optenvs.core.linear import times
from optenvs.core.random import Keys, normal, orthogonal, uniform
from optenvs.core.struct import struct

from .base import Constrained
from .given import arrays, consistent, limits
from .parts import Draw

_MATRICES = ("Q", "q", "A", "b")
_MORE = ("G", "h", "lower", "upper")


@struct
class Program:
    """x'Qx / 2 + q'x with rows J x - t: those of A x = b, then those of G x <= h.

    ``Q`` is ``(B, n, n)``, ``q`` ``(B, n)``, ``J`` ``(B, m, n)``, ``t`` ``(B, m)``.
    """

    Q: Float[Tensor, "B n n"]
    q: Float[Tensor, "B n"]
    J: Float[Tensor, "B m n"]
    t: Float[Tensor, "B m"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ConstrainedQuadratic(Constrained):
    """Minimise x'Qx / 2 + q'x subject to A x = b, and by keyword to G x <= h and bounds.

    Q has eigenvalues from 1 to 1/condition, in geometric order, in random directions; A and G are standard
    normal. A solution with its multipliers is drawn, of which the first half of the inequalities and of the
    bounds (rounded up) are active with multipliers in [0.5, 1.5), the others slack by [0.5, 1.5); q, b and h
    follow from it. So the minimum is known, and unique.

    Args:
        dim: the number n of variables.
        equalities: the number of equations, at most n.
        inequalities: the number of rows of G.
        bounded: whether there are bounds of every variable: half of the ``dim - equalities - active
            inequalities`` free directions then end at one.
        condition: the condition number of Q, >= 1.
        scale: standard deviation of the coordinates of the start, about 0; with bounds it is moved inside.
        data: one program for all instances in place of random ones, a dict of arrays: ``Q`` (n, n) symmetric
            and positive definite, ``q`` (n,), ``A`` (k, n), ``b`` (k,), and where wanted ``G`` (p, n), ``h``
            (p,), ``lower`` and ``upper`` (n,). It gives ``dim`` and the counts; the solution is known where
            all constraints are equations. Rows of A that depend on each other are told by ``singular``.
        start, start_multipliers, nan, tolerance, ...: see :class:`optenvs.envs.constrained.base.Constrained`.

    Raises:
        ValueError: data of other shapes, a Q that is not symmetric or not positive definite, equations
            without a solution, bounds that leave nothing.
    """

    dim: int = 10
    equalities: int = 4
    inequalities: int = 0
    bounded: bool = False
    condition: float = 100.0
    scale: float = 1.0
    data: Any = None

    def __post_init__(self) -> None:
        check_whole("dim", self.dim, 1)
        for name in ("equalities", "inequalities"):
            check_whole(name, getattr(self, name), 0)
        check_finite("condition", self.condition, 1)
        check_finite("scale", self.scale, 0)
        if self.start is not None and self.scale != type(self).scale:
            raise ValueError(f"scale: {self.scale!r} would have no effect beside start=")
        if self.data is not None:
            self._check_data()
        elif self.equalities > self.dim:
            raise ValueError(f"equalities: expected at most dim = {self.dim}, got {self.equalities}")
        elif self.active > self.dim:
            raise ValueError(
                f"inequalities: {self.active} active constraints leave {self.dim} variables no freedom, "
                "expected at most dim"
            )
        if not self.count:
            raise ValueError("equalities, inequalities: expected one constraint at least, got none")
        super().__post_init__()

    def _check_data(self) -> None:
        for name in ("dim", "equalities", "inequalities", "bounded", "condition"):
            if getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name}: {getattr(self, name)!r} would have no effect beside data=")
        given = self._given_data
        Q = given["Q"]
        skew = float((Q - Q.mT).abs().max())
        if skew > 1e-12 * float(Q.abs().max()):
            raise ValueError(f"data: Q: expected a symmetric matrix, got one off by {skew:.3g}")
        if torch.linalg.cholesky_ex(Q).info:
            raise ValueError("data: Q: expected a positive definite matrix, got another")
        consistent("data: A, b", given["A"], given["b"])

    @cached_property
    def _given_data(self) -> dict[str, Tensor]:
        """The arrays of ``data`` in float64 on the host, all of them."""
        given = arrays("data", self.data, _MATRICES, _MORE)
        n = _variables(given)
        given.setdefault("G", torch.zeros(0, n, dtype=torch.float64))
        given.setdefault("h", torch.zeros(0, dtype=torch.float64))
        given.setdefault("lower", torch.full((n,), -math.inf, dtype=torch.float64))
        given.setdefault("upper", torch.full((n,), math.inf, dtype=torch.float64))
        square, row = f"({n}, {n})", f"({n},)"
        shapes = {"Q": square, "q": row, "A": f"(k, {n})", "G": f"(p, {n})", "lower": row, "upper": row}
        for name, shape in shapes.items():
            came = tuple(given[name].shape)
            if not n or len(came) != 1 + (shape != row) or came[-1] != n or (name == "Q" and came[0] != n):
                raise ValueError(f"data: {name}: expected shape {shape}, got {came}")
        for name, rows in (("b", "A"), ("h", "G")):
            count, came = len(given[rows]), tuple(given[name].shape)
            if came != (count,):
                raise ValueError(
                    f"data: {name}: expected shape {(count,)}, one for each row of {rows}, got {came}"
                )
        limits("data: lower, upper", given["lower"], given["upper"])
        return given

    @property
    def active(self) -> int:
        """How many constraints hold with equality at the solution, of drawn programs."""
        rows = self.equalities + (self.inequalities + 1) // 2
        return rows + (self._fixed if self.bounded else 0)

    @property
    def _fixed(self) -> int:
        """How many variables of the solution lie at a bound."""
        return max(self.dim - self.equalities - (self.inequalities + 1) // 2, 0) // 2

    @property
    def size(self) -> int:
        return self.dim if self.data is None else len(self._given_data["q"])

    @property
    def equality_count(self) -> int:
        return self.equalities if self.data is None else len(self._given_data["b"])

    @property
    def inequality_count(self) -> int:
        return self.inequalities if self.data is None else len(self._given_data["h"])

    @property
    def known_bounds(self) -> tuple[Tensor, Tensor] | None:
        return None if self.data is None else (self._given_data["lower"], self._given_data["upper"])

    def draw(self, keys: Keys) -> Draw:
        return self._drawn(keys) if self.data is None else self._copied(keys)

    def _drawn(self, keys: Keys) -> Draw:
        n, k, p, dtype = self.dim, self.equalities, self.inequalities, self.torch_dtype
        turn = orthogonal(keys, "directions", n, dtype=dtype)
        place = torch.linspace(0, 1, n, dtype=dtype, device=keys.device)
        Q = (turn * self.condition**-place) @ turn.mT
        Q = (Q + Q.mT) / 2
        J = normal(keys, "rows", (k + p, n), dtype=dtype)
        optimum = normal(keys, "optimum", n, dtype=dtype)
        size = uniform(keys, "multipliers", k + p, dtype=dtype, low=0.5, high=1.5)
        tight = torch.arange(k + p, device=keys.device) < k + (p + 1) // 2
        equal = torch.arange(k + p, device=keys.device) < k
        multipliers = torch.where(equal, normal(keys, "forces", k + p, dtype=dtype), size * tight)
        t = times(J, optimum) + size * ~tight
        q = -times(Q, optimum) - (multipliers.unsqueeze(-2) @ J).squeeze(-2)
        start, lower, upper = self.scale * normal(keys, "start", n, dtype=dtype), None, None
        if self.bounded:
            room = uniform(keys, "room", (2, n), dtype=dtype, low=0.5, high=1.5)
            at = torch.arange(n, device=keys.device)
            low, high = at < (self._fixed + 1) // 2, (at >= (self._fixed + 1) // 2) & (at < self._fixed)
            lower = optimum - torch.where(low, 0.0, room[:, 0])
            upper = optimum + torch.where(high, 0.0, room[:, 1])
            q = q + torch.where(low, room[:, 0], 0.0) - torch.where(high, room[:, 1], 0.0)
            start = start.clamp(lower, upper)
        data = Program(Q=Q, q=q, J=J, t=t)
        return Draw(
            data=data,
            start=start,
            lower=lower,
            upper=upper,
            optimum=optimum,
            lowest=self.objective(data, optimum),
        )

    def _copied(self, keys: Keys) -> Draw:
        given = {name: part.to(keys.device, self.torch_dtype) for name, part in self._given_data.items()}
        rows = {name: part.expand(len(keys), *part.shape) for name, part in given.items()}
        data = Program(
            Q=rows["Q"],
            q=rows["q"],
            J=torch.cat((rows["A"], rows["G"]), 1),
            t=torch.cat((rows["b"], rows["h"]), 1),
        )
        start = self.scale * normal(keys, "start", self.size, dtype=self.torch_dtype)
        optimum = lowest = None
        if self._closed is not None:
            optimum = self._closed.to(start).expand_as(start)
            lowest = self.objective(data, optimum)
        start = start.clamp(rows["lower"], rows["upper"])
        return Draw(data, start, None, rows["lower"], rows["upper"], optimum, lowest)

    @cached_property
    def _closed(self) -> Tensor | None:
        """The solution of the data's program by its linear system, where there are equations alone."""
        given = self._given_data
        free = given["lower"].isinf().all() and given["upper"].isinf().all()
        if len(given["h"]) or not free:
            return None
        n, k = len(given["q"]), len(given["b"])
        system = torch.zeros(n + k, n + k, dtype=torch.float64)
        system[:n, :n], system[n:, :n], system[:n, n:] = given["Q"], given["A"], given["A"].mT
        # rows of A may depend on each other: then the multipliers are not unique, and x is
        return (torch.linalg.pinv(system) @ torch.cat((-given["q"], given["b"])))[:n]

    def objective(self, data: Program, x: Tensor) -> Tensor:
        return self.objective_slope(data, x)[0]

    def constraints(self, data: Program, x: Tensor) -> Tensor:
        return times(data.J, x) - data.t

    def objective_slope(self, data: Program, x: Tensor) -> tuple[Tensor, Tensor]:
        turned = times(data.Q, x)
        return torch.linalg.vecdot(x, turned / 2 + data.q), turned + data.q

    def constraint_slopes(self, data: Program, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.constraints(data, x), data.J

    def lagrangian_hessian(self, data: Program, x: Tensor, multipliers: Tensor | None) -> Tensor:
        return data.Q

    def hessian_product(self, data: Program, x: Tensor, multipliers: Tensor, vector: Tensor) -> Tensor:
        return times(data.Q, vector)


def _variables(given: dict[str, Tensor]) -> int:
    """The number of variables by most of the arrays; one that says another is the wrong one."""
    ends = {"Q": 2, "q": 1, "A": 2, "G": 2, "lower": 1, "upper": 1}
    said = [
        given[name].shape[-1] for name, axes in ends.items() if name in given and given[name].ndim == axes
    ]
    return Counter(said).most_common(1)[0][0] if said else 0
