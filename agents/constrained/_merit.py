"""The exact augmented Lagrangian, on x and multipliers together, and penalties with which a direction falls.

    L_eta = f + multipliers'c + eta1/2 |c|^2 + eta2/2 |grad_x L|^2
    grad L_eta'z = grad_x L'dx + c'dmultipliers + eta1 c'G dx + eta2 grad_x L'(H dx + G'dmultipliers)

A direction z falls where grad L_eta'z <= -eta2/2 |b|^2, b = -(grad_x L, c); else eta1 <- nu^2 eta1 and
eta2 <- eta2 / nu, at most until eta1 > 1e8 or eta2 < 1e-8.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.struct import replace, struct

from ._rows import look
from ._system import dot

FLOOR, MOST, LEAST = 1e-6, 1e8, 1e-8
"""Of delta; where eta1 and eta2 are left as they are."""


@struct
class Penalties:
    """What persists between rounds.

    Attributes:
        eta1, eta2: the penalties of the merit function, ``(B,)``.
        delta: the accuracy that is asked of the direction, ``(B,)``.
        psi: the bound on the inverse of A in the last round, ``(B,)``; 1 where there is none.
        shift: t in the last round, ``(B,)``.
    """

    eta1: Float[Tensor, "B"]
    eta2: Float[Tensor, "B"]
    delta: Float[Tensor, "B"]
    psi: Float[Tensor, "B"]
    shift: Float[Tensor, "B"]


class Slopes(NamedTuple):
    """The slope along a direction, ``(B,)`` each: the part without eta, less eta1 and eta2 times the rest."""

    plain: Float[Tensor, "*B"]
    first: Float[Tensor, "*B"]
    second: Float[Tensor, "*B"]

    def at(self, own: Penalties) -> Float[Tensor, "*B"]:
        """The slope with these penalties."""
        slope = torch.addcmul(self.plain, own.eta1, self.first, value=-1)
        return torch.addcmul(slope, own.eta2, self.second, value=-1)

    def done(self, own: Penalties, square: Float[Tensor, "*B"]) -> Bool[Tensor, "*B"]:
        """Whether the direction falls, or the penalties change no more; ``square`` is |b|^2."""
        return falls(self.at(own), own, square) | (own.eta1 > MOST) | (own.eta2 < LEAST)


def falls(slope: Float[Tensor, "*B"], own: Penalties, square: Float[Tensor, "*B"]) -> Bool[Tensor, "*B"]:
    """Whether a direction with this slope falls; ``square`` is |b|^2."""
    return torch.addcmul(slope, own.eta2, square, value=0.5) <= 0


class Squares(NamedTuple):
    """|c|^2 and |grad_x L|^2, ``(B,)`` each."""

    c: Float[Tensor, "B"]
    slope: Float[Tensor, "B"]

    @classmethod
    def of(cls, c: Float[Tensor, "B m"], slope: Float[Tensor, "B n"]) -> Squares:
        return cls(dot(c, c), dot(slope, slope))

    @property
    def both(self) -> Float[Tensor, "B"]:
        """|b|^2."""
        return self.c + self.slope


def merit(own: Penalties, lagrangian: Float[Tensor, "B"], squares: Squares) -> Float[Tensor, "B"]:
    """L_eta."""
    feasible = torch.addcmul(lagrangian, own.eta1, squares.c, value=0.5)
    return torch.addcmul(feasible, own.eta2, squares.slope, value=0.5)


def stricter(own: Penalties, nu: float) -> Penalties:
    """The next penalties."""
    return replace(own, eta1=own.eta1 * nu**2, eta2=own.eta2 / nu)


def most_changes(eta1: float, eta2: float, nu: float) -> int:
    """How often penalties that begin with these can change."""
    first, second = math.log(MOST / eta1) / (2 * math.log(nu)), math.log(eta2 / LEAST) / math.log(nu)
    return max(0, math.ceil(min(first, second))) + 2


def first_done(
    own: Penalties, slopes: Slopes, square: Float[Tensor, "B"], nu: float, most: int
) -> tuple[Penalties, Float[Tensor, "B"]]:
    """The first of all the penalties to come that are done, in closed form, and the slope with them.

    Delta falls by nu^4 a time.

    Args:
        own: the penalties.
        slopes: along the direction.
        square: |b|^2.
        nu: how they change.
        most: of :func:`most_changes`.
    """
    slope = slopes.at(own)
    if look(falls(slope, own, square)).every:
        return own, slope
    j = torch.arange(most, dtype=square.dtype, device=square.device)
    later = replace(own, eta1=own.eta1.unsqueeze(-1) * nu ** (2 * j), eta2=own.eta2.unsqueeze(-1) * nu**-j)
    parts = (part.unsqueeze(-1).expand_as(later.eta1) for part in (*slopes, square))
    done = Slopes(next(parts), next(parts), next(parts)).done(later, next(parts))
    first = done.to(square.dtype).argmax(-1, keepdim=True)
    # the other bound on delta falls more slowly than by nu^-4, and is not met again
    delta = (own.delta.unsqueeze(-1) * nu ** (-4 * first)).clamp_min(FLOOR)
    own = replace(
        own,
        eta1=later.eta1.gather(-1, first).squeeze(-1),
        eta2=later.eta2.gather(-1, first).squeeze(-1),
        delta=delta.squeeze(-1),
    )
    return own, slopes.at(own)
