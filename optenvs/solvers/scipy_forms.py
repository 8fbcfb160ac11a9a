"""What ``scipy.optimize.minimize`` is given of a problem, by method, and what it says of the multipliers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from optenvs.core.errors import OracleMismatch, suggest

from .functions import Functions

HESSIANS = ("auto", "exact", "products", "none")
"""Where curvature comes from: what is answered; Hessians; their products with vectors; gradients alone."""


class Method(NamedTuple):
    """What a method can do.

    Attributes:
        name: as scipy writes it.
        gradient: whether it asks gradients, and Jacobians of constraints.
        hessian: the forms of curvature that it takes, of :data:`HESSIANS`; the first one answered is taken.
        bounds, constraints: whether it keeps them.
        own_nan: whether it can be told a value that is no number.
    """

    name: str
    gradient: bool = True
    hessian: tuple[str, ...] = ("none",)
    bounds: bool = False
    constraints: bool = False
    own_nan: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The oracles that it asks in any case, as agents say it."""
        found = ("value", "gradient") if self.gradient else ("value",)
        if "none" in self.hessian:
            return found
        forms = {"exact": "hessian", "products": "hessian_product|hvp"}
        return (*found, "|".join(forms[form] for form in self.hessian))

    @property
    def takes(self) -> tuple[str, ...]:
        """What of a problem it can do with, as agents say it."""
        return ("equations", "inequalities") * self.constraints + ("bounds",) * self.bounds


_EITHER = ("exact", "products")
METHODS = {
    method.name.lower(): method
    for method in (
        Method("Nelder-Mead", gradient=False, bounds=True, own_nan=True),
        Method("Powell", gradient=False, bounds=True),
        Method("CG"),
        Method("BFGS"),
        Method("Newton-CG", hessian=_EITHER),
        Method("L-BFGS-B", bounds=True),
        Method("TNC", bounds=True),
        Method("COBYLA", gradient=False, bounds=True, constraints=True, own_nan=True),
        Method("COBYQA", gradient=False, bounds=True, constraints=True, own_nan=True),
        Method("SLSQP", bounds=True, constraints=True),
        Method("trust-constr", hessian=(*_EITHER, "none"), bounds=True, constraints=True),
        Method("dogleg", hessian=("exact",)),
        Method("trust-ncg", hessian=_EITHER),
        Method("trust-krylov", hessian=_EITHER),
        Method("trust-exact", hessian=("exact",)),
    )
}
IPOPT_METHOD = Method("IPOPT", hessian=("exact", "none"), bounds=True, constraints=True, own_nan=True)
"""What IPOPT can do, which is none of scipy's."""


def method_of(name: Any) -> Method:
    """The method of a name, whose case does not matter.

    Raises:
        ValueError: scipy has no such method.
    """
    if not isinstance(name, str) or name.lower() not in METHODS:
        known = [method.name for method in METHODS.values()]
        raise ValueError(f"method: got {name!r}{suggest(str(name), known)}")
    return METHODS[name.lower()]


def curvature(functions: Functions, method: Method, hessian: str = "auto") -> str:
    """Where the curvature comes from: one of :data:`HESSIANS`, but for ``auto``.

    Raises:
        ValueError: the method does not take it.
        OracleMismatch: the problem does not answer it.
    """
    form = functions.form
    constrained = functions.count > 0
    answered = {
        "exact": functions.answers("hessian") and (form.lagrangian or not constrained),
        "products": form.product is not None and (form.product == "hessian_product" or not constrained),
        "none": True,
    }
    if hessian != "auto" and hessian not in method.hessian:
        taken = ", ".join(map(repr, ("auto", *method.hessian)))
        raise ValueError(f"hessian: {method.name} takes {taken}, got {hessian!r}")
    for found in method.hessian if hessian == "auto" else (hessian,):
        if answered[found]:
            return found
    of = "the Lagrangian" if constrained else "the value"
    raise OracleMismatch(
        f"{method.name} needs the Hessian of {of}{' or its products' * ('products' in method.hessian)}, "
        f"and is answered {', '.join(form.offer.kinds)}"
    )


def check(functions: Functions, method: Method, bounded: bool = True, hessian: str = "auto") -> None:
    """Raise where ``method`` cannot solve such a problem.

    Raises:
        ValueError: there are constraints, or bounds of a program that are to be kept, and it knows none; or
            more equations than it can take; or it takes no such ``hessian``.
        OracleMismatch: it needs gradients, Jacobians or Hessians, and they are not answered.
    """
    if bounded and functions.form.program and not method.bounds and is_bounded(functions):
        able = ", ".join(other.name for other in METHODS.values() if other.bounds)
        raise ValueError(
            f"{method.name} knows no bounds, and the program has some; choose {able}, IPOPT or bounded=False"
        )
    if functions.count and not method.constraints:
        able = ", ".join(other.name for other in METHODS.values() if other.constraints)
        raise ValueError(
            f"{method.name} knows no constraints, and there are {functions.count}; choose {able} or IPOPT"
        )
    needed = ("gradient", "jacobian") if functions.count else ("gradient",)
    missing = [kind for kind in needed if method.gradient and not functions.answers(kind)]
    if missing:
        answered = ", ".join(functions.form.offer.kinds)
        raise OracleMismatch(f"{method.name} needs {', '.join(missing)}, and is answered {answered}")
    curvature(functions, method, hessian)
    if method.name in ("SLSQP", "IPOPT") and functions.equalities > len(functions.start):
        raise ValueError(
            f"{method.name} knows no more equations than coordinates, and there are {functions.equalities} "
            f"of {len(functions.start)}; choose trust-constr or COBYQA"
        )


def is_bounded(functions: Functions) -> bool:
    """Whether the problem names a box with a side."""
    return bool(np.isfinite(functions.lower).any() or np.isfinite(functions.upper).any())


def box(functions: Functions) -> Any:
    """The box as ``scipy.optimize.Bounds``, whose sides are kept; ``None`` where the problem names none."""
    from scipy.optimize import Bounds

    if not is_bounded(functions):
        return None
    ends: tuple[Any, Any] = functions.lower, functions.upper
    return Bounds(*ends, keep_feasible=True)


def dict_constraints(functions: Functions) -> list[dict[str, Any]]:
    """The constraints as SLSQP takes them: equations, then what is to be >= 0; with Jacobians if answered."""
    first = functions.equalities

    def part(kind: str, rows: slice, sign: float) -> dict[str, Any]:
        found = {"type": kind, "fun": lambda x: sign * functions.constraints(x)[rows]}
        if functions.answers("jacobian"):
            found["jac"] = lambda x: sign * functions.jacobian(x)[rows]
        return found

    parts = [part("eq", slice(0, first), 1.0)] if first else []
    return parts + ([part("ineq", slice(first, None), -1.0)] if functions.count > first else [])


def nonlinear_constraint(functions: Functions, hessian: Any = None) -> Any:
    """All constraints as one ``scipy.optimize.NonlinearConstraint``.

    Args:
        functions: the problem.
        hessian: ``(x, v) -> `` the Hessian of v' constraints; ``None`` for what is answered.
    """
    from scipy.optimize import NonlinearConstraint

    lower = np.where(np.arange(functions.count) < functions.equalities, 0.0, -np.inf)
    more: dict[str, Any] = {}
    if functions.answers("jacobian"):
        more["jac"] = functions.jacobian
    if hessian is None:
        hessian = functions.constraints_hessian if functions.form.lagrangian else _secant()
    return NonlinearConstraint(functions.constraints, lower, 0.0, hess=hessian, **more)


def keywords(
    functions: Functions, method: str, hessian: str = "auto", bounded: bool = True
) -> dict[str, Any]:
    """What ``minimize`` is given beside the start, ``fun`` included.

    Where the curvature is that of the Lagrangian, the whole of it comes with the constraint, and the
    objective's is zero: so one Hessian is asked at a point and not two.

    Args:
        functions: the problem.
        method: scipy's name.
        hessian: of :data:`HESSIANS`.
        bounded: whether the box is kept, where the problem names one and the method can.
    """
    spec = method_of(method)
    found: dict[str, Any] = {"fun": functions.value, "method": spec.name}
    if spec.gradient:
        found["jac"] = functions.gradient
    if bounded and spec.bounds:
        found["bounds"] = box(functions)
    source = curvature(functions, spec, hessian)
    if spec.name == "SLSQP":
        found["constraints"] = dict_constraints(functions)
    elif functions.count and spec.name == "trust-constr":
        found |= _with_curvature(functions, source)
    elif functions.count:
        found["constraints"] = nonlinear_constraint(functions)
    elif source == "exact":
        found["hess"] = functions.hessian
    elif source == "products":
        found["hessp"] = functions.hessian_product
    elif spec.name == "trust-constr":
        found["hess"] = _secant()
    return found


def _with_curvature(functions: Functions, source: str) -> dict[str, Any]:
    """Constraints and curvature of trust-constr."""
    from scipy.sparse.linalg import LinearOperator

    if source == "none":
        return {"constraints": nonlinear_constraint(functions, _secant()), "hess": _secant()}
    n = len(functions.start)

    def product(x: np.ndarray, v: np.ndarray) -> Any:
        x, v, shape = x.copy(), v.copy(), (n, n)
        settings: dict[str, Any] = {"matvec": lambda p: functions.hessian_product(x, p.ravel(), v)}
        return LinearOperator(shape, **settings | {"dtype": np.float64})

    whole = functions.hessian if source == "exact" else product
    return {"constraints": nonlinear_constraint(functions, whole), "hess": lambda x: np.zeros((n, n))}


def _secant() -> Any:
    """BFGS matrices of scipy's that say nothing of a gradient that stays: a linear function's."""
    from scipy.optimize import BFGS

    class Secant(BFGS):
        def update(self, delta_x: np.ndarray, delta_grad: np.ndarray) -> None:
            if np.any(delta_grad):
                super().update(delta_x, delta_grad)

    return Secant()


def multipliers_of(functions: Functions, method: str, result: Any) -> Float[np.ndarray, "m"] | None:
    """The multipliers of the constraints in a result of ``minimize``, in the problem's own signs.

    The Lagrangian is value + multipliers' constraints. ``None`` where the method has none: it has values
    alone, or scipy is older than 1.16.
    """
    name, first = method_of(method).name, functions.equalities
    if not functions.count:
        return None
    if name == "trust-constr" and len(result.get("v", ())):
        return np.asarray(result["v"][0], np.float64)
    if name == "SLSQP" and "multipliers" in result:
        found = np.asarray(result["multipliers"], np.float64)
        # scipy's: value - multipliers' (equations, what is to be >= 0)
        return np.concatenate((-found[:first], found[first:]))
    return None
