"""What is said of a user's functions when an environment is made of them, not at the first reset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from optenvs.core.errors import NUMBERS, cause, suggest
from optenvs.core.given import check_finite, check_whole
from optenvs.core.oracles import jacobian, value_and_gradient
from optenvs.core.random import keys_from_seed

from .base import Bilevel
from .parts import Own
from .user_calls import cannot, check_reads, floating, generic, named
from .user_slopes import check_slopes
from .user_solution import Conditioned, check_conditions, check_shapes

LEVELS = ("upper", "lower")
PROJECTIONS = ("upper", "lower", "joint", "feasible")
CONSTANTS = ("upper", "lower", "convexity", "jacobian")
LARGEST = 256
"""Lower variables and constraints up to which Newton's method is the choice of its own."""
_TRIED = 3


def check_start(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a number of coordinates, or a start of finite ones."""
    if isinstance(value, tuple):
        if not value or not all(isinstance(v, float) and abs(v) < float("inf") for v in value):
            raise ValueError(f"{name}: expected finite numbers, or how many there are, got {value!r}")
        return
    check_whole(name, value)


def check_samples(samples: Any, batch_size: Any) -> None:
    """Raise ``ValueError`` unless both say what mini-batches are drawn from."""
    if batch_size is not None:
        check_whole("batch_size", batch_size)
        if samples is None:
            raise ValueError("batch_size: expected samples with it, from which the batches are drawn")
    if samples is None:
        return
    if not isinstance(samples, Mapping) or not samples or not set(samples) <= set(LEVELS):
        came = sorted(samples) if isinstance(samples, Mapping) else type(samples).__name__
        raise ValueError(f"samples: expected a mapping with upper, lower or both, got {came}")
    for level, part in samples.items():
        counts = [len(leaf) if getattr(leaf, "ndim", 0) else None for leaf in leaves(part)]
        if not counts or None in counts or len(set(counts)) > 1:
            raise ValueError(f"samples: {level}: expected tensors of one leading dimension, got {counts}")
        if batch_size is not None and batch_size > counts[0]:
            raise ValueError(
                f"batch_size: expected at most the {counts[0]} samples of {level}, got {batch_size}; without "
                "it all of them answer each query"
            )


def check_projections(project: Any, equalities: int, inequalities: int) -> None:
    """Raise ``ValueError`` unless ``project`` is a function, some by name, or ``"affine"`` equalities."""
    if isinstance(project, str):
        if project != "affine":
            raise ValueError(f"project: expected functions or 'affine', got {project!r}")
        if inequalities or not equalities:
            raise ValueError("project: 'affine': expected equalities and no inequality with it")
    elif isinstance(project, Mapping):
        for name, function in project.items():
            if name not in PROJECTIONS:
                raise ValueError(f"project: no {name!r}{suggest(str(name), PROJECTIONS)}")
            if not callable(function):
                raise ValueError(f"project: {name}: expected a function, got {function!r}")
    elif project is not None and not callable(project):
        raise ValueError(f"project: expected a function, a mapping of them, or 'affine', got {project!r}")


def count(name: str, function: Callable[..., Any] | None, x: Tensor, y: Tensor) -> int:
    """The number of constraints of a function, found by one call."""
    if function is None:
        return 0
    try:
        answer = function(x.clone(), y.clone())
    except Exception as error:
        raise ValueError(f"{name}: {cannot(x, y)}: {cause(error)}") from error
    if not isinstance(answer, Tensor) or answer.ndim != 1 or not len(answer):
        expected = f"{name}: expected a tensor (p,) with one number a constraint, got"
        if not isinstance(answer, Tensor):
            raise ValueError(f"{expected} {type(answer).__name__}: {NUMBERS}")
        raise ValueError(f"{expected} shape {tuple(answer.shape)}; for one constraint write g.reshape(1)")
    floating(name, answer, x)
    return len(answer)


def check_solver(solver: str | None, solution: Any, bounded: bool) -> None:
    """Raise ``ValueError`` for a ``solver`` that is none, or that something given beside it would replace."""
    if solver not in ("auto", "newton", None):
        raise ValueError(f"solver: expected 'auto', 'newton' or None, got {solver!r}")
    if solver == "newton" and solution is not None:
        raise ValueError("solver: 'newton' would have no effect beside solution=")
    if solver == "newton" and bounded:
        raise ValueError(
            "solver: 'newton' would have no effect beside a projection of y (project: lower): it knows no Y "
            "but the whole space; say what confines y by inequality="
        )


def check_effects(env: Any) -> None:
    """Raise ``ValueError`` for a keyword that would have no effect beside the others.

    Args:
        env: the :class:`~optenvs.envs.bilevel.user.BilevelFunctions`.
    """
    if env.minimum is not None:
        check_finite("minimum", env.minimum)
    if env.by_newton:
        return
    why = _unsolved(env) if env.solution is None else "beside solution=, which is measured at every query"
    usual = type(env)
    if env.evaluation_period != usual.evaluation_period:
        raise ValueError(f"evaluation_period: {env.evaluation_period!r} would have no effect {why}")
    if env.solution is not None:
        return
    if env.minimum is not None:
        raise ValueError(f"minimum: {env.minimum!r} would have no effect {why}")
    if env.tolerance not in (None, usual.tolerance):
        raise ValueError(f"tolerance: {env.tolerance!r} would have no effect {why}: nobody knows the least F")


def _unsolved(env: Any) -> str:
    if env.solver is None:
        return "where no lower problem is solved (solver=None)"
    if env.sizes.m + env.sizes.p > LARGEST:
        return f"where no lower problem is solved: there are more than {LARGEST} variables and constraints"
    return "where no lower problem is solved: Newton's method knows no projection of y"


def try_functions(
    env: Conditioned,
    functions: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    equalities: int,
    project: Any,
    solution: Callable[..., Any] | None,
) -> None:
    """Call everything once, so that what does not fit is an error now.

    Args:
        env: the environment.
        functions: by name, of batches: ``upper``, ``lower``, and the constraints that there are.
        equalities: their number.
        project: as given.
        solution: as given.
    """
    n, m, _ = env.sizes
    if equalities > m:
        raise ValueError(f"equality: {equalities} equations cannot hold for {m} lower variables")
    x, y = generic(n, _TRIED), 1.5 * generic(m, _TRIED) - 1  # no y is an x, at which much is 0
    x, y = (points.to(env.torch_device, env.torch_dtype) for points in (x, y))
    own = Own(known=None, data=None)
    slopes = {}
    for name, function in functions.items():
        check_reads(name, function, x, y)
        if name in LEVELS:
            with named(name, x, y, "differentiated"):
                slopes[name] = value_and_gradient(function, (x, y))[1]
    _check_coupling(env, own, x, y, slopes)
    if project == "affine":
        _check_affine(env, own, x, y)
    if solution is not None:
        check_shapes(env, solution, x)
    _check_projected(env, project, x, y)
    state = env.draw(keys_from_seed(0, 2, env.torch_device))
    known = Own(known=state.geometry, data=None)
    _check_begun(env, known, state.x, state.y)
    near = [torch.cat((points, begun + 0.01 * points[:2])) for points, begun in ((x, state.x), (y, state.y))]
    for name, function in functions.items():
        check_slopes(name, function, *near, twice=name != "upper")
    if solution is not None:
        single = not isinstance(solution(state.x[0]), tuple)
        check_conditions(env, known, state.x, single)


def _check_begun(env: Bilevel, own: Own, x: Tensor, y: Tensor) -> None:
    """Whether everything is finite where episodes begin."""
    for name, point in (("x", x), ("y", y)):
        if not bool(point.isfinite().all()):
            raise ValueError(f"project: the start {name} is projected onto what is no number: {point[0]}")
    for level, function in (("upper", env.upper), ("lower", env.lower)):
        value, parts = value_and_gradient(lambda a, b, f=function: f(own, a, b), (x, y))
        if not all(bool(part.isfinite().all()) for part in (value, *parts)):
            raise ValueError(f"{level}: expected a finite value and gradient at the start, got {value[0]}")
    if not env.sizes.p:
        return
    both = torch.cat((x, y), -1)
    n = x.shape[1]
    g, matrix = jacobian(lambda u: env.constrain(own, u[:, :n], u[:, n:]), both)
    if not bool(g.isfinite().all() and matrix.isfinite().all()):
        came = g[0].tolist()
        raise ValueError(f"equality, inequality: expected finite numbers and slopes at the start, got {came}")


def _check_projected(env: Bilevel, project: Any, x: Tensor, y: Tensor) -> None:
    """Whether projections that are given can be called, and answer points of the right size."""
    if project is None or isinstance(project, str):
        return
    named = dict(project) if isinstance(project, Mapping) else {"joint": project}
    arguments = {"upper": (x,), "lower": (y,), "joint": (x, y), "feasible": (x, y)}
    expected = {"upper": (x,), "lower": (y,), "joint": (x, y), "feasible": (y,)}
    for name, function in named.items():
        found = check_reads(f"project: {name}", torch.func.vmap(function), *arguments[name])
        parts = found if isinstance(found, tuple) else (found,)
        shapes = [tuple(part.shape[1:]) for part in parts]
        wanted = [tuple(part.shape[1:]) for part in expected[name]]
        if shapes != wanted:
            raise ValueError(f"project: {name}: expected points of shapes {wanted}, got {shapes}")


def _check_coupling(
    env: Bilevel, own: Own, x: Tensor, y: Tensor, slopes: dict[str, tuple[Tensor, Tensor]]
) -> None:
    """Whether the lower level has a variable, and sees the upper one."""
    if not bool(slopes["lower"][1].any()) and not env.sizes.p:
        raise ValueError("lower: does not depend on y in a way that torch can differentiate")
    sees = bool(slopes["lower"][0].any())
    if env.sizes.p and not sees:
        moved = env.constrain(own, x + 1, y) - env.constrain(own, x, y)
        sees = bool(moved.any())
    if not sees:
        raise ValueError(
            "lower: does not depend on x, and no constraint does: the lower solution is the same for all x"
        )


def _check_affine(env: Bilevel, own: Own, x: Tensor, y: Tensor) -> None:
    """Whether the constraints are those of their slopes at 0 elsewhere, too, and independent in y."""
    n, _, p = env.sizes

    def constrain(both: Tensor) -> Tensor:
        return env.constrain(own, both[:, :n], both[:, n:])

    both = torch.cat((x, y), -1)
    at_zero, matrix = jacobian(constrain, torch.zeros_like(both))
    expected, found = at_zero + (matrix @ both.unsqueeze(-1)).squeeze(-1), constrain(both)
    scale = 1 + float(found.abs().max())
    if not bool(((found - expected).abs() <= 1e-4 * scale).all()):
        raise ValueError("project: 'affine': the equalities are not affine in (x, y)")
    rank = int(torch.linalg.matrix_rank(matrix[0, :, n:].double()))
    if rank < p:
        raise ValueError(
            f"equality: its {p} equations depend on each other in y: {rank} of them are independent"
        )


def leaves(part: Any) -> list[Any]:
    """The tensors of samples: a tensor, or a tuple, list or mapping of them."""
    if isinstance(part, Mapping):
        return [leaf for value in part.values() for leaf in leaves(value)]
    if isinstance(part, tuple | list):
        return [leaf for value in part for leaf in leaves(value)]
    return [part]
