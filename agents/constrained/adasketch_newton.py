"""AdaSketch-Newton (Hong, Na, Mahoney and Kolar 2023): Newton's steps by sketches, as exact as needed.

The merit function is the exact augmented Lagrangian, on x and multipliers together:

    L_eta = f + multipliers'c + eta1/2 |c|^2 + eta2/2 |grad_x L|^2
    grad L_eta = ((I + eta2 H) grad_x L + eta1 G'c,  c + eta2 G grad_x L)

One round, at B = H + t I of the system A z = b (see :mod:`._system`), with

    psi = 20 max(|B|^2, 1) / (min(least eigenvalue of G G', 1) min(xi, 1)),   Upsilon = max(|G|, |H|, 1)
    delta <- min(delta, (1/2 - beta) eta2 / ((1 + eta1 + eta2) Upsilon^2 psi^2)),  at least 1e-6

    sketch z from 0 until |A| psi |A z - b| <= theta delta |b|
    while grad L_eta'z > -eta2/2 |b|^2, at most until eta1 > 1e8 or eta2 < 1e-8:
        eta1 <- nu^2 eta1,  eta2 <- eta2 / nu,  delta <- min(delta / nu^4, as above),  and sketch on
    x, multipliers <- x, multipliers + a z, by Armijo's rule with beta

eta1, eta2 and delta persist; z is kept where they change. psi bounds the inverse of A from far above, so that
the accuracy asked is 1e-9 or less, and the cap of sketches decides where A is badly conditioned. A trial asks
value, constraints, gradient and Jacobian, an accepted point the Hessian.

An exact solve needs neither psi nor delta, and does not compute them.

Sketches, factorisations (exact solves) and reductions (of the Hessian to the null space) are on its own
ledger. Unless ``solve`` is ``exact`` it computes on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import replace, select

from ..asking import Notes
from ..core import require
from ._merit import FLOOR, Penalties, Slopes, Squares, first_done, merit, most_changes, stricter
from ._rows import look, union
from ._search import Direction, LineSearch, SearchState
from ._system import System, dot, norm, system
from .gmres import length_of, times
from .sketching import WEIGHTS, Sketches, sketch_and_project

SOLVES = ("gaussian", "kaczmarz", "block", "exact")
HESSIANS = ("lagrangian", "objective")
STARTS = ("residual", "published")
_Found = tuple[Tensor, Tensor, Penalties, dict[str, int | Tensor], Tensor | None]
"""A direction, the slope along it, penalties, what was done, and where sketches fell short."""


class Here(NamedTuple):
    """What the merit function is made of: grad_x L, the Lagrangian, and squares."""

    slope: Float[Tensor, "B n"]
    lagrangian: Float[Tensor, "B"]
    squares: Squares


@dataclass(frozen=True, eq=False)
class AdaSketchNewton(LineSearch):
    """AdaSketch-Newton; the defaults are the authors' for CUTEst.

    Args:
        tolerance: |(grad_x L, c)| at which it finishes by itself (the authors': 1e-4). By default it leaves
            that to the problem, and goes on as far as rounding lets it.
        solve: ``gaussian`` vectors, ``kaczmarz`` rows, ``block``s of Gaussian vectors, or ``exact``.
        block: how many vectors a block has.
        weights: of the rows: ``uniform`` or ``norms``, see :class:`agents.constrained.sketching.Sketches`.
        cap: the most sketches in a loop. The authors': 1e5, but 1e6 of Gaussian ones in their PDE problem.
        chunk: vectors or rows between two looks at the residual; 1 is the paper's.
        start: ``residual``, A z - b; or ``published``, whose first sketch takes b for the residual at z = 0.
        hessian: in grad L_eta: of the ``lagrangian``; or of the ``objective``, as the published code has it.
        eta1, eta2, delta: at the beginning.
        nu: how they change.
        armijo: beta, below 1/2.
        xi: xi_B, what the Hessian's modification adds to its norm.
        theta: the direction's relative error, in units of delta; ``None`` for min(1, |b|), at which the steps
            converge superlinearly.
        reduced: the least eigenvalue of the reduced Hessian without a modification. The authors': 1e-2 in
            logistic regression; ``None``, no modification, in the PDE problem.
        singular: the least eigenvalue of G G' with which it goes on.
    """

    solve: str = "gaussian"
    block: int = 8
    weights: str = "uniform"
    cap: int = 100_000
    chunk: int = 256
    start: str = "residual"
    hessian: str = "lagrangian"
    eta1: float = 1.0
    eta2: float = 0.1
    delta: float = 0.1
    nu: float = 1.5
    xi: float = 0.1
    theta: float | None = 1.0
    reduced: float | None = 1e-6
    singular: float = 1e-2

    counts = ("sketches", "factorisations", "reductions")

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, known in (
            ("solve", SOLVES),
            ("weights", WEIGHTS),
            ("start", STARTS),
            ("hessian", HESSIANS),
        ):
            require(self, field, getattr(self, field) in known, " or ".join(known))
        for field in ("block", "cap", "chunk"):
            value = getattr(self, field)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(self, field, whole, "a whole number >= 1")
        for field in ("eta1", "eta2", "delta", "xi"):
            require(self, field, getattr(self, field) > 0, "a number > 0")
        require(self, "nu", self.nu > 1, "a number > 1")
        require(self, "theta", self.theta is None or 0 < self.theta <= 1, "a number in (0, 1], or None")
        require(self, "singular", self.singular >= 0, "a number >= 0")

    @property
    def on_host(self) -> bool:  # type: ignore[override]
        return self.solve != "exact"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        more = ("objective_hessian",) if self.hessian == "objective" else ()
        return (*LineSearch.needs, *more)

    def begin(self, notes: Notes, multipliers: Float[Tensor, "B m"]) -> Penalties:
        one = torch.ones_like(multipliers[:, 0])
        return Penalties(self.eta1 * one, self.eta2 * one, self.delta * one, one, 0 * one)

    def merit(self, state: SearchState, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        return self.measured(state, multipliers)[0]

    def measured(
        self, state: SearchState, multipliers: Float[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B"], Here]:
        notes = state.notes
        c, slope = notes["constraints"], self.slope(notes, multipliers)
        lagrangian = notes["value"].squeeze(-1) + dot(multipliers, c)
        squares = Squares.of(c, slope)
        return merit(state.own, lagrangian, squares), Here(slope, lagrangian, squares)

    def direction(self, state: SearchState, ready: Bool[Tensor, "B"]) -> Direction:
        here: Here = state.here
        at = system(state.notes, state.multipliers, self.xi, self.reduced, here.slope)
        own = replace(state.own, shift=at.shift)
        if self.solve == "exact":
            singular, inner = union(at.dependent(self.singular)), self._exact
        else:
            singular, inner = ~(at.least >= self.singular), self._sketched
        ready = ready if singular is None else ready & ~singular
        z, slope, own, work, capped = inner(state, at, own, here.squares, ready)
        return Direction(
            z=z,
            merit=merit(own, here.lagrangian, here.squares),
            slope=slope,
            own=own,
            singular=singular,
            capped=capped,
            work=work | {"reductions": int(self.reduced is not None and _room(at))},
        )

    def _trial(self, own: Penalties, at: System) -> Float[Tensor, "B"]:
        """The accuracy at which the direction is one of descent."""
        upsilon = torch.maximum(norm(at.G), at.size).clamp_min(1)
        share = (0.5 - self.armijo) * own.eta2 / (1 + own.eta1 + own.eta2)
        return share / (upsilon * own.psi).square()

    def _slopes(self, state: SearchState, at: System, z: Tensor) -> Slopes:
        """The slope of L_eta along z."""
        dx, dmultipliers = at.parts(z)
        H = state.notes["objective_hessian"] if self.hessian == "objective" else at.H
        rate = times(at.G, dx)
        turned = times(H, dx) + times(at.G.mT, dmultipliers)
        return Slopes(dot(at.slope, dx) + dot(at.c, dmultipliers), -dot(at.c, rate), -dot(at.slope, turned))

    def _exact(
        self, state: SearchState, at: System, own: Penalties, squares: Squares, ready: Bool[Tensor, "B"]
    ) -> _Found:
        """The direction by factorisation, and the first penalties of which it is a direction of descent."""
        z, info = torch.linalg.solve_ex(at.A, at.b)
        if (failed := union(info != 0)) is not None:
            z = torch.where(failed.unsqueeze(-1), torch.nan, z)
        if self.hessian == "objective" or at.bent is not None:
            slopes = self._slopes(state, at, z)
        else:  # as A z = b says
            slopes = Slopes(dot(at.left, z), squares.c, squares.slope)
        most = most_changes(self.eta1, self.eta2, self.nu)
        own, slope = first_done(own, slopes, squares.both, self.nu, most)
        return z, slope, own, {"factorisations": 1 if look(ready).every else ready.long()}, None

    def _sketched(
        self, state: SearchState, at: System, own: Penalties, squares: Squares, ready: Bool[Tensor, "B"]
    ) -> _Found:
        """The direction by sketches."""
        psi = at.modified.square().clamp_min(1) / (at.least.clamp_max(1) * min(self.xi, 1.0))
        own = replace(own, psi=20 * psi)
        own = replace(own, delta=torch.minimum(own.delta, self._trial(own, at)).clamp_min(FLOOR))
        z, made, capped = torch.zeros_like(at.b), torch.zeros_like(state.iterations), torch.zeros_like(ready)
        before, size = state.work["sketches"], length_of(at.b)
        theta = size.clamp_max(1) if self.theta is None else self.theta
        scale, going = theta * size / (norm(at.A) * own.psi), ready
        slopes, sketches = self._slopes(state, at, z), self._sketches(self.start == "published")
        while bool(going.any()):
            target = scale * own.delta
            found = sketch_and_project(
                at.A,
                at.b,
                z,
                target,
                keys=state.keys,
                cap=self.cap,
                first=before + made,
                active=going,
                sketches=sketches,
            )
            z, made = found.z, made + found.sketches
            capped = capped | (going & (found.residual > target))
            slopes = self._slopes(state, at, z)
            going = going & ~slopes.done(own, squares.both)
            own = select(going, self._stricter(own, at), own)
            sketches = self._sketches(False)
        return z, slopes.at(own), own, {"sketches": made}, capped

    def _stricter(self, own: Penalties, at: System) -> Penalties:
        own = stricter(own, self.nu)
        delta = torch.minimum(own.delta / self.nu**4, self._trial(own, at))
        return replace(own, delta=delta.clamp_min(FLOOR))

    def _sketches(self, wrong_start: bool) -> Sketches:
        block = self.block if self.solve == "block" else 1
        return Sketches(
            kind="kaczmarz" if self.solve == "kaczmarz" else "gaussian",
            block=block,
            weights=self.weights,
            chunk=max(1, self.chunk // block),
            wrong_start=wrong_start,
        )


def _room(at: System) -> bool:
    """Whether there is a null space."""
    return at.G.shape[-2] < at.G.shape[-1]
