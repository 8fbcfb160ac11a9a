"""IPOPT (Waechter and Biegler 2006) on a problem's functions, through ``casadi``, whose wheel carries it.

casadi is given value with constraints, gradient, Jacobian and the Hessian of the Lagrangian as functions that
it calls; it differentiates nothing. An exception in one of them cannot pass through IPOPT: it is kept, no
more is asked, and it is raised when IPOPT has stopped.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from optenvs.core.given import is_number

from .functions import Functions
from .scipy_forms import IPOPT_METHOD, curvature

_Answers = Callable[..., list[Any]]
_SMALL = 1e-300
_COUNTS = (
    *(
        "max_iter",
        "acceptable_iter",
        "max_soc",
        "max_resto_iter",
        "max_filter_resets",
        "filter_reset_trigger",
    ),
    *("limited_memory_max_history", "limited_memory_max_skipping", "print_level", "file_print_level"),
    *("watchdog_shortened_iter_trigger", "watchdog_trial_iter_max", "print_frequency_iter"),
    *("min_refinement_steps", "max_refinement_steps"),
)
"""Options that are whole numbers: casadi cuts off the fraction of others without a word."""


class Found(NamedTuple):
    """Point, multipliers, IPOPT's status and its name, and the answer of casadi's solver."""

    x: np.ndarray
    multipliers: np.ndarray | None
    status: int
    message: str
    result: Any


def casadi() -> Any:
    """The package.

    Raises:
        ImportError: it is not there.
    """
    try:
        return importlib.import_module("casadi")
    except ImportError as error:
        raise ImportError(
            f"IPOPT needs the package casadi: pip install 'optenvs[ipopt]', or pip install casadi ({error})"
        ) from error


def check_options(options: Mapping[Any, Any]) -> None:
    """Raise ``ValueError`` for options that casadi would leave out, or take for something else."""
    for name, value in options.items():
        if not isinstance(name, str):
            raise ValueError(f"options: expected IPOPT's names, got {name!r}")
        if isinstance(value, bool):
            raise ValueError(f"options: {name}: expected 'yes' or 'no', as IPOPT writes them, got {value!r}")
        if not (is_number(value) or isinstance(value, str)) or value != value:
            raise ValueError(f"options: {name}: expected a number or a word, got {value!r}")
        odd = isinstance(value, str) or not 0 <= value < 2**31 or value != int(value)
        if name in _COUNTS and odd:
            raise ValueError(f"options: {name}: expected a whole number >= 0, got {value!r}")


def try_options(options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for options that IPOPT does not know or refuses, where casadi is there.

    It says so itself, on a problem of one variable.
    """
    check_options(options)
    if options and importlib.util.find_spec("casadi") is not None:
        ca = casadi()
        x = ca.SX.sym("x")
        own = {"print_level": 0, "sb": "yes"} | dict(options) | {"print_level": 0}
        with _refused(options):
            solver = ca.nlpsol("trial", "ipopt", {"x": x, "f": x**2}, {"ipopt": own, "print_time": False})
            solver(x0=1.0)
            _check_status(solver.stats(), options)


@contextlib.contextmanager
def _refused(options: Mapping[str, Any]) -> Iterator[None]:
    """An option that IPOPT refuses is a ``ValueError``."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"options: IPOPT refuses {dict(options)!r}: {_last_line(error)}") from error


def _check_status(stats: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """What it refuses when it begins: a linear solver that its build lacks."""
    if str(stats["return_status"]) == "Invalid_Option":
        raise ValueError(f"options: IPOPT refuses {dict(options)!r}: Invalid_Option")


def run(functions: Functions, tol: float | None, hessian: str, options: dict[str, Any]) -> Found:
    """Solve from ``functions.start`` and ``functions.multipliers``.

    IPOPT's own defaults, but: it is quiet; points stay within the bounds as they are; without Hessians of the
    Lagrangian it approximates them.

    Args:
        functions: the problem.
        tol: IPOPT's ``tol``.
        hessian: ``auto``, ``exact`` or ``none``.
        options: IPOPT's own, by their names.

    Raises:
        ValueError: IPOPT refuses an option.
    """
    ca = casadi()
    calls = _Calls(functions)
    exact = curvature(functions, IPOPT_METHOD, hessian) == "exact"
    own: dict[str, Any] = {"print_level": 0, "sb": "yes", "bound_relax_factor": 0.0}
    if not exact:
        own["hessian_approximation"] = "limited-memory"
    if tol is not None:
        own["tol"] = tol
    if np.any(functions.multipliers):
        own["warm_start_init_point"] = "yes"
    made = _functions(ca, calls, len(functions.start), functions.count, exact)
    settings = {
        **{name: made[name] for name in made if name != "nlp"},
        "ipopt": own | options,
        "print_time": False,
        "show_eval_warnings": False,
        "no_nlp_grad": True,
        "calc_lam_p": False,
        "iteration_callback": made["iteration_callback"],
    }
    with _refused(options):
        solver = ca.nlpsol("solver", "ipopt", made["nlp"], settings)
    upper = np.zeros(functions.count)
    lower = np.where(np.arange(functions.count) < functions.equalities, 0.0, -np.inf)
    answer = solver(
        x0=functions.start,
        lbx=functions.lower,
        ubx=functions.upper,
        lbg=lower,
        ubg=upper,
        lam_g0=functions.multipliers,
    )
    if calls.error is not None:
        raise calls.error
    stats = solver.stats()
    _check_status(stats, options)
    multipliers = np.array(answer["lam_g"]).ravel() if functions.count else None
    x = np.clip(np.array(answer["x"]).ravel(), functions.lower, functions.upper)
    return Found(x, multipliers, 0 if stats["success"] else 1, str(stats["return_status"]), answer)


class _Calls:
    """What casadi calls.

    Attributes:
        error: the first exception, after which nothing is asked.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.error: BaseException | None = None

    def guarded(self, function: _Answers, *shapes: tuple[int, ...]) -> _Answers:
        """``function``, of outputs of these shapes; no numbers once there is an error, which end the run."""

        def called(*arguments: np.ndarray) -> list[Any]:
            if self.error is None:
                try:
                    return function(*arguments)
                except BaseException as error:  # noqa: BLE001 - raised when IPOPT has stopped
                    self.error = error
            return [np.full(shape, np.nan) for shape in shapes]

        return called

    def values(self, x: np.ndarray, _: np.ndarray) -> list[Any]:
        """Value and constraints."""
        f = self._functions
        return [f.value(x), f.constraints(x) if f.count else np.zeros(0)]

    def gradient(self, x: np.ndarray, _: np.ndarray) -> list[Any]:
        """A value that nobody reads, and the gradient."""
        return [0.0, self._functions.gradient(x)]

    def jacobian(self, x: np.ndarray, _: np.ndarray) -> list[Any]:
        """Constraints that nobody reads, and the Jacobian."""
        f = self._functions
        empty = np.zeros((0, len(x)))
        return [np.zeros(f.count), f.jacobian(x) if f.count else empty]

    def hessian(self, x: np.ndarray, _: np.ndarray, scale: np.ndarray, multipliers: np.ndarray) -> list[Any]:
        """The upper part of scale * Hessian of the value + multipliers' Hessians of the constraints."""
        f, factor = self._functions, float(scale[0])
        if not f.count:
            return [np.triu(factor * f.hessian(x))]
        if abs(factor) > _SMALL:
            return [np.triu(factor * f.hessian(x, multipliers / factor))]
        return [np.triu(f.constraints_hessian(x, multipliers))]  # where feasibility is restored

    def note(self, multipliers: np.ndarray) -> list[Any]:
        """Take the multipliers of an iterate; 1 stops IPOPT."""
        if self._functions.count and np.isfinite(multipliers).all():
            self._functions.multipliers = multipliers
        return [0.0 if self.error is None else 1.0]


def _functions(ca: Any, calls: _Calls, n: int, m: int, exact: bool) -> dict[str, Any]:
    """The functions that casadi calls, by the names of the solver's options."""

    class Called(ca.Callback):
        """A function of ours, with named inputs and outputs of known shapes."""

        def __init__(self, name: str, function: Any, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
            ca.Callback.__init__(self)
            self._function = function
            self._inputs, self._outputs = list(inputs.items()), list(outputs.items())
            self.construct(name, {})

        def get_n_in(self) -> int:
            return len(self._inputs)

        def get_n_out(self) -> int:
            return len(self._outputs)

        def get_name_in(self, i: int) -> str:
            return self._inputs[i][0]

        def get_name_out(self, i: int) -> str:
            return self._outputs[i][0]

        def get_sparsity_in(self, i: int) -> Any:
            return self._inputs[i][1]

        def get_sparsity_out(self, i: int) -> Any:
            return self._outputs[i][1]

        def eval(self, arguments: list[Any]) -> list[Any]:
            return self._function(*(np.array(argument).ravel() for argument in arguments))

    dense, guard = ca.Sparsity.dense, calls.guarded
    at = {"x": dense(n, 1), "p": dense(0, 0)}
    real, values, slopes = dense(1, 1), dense(m, 1), dense(n, 1)
    value, gradient, jacobian = (
        guard(calls.values, (1, 1), (m, 1)),
        guard(calls.gradient, (1, 1), (n, 1)),
        guard(calls.jacobian, (m, 1), (m, n)),
    )
    made = {
        "nlp": Called("nlp", value, at, {"f": real, "g": values}),
        "grad_f": Called("nlp_grad_f", gradient, at, {"f": real, "grad_f_x": slopes}),
        "jac_g": Called("nlp_jac_g", jacobian, at, {"g": values, "jac_g_x": dense(m, n)}),
        "iteration_callback": Called(
            "iterate",
            lambda x, f, g, lam_x, lam_g, lam_p: calls.note(lam_g),
            {"x": slopes, "f": real, "g": values, "lam_x": slopes, "lam_g": values, "lam_p": dense(0, 0)},
            {"ret": real},
        ),
    }
    if exact:
        made["hess_lag"] = Called(
            "nlp_hess_l",
            guard(calls.hessian, (n, n)),
            at | {"lam_f": real, "lam_g": values},
            {"triu_hess_gamma_x_x": ca.Sparsity.upper(n)},
        )
    return made


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
