"""A user's function at its first call: what does not fit is an error then, and says which function it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.differences import contradiction
from optenvs.core.errors import cause
from optenvs.core.oracles import jacobian

Function = Callable[[Tensor], Tensor]


def answers(name: str, function: Function, x: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
    """The function at each row; a number is taken for a vector of one.

    Raises:
        ValueError: the answer is no vector, or of the objective no number.
    """
    answer = torch.func.vmap(function)(x)
    came = tuple(answer.shape[1:]) if isinstance(answer, Tensor) else type(answer).__name__
    if not isinstance(answer, Tensor) or answer.ndim > 2 or (name == "objective" and answer.ndim != 1):
        wanted = "one number" if name == "objective" else "a vector of constraints, or one number"
        raise ValueError(f"{name}: expected {wanted} for a point of {x.shape[1]} numbers, got {came}")
    if answer.ndim == 2 and not answer.shape[1]:
        raise ValueError(f"{name}: expected a constraint at least, got a vector of none")
    return answer.reshape(len(x), -1).to(x.dtype)


def tried(name: str, function: Function, start: Float[Tensor, "n"]) -> int:
    """How many numbers the function answers, by calls at the start and beside it.

    Raises:
        ValueError: it cannot be called, vectorised or differentiated; it writes into its point; its answer or
            its derivative at the start is not finite; or its derivative is not torch's.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            count = _called(name, function, torch.stack((start, start + 0.01 * (1 + start.abs()))))
            _check_slope(name, function, start)
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{name}: "):
            raise
        raise ValueError(
            f"{name}: cannot be called on a {str(start.dtype).removeprefix('torch.')} tensor of shape "
            f"{tuple(start.shape)}, vectorised by torch.func.vmap and differentiated: {cause(error)}"
        ) from error
    return count


def _called(name: str, function: Function, trial: Float[Tensor, "2 n"]) -> int:
    """The first calls, at the start and beside it, and whether there is a slope."""
    point, slope, found = trial.clone().requires_grad_(), None, None
    try:
        with torch.enable_grad():
            found = answers(name, function, point)
            if found.requires_grad:
                (slope,) = torch.autograd.grad(found.sum(), point, allow_unused=True)
    except RuntimeError as error:
        if "leaf Variable that requires grad" not in str(error) and torch.equal(point.detach(), trial):
            raise
        found = None
    if found is None or not torch.equal(point.detach(), trial):
        raise ValueError(
            f"{name}: writes into the point that it is given (an in-place operation, such as x.sub_(1) or "
            "x[0] = 1); let it make a new tensor, or begin with x = x.clone()"
        )
    if not bool(found[0].isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers at the start, got {found[0].tolist()}")
    if slope is not None and not bool(slope[0].isfinite().all()):
        raise ValueError(f"{name}: expected a derivative at the start, got {slope[0].tolist()}")
    slopes = jacobian(lambda x: answers(name, function, x), trial)[1]
    still = (slopes == 0).all(0).all(-1)  # at neither point
    if bool((still & (found[0] != found[1])).any()):
        raise ValueError(
            f"{name}: its answer changes with x in a way that torch cannot differentiate (a comparison, "
            "a rounding, a detached tensor)"
        )
    return found.shape[1]


def _check_slope(name: str, function: Function, start: Float[Tensor, "n"]) -> None:
    """Raise ``ValueError`` where torch's derivative along a direction is not that of central differences.

    It is compared beside the start, in a direction that is special in no coordinate: a start may well lie at
    a kink.
    """
    place = torch.arange(1, len(start) + 1, dtype=start.dtype, device=start.device)
    size = 1 + start.abs()
    point, along = start + 1e-3 * size * torch.sin(2.39996 * place), size * torch.cos(place).sign()
    along = along * (1 + 0.5 * torch.sin(1.7 * place))
    _, (slopes,) = jacobian(lambda x: answers(name, function, x), point.unsqueeze(0))
    found = contradiction(
        lambda x: answers(name, function, x), (slopes @ along).unsqueeze(0), point[None], along[None]
    )
    if found is not None:
        which = f" (number {found.number} of the answer)" if len(slopes) > 1 else ""
        raise ValueError(
            f"{name}: torch's derivative beside the start is {found.told:.6g} along a direction, central "
            f"differences say {found.seen:.6g}{which}: part of it is detached from x, or written with a "
            "derivative of its own that is wrong"
        )
