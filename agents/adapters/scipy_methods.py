"""The methods of ``scipy.optimize.minimize`` as agents, by :mod:`agents.adapters.called_back`.

``agents.from_scipy("trust-exact")`` is any of them; those with a name here are registered. What each wants is
in :data:`optenvs.solvers.scipy_forms.METHODS`: COBYQA, COBYLA, Powell and Nelder-Mead want values alone;
Newton-CG, dogleg and the other trust-region methods want Hessians (or their products with vectors), and no
constraints; trust-constr takes what there is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from optenvs.solvers.scipy_forms import METHODS, Method, method_of

from .called_back import CalledBackAgent

_LEAST = (1, 16)
"""The first scipy whose compiled methods keep nothing between calls: rows run beside each other."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ScipyAgent(CalledBackAgent):
    """A method of scipy's with its own defaults; the arguments are those of :class:`CalledBackAgent`."""

    name: ClassVar[str] = ""

    @property
    def spec(self) -> Method:
        return method_of(self.name)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.options:
            _check_options(type(self).__name__, self.spec, self.options)

    def init(self, problem: Any, observation: Any, keys: Any) -> Any:
        _check_version(type(self).__name__)
        return super().init(problem, observation, keys)


@dataclass(frozen=True, eq=False, kw_only=True)
class SLSQP(ScipyAgent):
    """Sequential least squares programming (Kraft 1988), with scipy's settings.

    It asks values and constraints in its line search, gradients and Jacobians where a step is taken. Its
    multipliers, those of its last quadratic program, are known when it has finished:
    ``run.agent_state.multipliers``.
    """

    name = "SLSQP"
    needs, takes = METHODS["slsqp"].needs, METHODS["slsqp"].takes


@dataclass(frozen=True, eq=False, kw_only=True)
class TrustConstr(ScipyAgent):
    """The trust-region method ``trust-constr`` of scipy's.

    Sequential quadratic programming for equations (Lalee, Nocedal and Plantenga 1998), within a method of
    interior points for inequalities and bounds (Byrd, Hribar and Nocedal 1999). Its multipliers of each
    iterate go along with the queries. Without Hessians it approximates them, and then asks a gradient at
    every trial.
    """

    name = "trust-constr"
    needs, takes = METHODS["trust-constr"].needs, METHODS["trust-constr"].takes


@dataclass(frozen=True, eq=False, kw_only=True)
class COBYQA(ScipyAgent):
    """Constrained optimization by quadratic models of values alone (Ragonneau and Zhang 2022).

    It has no multipliers to give.
    """

    name = "COBYQA"
    needs, takes = METHODS["cobyqa"].needs, METHODS["cobyqa"].takes


@dataclass(frozen=True, eq=False, kw_only=True)
class LBFGSB(ScipyAgent):
    """L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995), as scipy has it: gradients, bounds, no constraints."""

    name = "L-BFGS-B"
    needs, takes = METHODS["l-bfgs-b"].needs, METHODS["l-bfgs-b"].takes


@dataclass(frozen=True, eq=False, kw_only=True)
class ScipyMethod(ScipyAgent):
    """Another method of scipy's.

    Args:
        method: its name there.
    """

    method: str = "BFGS"

    adapts = "method"

    @property
    def spec(self) -> Method:
        return method_of(self.method)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The oracles that the method asks."""
        return self.spec.needs

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Constraints and bounds that the method keeps."""
        return self.spec.takes


_REGISTERED: dict[str, type[ScipyAgent]] = {
    cls.name.lower(): cls for cls in (SLSQP, TrustConstr, COBYQA, LBFGSB)
}


def from_scipy(
    method: str,
    *,
    tol: float | None = None,
    hessian: str = "auto",
    bounded: bool = True,
    start: Any = None,
    multipliers: Any = None,
    **options: Any,
) -> ScipyAgent:
    """The agent of a method of ``scipy.optimize.minimize``.

    Args:
        method: its name there, such as ``"SLSQP"`` or ``"trust-exact"``; case does not matter.
        tol: its tolerance.
        hessian: where curvature comes from: ``auto``, ``exact``, ``products`` or ``none``.
        bounded: whether the problem's box is kept.
        start: where to begin, in place of the problem's start.
        multipliers: to begin with; these five as in :class:`agents.adapters.called_back.CalledBackAgent`.
        **options: the method's own options, such as ``maxiter``.

    Raises:
        ValueError: scipy has no such method, or it no such option.
    """
    spec = method_of(method)
    fields = {"tol": tol, "hessian": hessian, "bounded": bounded, "options": options}
    fields |= {"start": start, "multipliers": multipliers}
    cls = _REGISTERED.get(spec.name.lower())
    return ScipyMethod(method=spec.name, **fields) if cls is None else cls(**fields)


def _check_version(owner: str) -> None:
    """Raise ``ImportError`` where scipy is not there, or is too old."""
    try:
        import scipy
    except ImportError as error:
        raise ImportError(
            f"{owner} needs the package scipy: pip install 'optenvs[scipy]', or pip install scipy ({error})"
        ) from error
    if tuple(int(part) for part in scipy.__version__.split(".")[:2]) < _LEAST:
        least = ".".join(map(str, _LEAST))
        raise ImportError(f"{owner} needs scipy >= {least}, and finds {scipy.__version__}")


def _check_options(owner: str, spec: Method, options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` where the method knows no such option, or none of this type; scipy says so.

    What else it says of them depends on the problem, and is left to the run.
    """
    _check_version(owner)
    for name, value in options.items():
        if isinstance(value, str) and _is_numeric(value):  # some methods take it, others fail in the run
            raise ValueError(f"{owner}: options: {name}: expected a number, got {value!r}")
    from scipy.optimize import OptimizeWarning, minimize

    slopes: dict[str, Any] = {"jac": lambda x: 2 * x} if spec.gradient else {}
    if "none" not in spec.hessian:
        slopes["hess"] = lambda x: 2 * np.eye(1)
    quiet = dict(options) | {"disp": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", OptimizeWarning)
        try:
            minimize(lambda x: float(x @ x), np.ones(1), method=spec.name, options=quiet, **slopes)
        except OptimizeWarning as error:
            raise ValueError(f"{owner}: options: {error}") from error
        except TypeError as error:
            raise ValueError(f"{owner}: options: got {dict(options)!r}: {error}") from error
        except Exception:  # noqa: BLE001, S110 - of another dimension it may be right
            pass


def _is_numeric(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
