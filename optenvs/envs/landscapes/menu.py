"""The menu of a landscape: value, gradient, Hessian-vector product and Hessian at a point, as wanted."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from optenvs.core.env import State
from optenvs.core.menu import Kind, Query
from optenvs.core.oracles import hessian, hvp


def kinds(
    dim: int, looked: Callable[[State, Query], dict[str, Tensor]], exact: bool, curved: bool = True
) -> dict[str, Kind]:
    """The kinds of a landscape of ``dim`` coordinates.

    Args:
        dim: n.
        looked: the answers that a query needs, by kind.
        exact: whether values and gradients have no noise, so that the slopes are those of the answers.
        curved: whether the Hessian is that of the function, and no approximation.
    """

    def kind(
        name: str,
        shape: tuple[int, ...],
        slope_of: str | None = None,
        times: str | None = None,
        dear: bool = False,
    ) -> Kind:
        at = ("point",) if times is None else ("point", times)
        return Kind(
            shape,
            lambda state, query: query.once("look", lambda: looked(state, query))[name],
            at=at,
            slope_of=slope_of if exact else None,
            times=times,
            dear=dear,
        )

    slope = "gradient" if curved else None
    return {
        "value": kind("value", (1,)),
        "gradient": kind("gradient", (dim,), "value"),
        "hvp": kind("hvp", (dim,), slope, "vector"),
        "hessian": kind("hessian", (dim, dim), slope, dear=True),
    }


def look(
    value: Callable[[Tensor], Tensor], slopes: Callable[[Tensor], tuple[Tensor, Tensor]], query: Query
) -> tuple[Tensor, dict[str, Tensor]]:
    """The value ``(B,)``, and of the other kinds what the query needs.

    Args:
        value: the function.
        slopes: the function with its gradient.
        query: what is asked.
    """
    point, wanted = query["point"], query.kinds
    found: dict[str, Tensor] = {}
    if "hessian" in wanted:
        answer, found["gradient"], found["hessian"] = hessian(slopes, point, written=True)
        if "hvp" in wanted:
            found["hvp"] = (found["hessian"] @ query["vector"].unsqueeze(-1)).squeeze(-1)
    elif "hvp" in wanted:
        answer, found["gradient"], found["hvp"] = hvp(slopes, point, query["vector"], written=True)
    elif "gradient" in wanted:
        answer, found["gradient"] = slopes(point)
    else:
        answer = value(point)
    return answer, found
