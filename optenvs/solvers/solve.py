"""Let a solver that calls back solve one instance, whatever scipy or IPOPT say of their success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from optenvs.core.given import is_number

from .functions import Functions
from .scipy_forms import IPOPT_METHOD, check, keywords, method_of, multipliers_of
from .shown import Shown

IPOPT = "ipopt"
_NOTHING, _FAILED, SPENT = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver has found.

    Attributes:
        x: the point, ``(n,)``.
        multipliers: of the constraints, ``(m,)``, in the signs of value + multipliers' constraints; ``None``
            where the solver has none.
        status: the solver's own number; -1 where no coordinate could move, -2 where its arithmetic failed, -3
            where the budget ended it.
        message: in the solver's own words.
        result: all that the solver returned; ``None`` where it returned nothing.
        merit: the environment's, where it was asked.
        success: whether the environment calls it solved. What the solver says of its success is in
            ``result``: an infeasible point may be one to it.
    """

    x: Float[np.ndarray, "n"]
    multipliers: Float[np.ndarray, "m"] | None
    status: int
    message: str
    result: Any = None
    merit: float | None = None
    success: bool = False


def solve(
    functions: Functions,
    method: str,
    *,
    start: np.ndarray | None = None,
    tol: float | None = None,
    hessian: str = "auto",
    bounded: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Solution:
    """Solve one instance by a method of scipy's, or by IPOPT.

    A start outside of the box is brought to its border; coordinates whose bounds are equal stay there.

    Args:
        functions: the problem.
        method: a name of ``scipy.optimize.minimize``, or ``ipopt``.
        start: where to begin, in place of the problem's own start. The multipliers to begin with are
            ``functions.multipliers``, of which IPOPT makes use.
        tol: the solver's tolerance; ``None`` for its own default.
        hessian: where curvature comes from, see :data:`optenvs.solvers.scipy_forms.HESSIANS`.
        bounded: whether the box that the problem names is kept, where the method can.
        options: the solver's own.

    Raises:
        ValueError, OracleMismatch: the method does not fit the problem, or ``tol`` or an option is none.
        BudgetSpent: the budget is used up.
        ImportError: the solver is not there.
    """
    if tol is not None and not (is_number(tol) and tol > 0):
        raise ValueError(f"tol: expected a number > 0 or None, got {tol!r}")
    spec = None if method.lower() == IPOPT else method_of(method)
    check(functions, IPOPT_METHOD if spec is None else spec, bounded, hessian)
    begin = functions.start if start is None else np.asarray(start, np.float64)
    bounded = bounded and (spec is None or spec.bounds)
    shown = Shown(functions, begin, bounded, honest=spec is None or spec.own_nan)
    if not len(shown.start):
        return Solution(shown.point(shown.start), None, _NOTHING, "the bounds leave nothing to choose")
    try:
        if spec is None:
            from .ipopt import check_options, run

            check_options(options or {})
            x, multipliers, status, message, result = run(shown, tol, hessian, dict(options or {}))
        else:
            result = _minimize(shown, spec.name, tol, hessian, dict(options or {}))
            x, multipliers = result.x, multipliers_of(shown, spec.name, result)
            status, message = int(result.status), str(result.message)
    except (np.linalg.LinAlgError, ArithmeticError) as error:
        return Solution(shown.point(shown.start), None, _FAILED, f"{type(error).__name__}: {error}")
    return Solution(shown.point(x), multipliers, status, message, result)


def _minimize(shown: Shown, method: str, tol: float | None, hessian: str, options: dict[str, Any]) -> Any:
    """The result of scipy's ``minimize``."""
    from scipy.optimize import minimize

    asked = keywords(shown, method, hessian)
    if method == "trust-constr" and shown.count:

        def note(intermediate_result: Any) -> None:
            shown.multipliers = intermediate_result["v"][0]

        asked["callback"] = note
        if shown.equalities > len(shown.start):  # its default takes no more equations than coordinates
            options = {"factorization_method": "SVDFactorization"} | options
    return minimize(x0=shown.start.copy(), tol=tol, options=options, **asked)
