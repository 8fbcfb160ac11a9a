"""What a landscape is made of: a function drawn, what an agent may know of it, and what it may not."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Float
from torch import Tensor

from optenvs.core.menu import Offer
from optenvs.core.struct import static, struct


@struct
class Draw:
    """One function a key, before shift and rotation.

    Attributes:
        start: where an algorithm begins, ``(B, n)``.
        optimum: a global minimiser ``(B, n)``, or ``None`` where none is known.
        lowest: the minimum, ``(B,)``, or ``None``.
        coefficients: whatever :meth:`Landscape.value` needs besides the point.
        metric: of the norm in which the function is smooth, ``(B, n, n)``; ``None`` for the Euclidean.
    """

    start: Float[Tensor, "B n"]
    optimum: Float[Tensor, "B n"] | None = None
    lowest: Float[Tensor, "B"] | None = None
    coefficients: Any = None
    metric: Float[Tensor, "B n n"] | None = None


@struct
class Problem:
    """What an agent may know of a landscape: the box in which its features lie, ``(B, n)`` each.

    Attributes:
        menu: with ``oracle="hessian"``, what can be asked.
        metric: B of the norm ``|x| = (x' B x)^(1/2)`` in which the function is smooth, positive definite,
            ``(B, n, n)``, in the coordinates of the query; ``None`` for the Euclidean norm.
    """

    lower: Float[Tensor, "B n"]
    upper: Float[Tensor, "B n"]
    menu: Offer | None = static(default=None, kw_only=True)
    metric: Float[Tensor, "B n n"] | None = dataclasses.field(default=None, kw_only=True)


@struct
class Hidden:
    """What it may not: the function, and the optimum in the coordinates of the query.

    A query ``x`` is the point ``z = pivot + rotation' (x - pivot - shift)`` of the unmoved function.
    """

    optimum: Float[Tensor, "B n"] | None
    lowest: Float[Tensor, "B"] | None
    coefficients: Any
    pivot: Float[Tensor, "B n"] | None
    shift: Float[Tensor, "B n"] | None
    rotation: Float[Tensor, "B n n"] | None


def turned(
    matrix: Float[Tensor, "B n n"] | None, rotation: Float[Tensor, "B n n"] | None
) -> Float[Tensor, "B n n"] | None:
    """The matrix of a quadratic form of the unmoved function, in the coordinates of the query."""
    return matrix if matrix is None or rotation is None else rotation @ matrix @ rotation.mT
