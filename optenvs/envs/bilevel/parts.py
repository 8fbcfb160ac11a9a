"""What a two-level problem is made of: its functions drawn, what an agent may know, what it may not."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.menu import Offer
from optenvs.core.struct import static, struct

from .geometry import Geometry


class Sizes(NamedTuple):
    """The numbers of upper variables, lower variables and lower constraints."""

    n: int
    m: int
    p: int


class Solution(NamedTuple):
    """An exact solution of the lower problem at some x.

    Attributes:
        y: y*(x), ``(B, m)``; where there are several, that of the least F.
        multipliers: of the constraints there, ``(B, p)``.
        steps: what finding it took, in the unit that the family bills, ``(B,)``; ``None`` for closed forms.
    """

    y: Float[Tensor, "B m"]
    multipliers: Float[Tensor, "B p"]
    steps: Int64[Tensor, "B"] | None = None


@struct
class Own:
    """What the functions of an instance depend on beside x and y.

    Attributes:
        known: the geometry, which agents know.
        data: what they do not know: whatever the family needs, tensors ``(B, ...)``.
    """

    known: Any
    data: Any


@struct
class Smoothness:
    """What agents are told of the functions, for their step sizes, ``(B,)`` each.

    Where no bound exists, or nobody knows one, the curvatures are those at the start; the family says so.

    Attributes:
        upper: the largest curvature of F by (x, y), in size.
        lower: that of f by (x, y).
        convexity: the least curvature of f by y, >= 0.
        jacobian: the largest singular value of the Jacobian of g by (x, y), or a bound of it; 1 without
            constraints.
    """

    upper: Float[Tensor, "B"]
    lower: Float[Tensor, "B"]
    convexity: Float[Tensor, "B"]
    jacobian: Float[Tensor, "B"]


@struct
class Draw:
    """One instance a key.

    Attributes:
        data: of :class:`Own`.
        geometry: X, Y, C and Z.
        smoothness: constants of the functions, or ``None`` where nobody knows them.
        x, y: the start, ``(B, n)`` and ``(B, m)``.
        best: the least Phi(x) = F(x, y*(x)) over X, ``(B,)``; ``None`` where nobody knows it.
    """

    data: Any
    geometry: Geometry
    smoothness: Smoothness | None
    x: Float[Tensor, "B n"]
    y: Float[Tensor, "B m"]
    best: Float[Tensor, "B"] | None = None


@struct
class Problem:
    """What an agent may know.

    Attributes:
        geometry: X, Y, C and Z, with projections onto them, see :class:`~.geometry.Geometry`.
        smoothness: constants for step sizes, or ``None``.
        menu: what can be asked.
        unique: whether the lower problem has one solution at each x; ``None`` where nobody knows.
        stochastic: whether answers rest on mini-batches, drawn anew at each query.
    """

    geometry: Geometry
    smoothness: Smoothness | None
    menu: Offer = static()
    unique: bool | None = static(default=None)
    stochastic: bool = static(default=False)


@struct
class Hidden:
    """What an agent may not know.

    Attributes:
        data: of :class:`Own`.
        best: the least Phi, ``(B,)``, or ``None``.
    """

    data: Any
    best: Float[Tensor, "B"] | None
