"""The sets of a two-level problem as agents know them: projections onto X, Y, C, Z, never billed.

``problem.geometry`` is one of these. Projections are the agent's own work: it counts them on its ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.contents import digest
from optenvs.core.linear import times
from optenvs.core.struct import static, struct


@struct
class Geometry:
    """X = R^n, Y = R^m. A family with sets of its own overrides what it can project onto, and says so.

    Attributes:
        equal: which constraints are equalities g = 0; the others are g <= 0, ``(B, p)``.
        bound: r of Z = [0, r] for an inequality's multiplier, [-r, r] for an equality's, ``(B,)``; may be
            infinite.
    """

    equal: Bool[Tensor, "B p"]
    bound: Float[Tensor, "B"]

    @property
    def free(self) -> bool:
        """Whether X = R^n and Y = R^m."""
        return True

    @property
    def lower_free(self) -> bool:
        """Whether Y = R^m."""
        return True

    @property
    def has(self) -> tuple[str, ...]:
        """What is known beside the projections onto X, Y, Z: of ``joint``, ``feasible`` and ``jacobian``.

        Without constraints the first two are the projections onto X and Y.
        """
        return () if self.equal.shape[1] else ("joint", "feasible")

    def upper(self, x: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        """The nearest point of X."""
        return x

    def lower(self, y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """The nearest point of Y."""
        return y

    def joint(
        self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        """The nearest pair of C = {(x, y) in X x Y : the constraints hold}.

        Raises:
            NotImplementedError: nobody knows it; see :attr:`has`.
        """
        self._without_constraints("joint")
        return self.upper(x), self.lower(y)

    def feasible(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """The nearest point to ``y`` of {y in Y : the constraints hold at this ``x``}.

        Raises:
            NotImplementedError: nobody knows it; see :attr:`has`.
        """
        self._without_constraints("feasible")
        return self.lower(y)

    def multipliers(
        self, z: Float[Tensor, "B p"], bound: float | Float[Tensor, "B 1"] | None = None
    ) -> Float[Tensor, "B p"]:
        """The nearest point of Z; with another ``bound`` r than the problem's, where one is given."""
        r = self.bound.unsqueeze(-1) if bound is None else torch.as_tensor(bound).to(z)
        return z.maximum(torch.where(self.equal, -r, torch.zeros_like(r))).minimum(r)

    def astray(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        """How far x is from X and y from Y, together."""
        off = torch.cat((x - self.upper(x), y - self.lower(y)), -1)
        return torch.linalg.vector_norm(off, dim=-1)

    def violation(self, g: Float[Tensor, "B p"]) -> Float[Tensor, "B"]:
        """The largest |g| of equalities and max(g, 0) of inequalities; 0 without constraints."""
        if not g.shape[1]:
            return g.sum(-1)
        return torch.where(self.equal, g.abs(), g.clamp_min(0)).amax(-1)

    def _without_constraints(self, name: str) -> None:
        if name not in self.has:
            raise NotImplementedError(f"{type(self).__name__}: the projection {name!r} is not known")


@struct
class Balance(Geometry):
    """One equality: the sum of all coordinates of x and y is 0."""

    def violation(self, g: Float[Tensor, "B 1"]) -> Float[Tensor, "B"]:
        return g.abs().squeeze(-1)

    @property
    def has(self) -> tuple[str, ...]:
        return ("joint", "feasible", "jacobian")

    def jacobian(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B 1 nm"]:
        """The constraint's Jacobian by (x, y)."""
        return torch.ones_like(torch.cat((x, y), -1)).unsqueeze(1)

    def joint(
        self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        mean = (x.sum(-1, True) + y.sum(-1, True)) / (x.shape[-1] + y.shape[-1])
        return x - mean, y - mean

    def feasible(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        return y - (x.sum(-1, True) + y.sum(-1, True)) / y.shape[-1]


@struct
class Cubes(Geometry):
    """One equality: the sum of the cubes of x and of all coordinates of y is 0; C is not convex."""

    @property
    def has(self) -> tuple[str, ...]:
        return ("feasible", "jacobian")

    def jacobian(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B 1 nm"]:
        """The constraint's Jacobian by (x, y)."""
        return torch.cat((3 * x**2, torch.ones_like(y)), -1).unsqueeze(1)

    def feasible(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        return y - ((x**3).sum(-1, True) + y.sum(-1, True)) / y.shape[-1]


@struct
class Affine(Geometry):
    """Equalities H x + A y = b, and X = {x : E x = 0}.

    Attributes:
        by_x, by_y: H ``(B, p, n)`` and A ``(B, p, m)``.
        right: b, ``(B, p)``.
        along: the orthogonal projector onto X, ``(B, n, n)``.
        inverse: the pseudo-inverse of A, ``(B, m, p)``.
        rows: E and (H, A) as orthonormal rows, ``(B, q, n + m)``: C is {u : rows u = place}.
        place: ``(B, q)``.
    """

    by_x: Float[Tensor, "B p n"]
    by_y: Float[Tensor, "B p m"]
    right: Float[Tensor, "B p"]
    along: Float[Tensor, "B n n"]
    inverse: Float[Tensor, "B m p"]
    rows: Float[Tensor, "B q nm"]
    place: Float[Tensor, "B q"]

    @property
    def free(self) -> bool:
        return False

    @property
    def has(self) -> tuple[str, ...]:
        return ("joint", "feasible", "jacobian")

    def jacobian(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B p nm"]:
        """The constraints' Jacobian by (x, y)."""
        return torch.cat((self.by_x, self.by_y), -1)

    def value(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B p"]:
        """The constraints g(x, y)."""
        return times(self.by_x, x) + times(self.by_y, y) - self.right

    def upper(self, x: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        return times(self.along, x)

    def joint(
        self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        both = torch.cat((x, y), -1)
        both = both - times(self.rows.mT, times(self.rows, both) - self.place)
        return both[:, : x.shape[1]], both[:, x.shape[1] :]

    def feasible(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        return y - times(self.inverse, self.value(x, y))


_PROJECTIONS: dict[str, dict[str, Callable[..., Any]]] = {}
"""Projections of users, by the digest of what they are made of: a state names them, and holds none."""


def keep(projections: Mapping[str, Callable[..., Any]]) -> str:
    """The name under which :class:`Given` finds these functions in this process.

    Args:
        projections: of one instance's points, by ``upper``, ``lower``, ``joint`` and ``feasible``.
    """
    token = digest(dict(projections))
    _PROJECTIONS[token] = dict(projections)
    return token


@struct
class Given(Geometry):
    """Projections that a user has written, of one instance each.

    Attributes:
        token: their name, see :func:`keep`. A state that is read in another process finds them once its
            environment has been made there.
    """

    token: str = static()

    @property
    def _own(self) -> dict[str, Callable[..., Any]]:
        if self.token not in _PROJECTIONS:
            raise RuntimeError(
                "geometry: its projections are not in this process; make the environment first"
            )
        return _PROJECTIONS[self.token]

    @property
    def free(self) -> bool:
        return not {"upper", "lower"} & set(self._own)

    @property
    def lower_free(self) -> bool:
        return "lower" not in self._own

    @property
    def has(self) -> tuple[str, ...]:
        if not self.equal.shape[1]:
            return ("joint", "feasible")
        return tuple(name for name in ("joint", "feasible") if name in self._own)

    def upper(self, x: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        return torch.func.vmap(self._own["upper"])(x) if "upper" in self._own else x

    def lower(self, y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        return torch.func.vmap(self._own["lower"])(y) if "lower" in self._own else y

    def joint(
        self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        if "joint" not in self._own:
            return Geometry.joint(self, x, y)
        return torch.func.vmap(self._own["joint"])(x, y)

    def feasible(self, x: Float[Tensor, "B n"], y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        if "feasible" not in self._own:
            return Geometry.feasible(self, x, y)
        return torch.func.vmap(self._own["feasible"])(x, y)


def affine(
    by_x: Float[Tensor, "B p n"],
    by_y: Float[Tensor, "B p m"],
    right: Float[Tensor, "B p"],
    flat: Float[Tensor, "B e n"],
    bound: Float[Tensor, "B"],
) -> Affine:
    """The geometry of H x + A y = b with X = {x : E x = 0}.

    Args:
        by_x: H.
        by_y: A, with independent rows.
        right: b.
        flat: E.
        bound: r.
    """
    batch, _, n = by_x.shape
    free = torch.eye(n, dtype=by_x.dtype, device=by_x.device).expand(batch, n, n)
    below = torch.cat((flat, torch.zeros_like(flat[:, :, :1]).expand(-1, -1, by_y.shape[-1])), -1)
    every = torch.cat((below, torch.cat((by_x, by_y), -1)), 1)
    place = torch.cat((torch.zeros_like(flat[:, :, 0]), right), -1)
    # orthonormal bases of the rows of E, and of all rows: every u = place is Q' u = R'^{-1} place
    basis, _ = torch.linalg.qr(flat.mT)
    rows, triangle = torch.linalg.qr(every.mT)
    held = torch.linalg.solve_triangular(triangle.mT, place.unsqueeze(-1), upper=False).squeeze(-1)
    return Affine(
        equal=torch.ones_like(right, dtype=torch.bool),
        bound=bound,
        by_x=by_x,
        by_y=by_y,
        right=right,
        along=free - basis @ basis.mT,
        inverse=torch.linalg.pinv(by_y),
        rows=rows.mT,
        place=held,
    )
