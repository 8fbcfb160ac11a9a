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


MEANINGS = {
    "x": "the point asked, which is judged",
    "multipliers": "of the constraints, in the Lagrangian and where the point is judged; zeros for none",
    "vector": "what the Jacobian and the Hessian are multiplied by",
    "covector": "what the transposed Jacobian is multiplied by",
    "constraints": "c(x): the equations, then the inequalities, satisfied where <= 0",
    "jacobian": "the gradients of the constraints, as rows",
    "objective_hessian": "the Hessian of the objective",
    "hessian": "the Hessian of the Lagrangian",
    "jacobian_product": "the Jacobian's product with the vector",
    "adjoint_product": "the transposed Jacobian's product with the covector",
    "hessian_product": "the product of the Lagrangian's Hessian with the vector",
    "kkt": "the residual of the conditions of Karush, Kuhn and Tucker, at the multipliers given, if any",
    "least_squares_kkt": "the same at least-squares multipliers",
    "stationarity": "the part of the residual that the gradient of the Lagrangian leaves",
    "feasibility": "the norm of the violated constraints and bounds",
    "complementarity": "multipliers of inequalities that are negative, or positive where there is slack",
    "singular": "1 where the gradients of the active constraints depend on each other",
    "gap": "the true objective less its least value among feasible points",
}
"""What the fields of this family mean."""
