"""What the two methods on the l1 merit function share: f + mu |c|_1, and steps by GMRES on the Newton system.

The reduction that the model promises of a direction, and its slope, with norms |.|_1:

    reduction = -grad f'dx - max(dx'B dx / 2, 0) + mu (|c| - |G dx + c|)
    slope     =  grad f'dx - mu (|c| - |G dx + c|)

GMRES makes some products a call, and begins again where it was. Where a call has hardly lowered the
residual (that of a few products can stand still for ever), it makes twice as many from then on, at most n +
m, until the system changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import rows, struct, tree_map

from ..asking import Notes
from ..core import require
from ._search import LineSearch, SearchState
from ._system import System, dot, system
from .gmres import gmres, length_of, times

_HARDLY = 1e-3
"""A call that lowers the residual by less than this share has hardly lowered it."""
MOST = 1e8
"""Of the penalty, where it grows no more."""


@struct
class Inner:
    """GMRES under way.

    Attributes:
        z, residual: where it is, and A z - b, ``(B, N)`` each.
        length: products of the next call, ``(B,)``.
        products: made so far, ``(B,)``.
        stuck: whether a call of n + m products has hardly lowered the residual, ``(B,)``.
    """

    z: Float[Tensor, "B N"]
    residual: Float[Tensor, "B N"]
    length: Int64[Tensor, "B"]
    products: Int64[Tensor, "B"]
    stuck: Bool[Tensor, "B"]


def inner(b: Float[Tensor, "B N"], products: int) -> Inner:
    """GMRES at z = 0."""
    none = torch.zeros_like(b[:, 0], dtype=torch.int64)
    return Inner(torch.zeros_like(b), -b, none + min(products, b.shape[1]), none, none > 0)


def call(at: Inner, A: Float[Tensor, "B N N"], b: Float[Tensor, "B N"], active: Bool[Tensor, "B"]) -> Inner:
    """One call of GMRES in the active rows. Only they are computed."""
    if bool(active.all()):
        return _call(at, A, b)
    place = active.nonzero().squeeze(-1)
    if not len(place):
        return at
    after = _call(*rows((at, A, b), place))
    return tree_map(lambda whole, part: whole.index_copy(0, place, part), at, after)


def _call(at: Inner, A: Float[Tensor, "B N N"], b: Float[Tensor, "B N"]) -> Inner:
    whole, lengths = b.shape[1], at.length.aminmax()
    step, _ = gmres(A, at.residual, at.length, int(lengths.max), int(lengths.min))
    z = at.z + step
    residual = times(A, z) - b
    hardly = ~(length_of(residual) < (1 - _HARDLY) * length_of(at.residual))
    return Inner(
        z=z,
        residual=residual,
        length=torch.where(hardly, (2 * at.length).clamp_max(whole), at.length),
        products=at.products + at.length,
        stuck=at.stuck | (hardly & (at.length >= whole)),
    )


@dataclass(frozen=True, eq=False)
class L1Search(LineSearch):
    """A method on f + mu |c|_1 for equations c(x) = 0."""

    products: int = 2
    mu: float = 1.0
    armijo: float = 1e-8
    xi: float = 0.1
    reduced: float | None = 1e-6
    singular: float = 1e-6

    on_host = True
    tried: ClassVar[tuple[str, ...]] = ("value", "constraints")
    counts = ("products", "reductions")

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.products, int) and not isinstance(self.products, bool)
        require(self, "products", whole and self.products >= 1, "a whole number >= 1")
        for field in ("mu", "xi"):
            require(self, field, getattr(self, field) > 0, "a number > 0")
        require(self, "singular", self.singular >= 0, "a number >= 0")

    def merit(self, state: SearchState, multipliers: Float[Tensor, "B m"]) -> Float[Tensor, "B"]:
        return self.penalised(state.notes, state.own.mu)

    def penalised(self, notes: Notes, mu: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The merit function at the last answers."""
        return notes["value"].squeeze(-1) + mu * one_norm(notes["constraints"])

    def system(self, state: SearchState) -> System:
        """The Newton system where it stands."""
        return system(state.notes, state.multipliers, self.xi, self.reduced)

    def work(self, at: System, found: Inner) -> dict[str, Any]:
        """What was done."""
        room = at.G.shape[-2] < at.G.shape[-1]
        return {"products": found.products, "reductions": int(self.reduced is not None and room)}


@struct
class Model:
    """What the l1 model says of a direction.

    Attributes:
        descent: grad f'dx, ``(B,)``.
        curved: max(dx'B dx / 2, 0), ``(B,)``.
        before, after: |c| and |G dx + c|, ``(B,)``.
    """

    descent: Float[Tensor, "B"]
    curved: Float[Tensor, "B"]
    before: Float[Tensor, "B"]
    after: Float[Tensor, "B"]

    def reduction(self, mu: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return mu * (self.before - self.after) - self.descent - self.curved

    def slope(self, mu: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.descent - mu * (self.before - self.after)

    def enough(self, mu: Float[Tensor, "B"], sigma: float) -> Bool[Tensor, "B"]:
        """Whether the reduction is the share of the infeasibility that is asked."""
        return self.reduction(mu) >= sigma * mu * torch.maximum(self.before, self.after - self.before)


def model(at: System, gradient: Float[Tensor, "B n"], z: Float[Tensor, "B N"]) -> Model:
    """The l1 model along z."""
    dx, _ = at.parts(z)
    return Model(
        descent=dot(gradient, dx),
        curved=(dot(dx, times(at.B, dx)) / 2).clamp_min(0),
        before=one_norm(at.c),
        after=one_norm(times(at.G, dx) + at.c),
    )


def one_norm(vector: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """The sum of the absolute values."""
    return vector.abs().sum(-1)
