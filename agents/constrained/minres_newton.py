"""Newton's steps by MINRES, for equations that answer products with their Jacobian and Hessian alone.

The merit function L_eta, its penalties and the test of a direction are those of AdaSketch-Newton (Hong, Na,
Mahoney and Kolar 2023, see :mod:`._merit`); MINRES (:mod:`.minres`) solves in the place of sketches, and no
matrix is made. One query is one product: with a vector and a covector the products of Jacobian, transposed
Jacobian and Hessian are together one with A = [[H + t I, G'], [G, 0]]. One round, from z = 0 and t = 0:

    MINRES until |A z - b| <= theta delta |b|
    while grad L_eta'z > -eta2/2 |b|^2, at most until eta1 > 1e8 or eta2 < 1e-8:
        where m < n and dx'(H + t I) dx < reduced |dx|^2:  t <- max(xi, 10 t), and again from z = 0
        else  eta1 <- nu^2 eta1,  eta2 <- eta2 / nu,  delta <- max(delta / nu^4, 1e-12), and go on
    x, multipliers <- x, multipliers + a z, by Armijo's rule

Here delta is the accuracy of the residual: the bound psi on the inverse of A, by which AdaSketch-Newton makes
it the direction's, needs matrices. Where the products end (``cap``, or the space of Krylov has no more), the
penalties are the first of which z is a direction of descent. The multipliers of a row whose b is not in the
range of A do not settle: it ends as ``singular``. A trial asks value, constraints, gradient and one product
with the transposed Jacobian. Products are on its own ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import replace, select, struct

from ..asking import Notes
from ..core import require
from ._merit import Penalties, Slopes, Squares, first_done, merit, most_changes, stricter
from ._rows import cat, look
from ._search import Direction, LineSearch, SearchState
from ._system import dot
from .gmres import length_of
from .minres import Minres, begin, minres

_FLOOR = 1e-12
"""Of delta."""
_GROWTH = 10.0
"""Of t."""


@struct
class Solving:
    """The system where it stands, and how far MINRES is.

    Attributes:
        penalties: of the merit function; its psi is 1.
        b: the right-hand side -(grad_x L, c), ``(B, N)``.
        inner: MINRES.
        made: products for this direction, ``(B,)``.
        solving: whether there is a system, ``(B,)``.
    """

    penalties: Penalties
    b: Float[Tensor, "B N"]
    inner: Minres
    made: Int64[Tensor, "B"]
    solving: Bool[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class MinresNewton(LineSearch):
    """Newton's steps by MINRES on products.

    Args:
        tolerance: |(grad_x L, c)| at which it finishes by itself. By default it leaves that to the problem,
            and goes on as far as rounding lets it.
        cap: the most products for a direction.
        eta1, eta2: the penalties at the beginning.
        delta: the residual of a direction as a share of |b|, at the beginning.
        nu: how they change.
        armijo: of the line search, below 1/2.
        xi: the least shift t.
        theta: the share of delta; ``None`` for min(1, |b|), at which the steps converge superlinearly.
        reduced: the least curvature of a direction that does not fall without a shift; ``None`` for none.
    """

    cap: int = 10_000
    eta1: float = 1.0
    eta2: float = 0.1
    delta: float = 1e-4
    nu: float = 1.5
    xi: float = 0.1
    theta: float | None = 1.0
    reduced: float | None = 0.05

    tried: ClassVar[tuple[str, ...]] = ("value", "constraints", "gradient", "adjoint_product")
    counts = ("products",)
    needs = (
        "value",
        "constraints",
        "gradient",
        "jacobian_product",
        "adjoint_product",
        "hessian_product",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.cap, int) and not isinstance(self.cap, bool) and self.cap >= 1
        require(self, "cap", whole, "a whole number >= 1")
        for field in ("eta1", "eta2", "xi"):
            require(self, field, getattr(self, field) > 0, "a number > 0")
        require(self, "delta", 0 < self.delta < 1, "a number in (0, 1)")
        require(self, "nu", self.nu > 1, "a number > 1")
        require(self, "theta", self.theta is None or 0 < self.theta <= 1, "a number in (0, 1], or None")

    def begin(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Solving:
        one = torch.ones_like(multipliers[:, 0])
        b, none = (
            torch.zeros_like(cat(notes["gradient"], multipliers)),
            torch.zeros_like(one, dtype=torch.int64),
        )
        penalties = Penalties(self.eta1 * one, self.eta2 * one, self.delta * one, one, 0 * one)
        return Solving(penalties, b, begin(b), none, none > 0)

    def slope(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B n"]:
        return notes["gradient"] + notes["adjoint_product"]

    def slope_known(self, state: SearchState) -> Bool[Tensor, "B"]:
        at = {"x": state.x, "covector": state.multipliers}
        return state.notes.holds("adjoint_product", **at) & state.notes.holds("gradient", x=state.x)

    def merit(self, state: SearchState, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        c, slope = state.notes["constraints"], self.slope(state.notes, multipliers)
        lagrangian = state.notes["value"].squeeze(-1) + dot(multipliers, c)
        return merit(state.own.penalties, lagrangian, Squares.of(c, slope))

    def prepared(self, state: SearchState) -> tuple[SearchState, Bool[Tensor, "B"]]:
        resting = ~state.trying & ~state.finished
        told = resting & state.own.solving & self._told(state)
        fresh = resting & ~state.own.solving & self.slope_known(state)
        own: Solving = state.own
        if look(told).some:
            own = self._multiplied(state.notes, own, told)
        if look(fresh).some:
            own = self._begun(state.notes, own, fresh)
        here = told | fresh
        if not look(here).some:
            return state, here
        own, ready = self._tested(own, here, state.x.shape[1])
        return replace(state, own=own), ready

    def _told(self, state: SearchState) -> Bool[Tensor, "B"]:
        """Whether the last answer is the product that MINRES waits for."""
        vector, covector = self._parts(state.own.inner.vector, state.x.shape[1])
        at = {"x": state.x, "multipliers": state.multipliers, "vector": vector}
        held = state.notes.holds("hessian_product", **at)
        held = held & state.notes.holds("jacobian_product", x=state.x, vector=vector)
        return held & state.notes.holds("adjoint_product", x=state.x, covector=covector)

    def _parts(self, z: Float[Tensor, "B N"], n: int) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B m"]]:
        return z[:, :n], z[:, n:]

    def _multiplied(self, notes: Notes, own: Solving, told: Bool[Tensor, "B"]) -> Solving:
        """A step of MINRES further."""
        along = notes["hessian_product"] + notes["adjoint_product"]
        vector, _ = self._parts(own.inner.vector, along.shape[1])
        along = along + own.penalties.shift.unsqueeze(-1) * vector
        after = minres(own.inner, cat(along, notes["jacobian_product"]))
        return replace(own, inner=select(told, after, own.inner), made=own.made + told)

    def _begun(self, notes: Notes, own: Solving, fresh: Bool[Tensor, "B"]) -> Solving:
        """A new system."""
        b = -cat(notes["gradient"] + notes["adjoint_product"], notes["constraints"])
        penalties = replace(own.penalties, shift=torch.where(fresh, 0.0, own.penalties.shift))
        return Solving(
            penalties=penalties,
            b=select(fresh, b, own.b),
            inner=select(fresh, begin(b), own.inner),
            made=torch.where(fresh, 0, own.made),
            solving=own.solving | fresh,
        )

    def _slopes(self, own: Solving, n: int) -> tuple[Slopes, Float[Tensor, "B"], Float[Tensor, "B"]]:
        """The slope of L_eta along z, dx'(H + t I) dx and |dx|^2; the residual knows A z."""
        z, image = own.inner.z, own.b - own.inner.residual
        (dx, dmultipliers), (top, rate), (down, lack) = (self._parts(v, n) for v in (z, image, own.b))
        square = dot(dx, dx)
        turned = dot(down, top) - own.penalties.shift * dot(down, dx)  # down = -grad_x L, lack = -c
        slopes = Slopes(-dot(own.b, z), dot(lack, rate), turned)
        return slopes, dot(dx, top) - dot(dmultipliers, rate), square

    def _aim(self, own: Solving) -> Float[Tensor, "B"]:
        size = length_of(own.b)
        return own.penalties.delta * size * (size.clamp_max(1) if self.theta is None else self.theta)

    def _over(self, own: Solving) -> Bool[Tensor, "B"]:
        """Where there are no more products."""
        return own.inner.spent | (own.made >= self.cap)

    def _tested(self, own: Solving, here: Bool[Tensor, "B"], n: int) -> tuple[Solving, Bool[Tensor, "B"]]:
        """What follows from a step of MINRES, and where there is a direction."""
        over = self._over(own)
        met = here & ((own.inner.size <= self._aim(own)) | over)
        if not look(met).some:
            return own, met
        slopes, bend, square = self._slopes(own, n)
        whole, before = dot(own.b, own.b), own.penalties
        failed = met & ~slopes.done(before, whole)
        bent = failed & (own.made < self.cap) & self._bent(own, bend, square, n)
        last, _ = first_done(before, slopes, whole, self.nu, most_changes(self.eta1, self.eta2, self.nu))
        next_ = stricter(before, self.nu)
        next_ = replace(next_, delta=(before.delta / self.nu**4).clamp_min(_FLOOR))
        more = replace(before, shift=(_GROWTH * before.shift).clamp_min(self.xi))
        changed = select(bent, more, select(over, last, next_))
        penalties = select(failed, changed, before)
        inner = select(bent, begin(own.b), own.inner)
        return replace(own, penalties=penalties, inner=inner), met & (~failed | (over & ~bent))

    def _bent(self, own: Solving, bend: Tensor, square: Tensor, n: int) -> Bool[Tensor, "B"]:
        """Where a shift is tried."""
        if self.reduced is None or own.b.shape[1] >= 2 * n:
            return torch.zeros_like(own.solving)
        return bend < self.reduced * square

    def direction(self, state: SearchState, ready: Bool[Tensor, "B"]) -> Direction:
        own: Solving = state.own
        n = state.x.shape[1]
        down, lack = self._parts(own.b, n)
        slopes, _, _ = self._slopes(own, n)
        lagrangian = state.notes["value"].squeeze(-1) - dot(state.multipliers, lack)
        short = own.inner.size > self._aim(own)
        return Direction(
            z=own.inner.z,
            merit=merit(own.penalties, lagrangian, Squares.of(lack, down)),
            slope=slopes.at(own.penalties),
            own=replace(own, solving=own.solving & ~ready),
            singular=own.inner.spent & short,
            capped=short & ~own.inner.spent,
            work={"products": own.made},
        )

    def asked(
        self, state: SearchState, first: dict[str, Tensor] | None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        solving = ~state.trying & state.own.solving
        places = self.places(state, look(state.trying), state.multipliers, first)
        vector, covector = self._parts(state.own.inner.vector, state.x.shape[1])
        places["vector"] = vector.clone()
        places["covector"] = torch.where(solving.unsqueeze(-1), covector, places["multipliers"])
        products = ("jacobian_product", "hessian_product")
        wanted = {kind: solving if kind in products else ~solving for kind in self.needs}
        return wanted | {"adjoint_product": True}, places
