"""What a constrained program is made of: one drawn, what an agent may know of it, and what it may not."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from optenvs.core.menu import Offer
from optenvs.core.struct import static, struct


@struct
class Draw:
    """One program a key.

    Attributes:
        data: whatever the objective and the constraints need besides the point; leading dimension ``B``.
        start: where an algorithm begins, ``(B, n)``.
        multipliers: with what it begins there, ``(B, m)``; ``None`` for zeros.
        lower, upper: the bounds, ``(B, n)`` each; ``None`` for none.
        optimum: the global minimiser ``(B, n)``, or ``None`` where none is known.
        lowest: the minimum ``(B,)``, or ``None``.
        notes: what the metrics say of the instance itself, by name, ``(B,)`` each.
    """

    data: Any
    start: Float[Tensor, "B n"]
    multipliers: Float[Tensor, "B m"] | None = None
    lower: Float[Tensor, "B n"] | None = None
    upper: Float[Tensor, "B n"] | None = None
    optimum: Float[Tensor, "B n"] | None = None
    lowest: Float[Tensor, "B"] | None = None
    notes: Any = None


@struct
class Problem:
    """What an agent may know.

    Attributes:
        lower, upper: the bounds of ``x``, ``(B, n)`` each; infinite where there are none.
        lambda0: the multipliers to begin with, ``(B, m)``.
        bounded: whether there are any.
        equalities: how many of the m constraints are equations c = 0; those after them are c <= 0.
        menu: what can be asked.
    """

    lower: Float[Tensor, "B n"]
    upper: Float[Tensor, "B n"]
    lambda0: Float[Tensor, "B m"]
    bounded: bool = static()
    equalities: int = static()
    menu: Offer = static()


@struct
class Hidden:
    """What it may not: the program's data, and where its minimum is; see :class:`Draw`."""

    data: Any
    optimum: Float[Tensor, "B n"] | None
    lowest: Float[Tensor, "B"] | None
    notes: Any
