"""Any function of the user's as an environment."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optenvs.core.errors import cause
from optenvs.core.given import check_finite, check_settings
from optenvs.core.random import Keys, uniform

from .base import Draw, Landscape

BACKENDS = ("torch", "numpy")


@dataclass(frozen=True, eq=False, kw_only=True)
class FunctionLandscape(Landscape):
    """A user's function; :func:`from_function` makes one and says what the fields mean."""

    function: Callable[[Any], Any]
    grad: Callable[[Any], Any] | None = None
    batched: bool = False
    backend: str = "torch"
    minimum: float | None = None
    minimiser: tuple[float, ...] | None = None
    box: tuple[tuple[float, ...], tuple[float, ...]] = ((-1.0,), (1.0,))

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend: expected 'torch' or 'numpy', got {self.backend!r}")
        if self.backend == "numpy" and (
            self.oracle in ("hvp", "hessian") or (self.oracle == "gradient" and self.grad is None)
        ):
            raise ValueError(f"oracle: a numpy function cannot answer {self.oracle!r}; give grad=")
        ends = [np.asarray(end) for end in self.box]
        known = all(end.shape in ((1,), (self.dim,)) and np.isfinite(end).all() for end in ends)
        if not known or not (ends[0] < ends[1]).all():
            raise ValueError(f"bounds: expected finite low < high, got {self.box!r}")
        if self.minimiser is not None and len(self.minimiser) != self.dim:
            raise ValueError(f"minimiser: expected {self.dim} numbers, got {self.minimiser!r}")
        if self.minimum is not None:
            check_finite("minimum", self.minimum)
        super().__post_init__()
        self._try()

    @property
    def search_domain(self) -> tuple[Any, Any]:
        return self.box

    @property
    def bounded_below(self) -> bool:
        return self.minimum is not None

    @property
    def differentiable(self) -> bool:
        return self.backend == "torch" and self.grad is None

    @property
    def vectorizable(self) -> bool:
        return self.backend == "torch"

    def draw(self, keys: Keys) -> Draw:
        ends = torch.tensor(self.box, dtype=self.torch_dtype, device=keys.device)
        unit = uniform(keys, "start", self.dim, dtype=self.torch_dtype)
        start = ends[0] + (ends[1] - ends[0]) * unit
        optimum = None
        if self.minimiser is not None:
            optimum = torch.tensor(self.minimiser, dtype=start.dtype, device=start.device)
            optimum = optimum.expand_as(start)
        lowest = None if self.minimum is None else torch.full_like(start[:, 0], self.minimum)
        return Draw(start=start, optimum=optimum, lowest=lowest)

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return self._call("function", self.function, x, (len(x),))

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        if self.grad is None:
            return super().value_and_gradient(x, coefficients)
        return self.value(x, coefficients), self._call("grad", self.grad, x, tuple(x.shape))

    def _try(self) -> None:
        """Call what was given once, so that what does not fit is an error now, not at the first reset."""
        alone = self.backend == "numpy" and not self.batched  # it is called point by point
        trial = torch.from_numpy(np.tile(_generic(self.box, self.dim), (1 if alone else 2, 1)))
        trial = trial.to(self.torch_device, self.torch_dtype)
        asked = trial.requires_grad_() if self.backend == "torch" else trial
        sloped = self.oracle != "value"
        try:
            with torch.enable_grad(), warnings.catch_warnings(action="ignore"):
                value = self.value(asked, None)
                slope = self.value_and_gradient(trial.detach(), None)[1] if self.grad and sloped else value
        except Exception as error:
            if isinstance(error, ValueError) and str(error).startswith(("function: ", "grad: ")):
                raise
            given = f"{self.dtype} {'tensors' if self.backend == 'torch' else 'arrays'}"
            told = cause(error) if self.backend == "torch" else _told(error)
            raise ValueError(
                f"function: cannot be called on {given} of {self.dim} coordinates: {told}"
            ) from error
        if self.backend == "torch" and sloped and not slope.requires_grad and not self.grad:
            raise ValueError(
                "function: its answer does not depend on x in a way that torch can differentiate (a "
                "constant, a comparison, a detached tensor); give grad=, or oracle='value'"
            )

    def _call(self, name: str, call: Callable[[Any], Any], x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if self.backend == "torch":
            result = call(x) if self.batched else torch.func.vmap(call)(x)
        else:
            points = x.detach().cpu().numpy().astype(np.float64)
            # numpy has no vmap: this loop over instances is the price of a numpy function
            answers = call(points) if self.batched else np.stack([np.asarray(call(p)) for p in points])
            # a copy: the function may fill the same array again
            result = torch.tensor(np.asarray(answers, dtype=np.float64), device=x.device)
        if not isinstance(result, Tensor) or result.numel() != int(np.prod(shape)):
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"{name}: expected an answer of shape {shape} for {len(x)} points, got {got}")
        return result.reshape(shape).to(x.dtype)


def from_function(
    fun: Callable[[Any], Any],
    *,
    dim: int,
    bounds: tuple[Any, Any] | None = None,
    grad: Callable[[Any], Any] | None = None,
    batched: bool = False,
    backend: str | None = None,
    minimum: float | None = None,
    minimiser: Any = None,
    bounded: bool = False,
    **keywords: Any,
) -> FunctionLandscape:
    """Make an environment of a function to minimise: every face, the ledger and the checker are inherited.

    A numpy function is called instance by instance in Python unless it is ``batched`` (the environment's
    ``repr`` and ``vectorizable`` say so); a torch function is vectorised by ``torch.func.vmap``.

    Args:
        fun: ``f(x) -> scalar`` for ``x`` of shape ``(dim,)``; with ``batched``, ``(B, dim) -> (B,)``. torch
            or numpy.
        dim: the number of coordinates.
        bounds: ``(low, high)``, numbers or arrays of shape ``(dim,)``: where instances begin (uniformly), and
            what agents are told. (-1, 1) by default.
        grad: the gradient, called like ``fun``. Without it a torch function is differentiated, and a numpy
            function answers values only.
        batched: whether ``fun`` (and ``grad``) take a batch of points.
        backend: ``"torch"`` or ``"numpy"``; found out by one call if it is not given.
        minimum: the lowest value, if known: then ``gap`` is measured.
        minimiser: where it is, if known: then ``distance`` is measured.
        bounded: whether a query outside ``bounds`` is invalid.
        **keywords: those of :class:`Landscape`: ``oracle``, ``noise``, ``shift``, ``rotate``, ``budget``, ...

    Raises:
        ValueError: bounds that are not ordered or of a wrong shape; an answer that is no scalar, or that
            torch cannot differentiate where gradients are asked; a numpy function without ``grad`` asked for
            them; a function that cannot be called on points of the environment's dtype, with the cause.
    """
    check_settings("from_function", keywords, FunctionLandscape, ("function", "box"))
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ValueError(f"dim: expected a whole number >= 1, got {dim!r}")
    try:
        low, high = (-1.0, 1.0) if bounds is None else bounds
        ends = [np.broadcast_to(np.asarray(end, dtype=float), (dim,)) for end in (low, high)]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"bounds: expected (low, high), each a number or {dim} of them, got {bounds!r}"
        ) from error
    if not (np.isfinite(ends).all() and (ends[0] < ends[1]).all()):
        raise ValueError(f"bounds: expected finite low < high, got {bounds!r}")
    if bounded:
        keywords["bounds"] = "domain"
    if backend is None:
        backend = _find_backend(fun, _generic(ends, dim), batched, keywords.get("dtype", "float32"))
    if "oracle" not in keywords:
        keywords["oracle"] = "value" if backend == "numpy" and grad is None else "gradient"
    return FunctionLandscape(
        function=fun,
        grad=grad,
        dim=dim,
        batched=batched,
        backend=backend,
        minimum=minimum,
        minimiser=None if minimiser is None else tuple(np.ravel(minimiser).astype(float).tolist()),
        box=(tuple(ends[0].tolist()), tuple(ends[1].tolist())),
        **keywords,
    )


def _generic(box: Any, dim: int) -> np.ndarray:
    """A point inside the box that is special in no coordinate, ``(dim,)``."""
    low, high = (np.asarray(end, dtype=float) for end in box)
    return low + (high - low) * (0.25 + 0.5 * (0.618034 * np.arange(1, dim + 1) % 1))


def _find_backend(fun: Callable[[Any], Any], point: np.ndarray, batched: bool, dtype: str) -> str:
    """Which library the function speaks: it answers a tensor with a tensor, or it does not.

    Raises:
        ValueError: it can be called with neither.
    """
    if isinstance(fun, torch.nn.Module):
        return "torch"
    given = point[None] if batched else point
    failed: Exception | str = "no tensor"
    # numpy refuses a tensor that carries a graph; of others it computes with a copy
    trial = torch.from_numpy(given).to(getattr(torch, dtype, torch.float32)).requires_grad_()
    with warnings.catch_warnings(action="ignore"):
        try:
            with torch.enable_grad():
                if isinstance(fun(trial), Tensor) and _vectorizes(fun, trial, batched):
                    return "torch"
        except Exception as error:  # noqa: BLE001, whatever the user's function raises is shown
            failed = error
        try:
            if not isinstance(fun(given.copy()), Tensor):
                return "numpy"
        except Exception as error:
            raise ValueError(
                f"function: cannot be called: on a {dtype} tensor of shape {given.shape}: {_told(failed)}; "
                f"on a numpy array: {_told(error)}"
            ) from error
    raise ValueError(
        f"function: cannot be called on a {dtype} tensor of shape {given.shape}: {_told(failed)}"
    )


def _told(error: Exception | str) -> str:
    return error if isinstance(error, str) else f"{type(error).__name__}: {error}"


def _vectorizes(fun: Callable[[Any], Any], trial: Tensor, batched: bool) -> bool:
    # numpy functions of pure arithmetic also accept tensors, and then run faster as torch
    if batched:
        return True
    torch.func.vmap(fun)(trial.unsqueeze(0))
    return True
