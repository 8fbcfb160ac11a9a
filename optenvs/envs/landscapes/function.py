"""Any function of the user's as an environment."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optenvs.core.random import Keys, uniform

from .base import Draw, Landscape


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
            raise ValueError(f"{name}: expected an answer of shape {shape}, got {got}")
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
        bounded: whether a query outside ``bounds`` is invalid; ``bounds`` must be two numbers then.
        **keywords: those of :class:`Landscape`: ``oracle``, ``noise``, ``shift``, ``rotate``, ``budget``, ...

    Raises:
        ValueError: bounds that are not ordered or of a wrong shape; an answer that is no scalar; a numpy
            function without ``grad`` asked for gradients.
    """
    low, high = (-1.0, 1.0) if bounds is None else bounds
    ends = [np.broadcast_to(np.asarray(end, dtype=float), (dim,)) for end in (low, high)]
    if not (np.isfinite(ends).all() and (ends[0] < ends[1]).all()):
        raise ValueError(f"bounds: expected finite low < high, got {bounds!r}")
    if bounded:
        if np.ndim(low) or np.ndim(high):
            raise ValueError("bounded: needs bounds of two numbers")
        keywords["bounds"] = (float(low), float(high))
    middle = (ends[0] + ends[1]) / 2
    backend = backend or _find_backend(fun, middle, batched)
    if backend not in ("torch", "numpy"):
        raise ValueError(f"backend: expected 'torch' or 'numpy', got {backend!r}")
    if "oracle" not in keywords:
        keywords["oracle"] = "value" if backend == "numpy" and grad is None else "gradient"
    if backend == "numpy" and (
        keywords["oracle"] == "hvp" or (keywords["oracle"] == "gradient" and grad is None)
    ):
        raise ValueError(f"oracle: a numpy function cannot answer {keywords['oracle']!r}; give grad=")
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


def _find_backend(fun: Callable[[Any], Any], point: np.ndarray, batched: bool) -> str:
    """Which library the function speaks: it answers a tensor with a tensor, or it does not."""
    # numpy refuses a tensor that carries a graph; of others it computes with a copy
    trial = torch.from_numpy(point[None] if batched else point).requires_grad_()
    try:
        with torch.enable_grad(), warnings.catch_warnings(action="ignore"):
            return "torch" if isinstance(fun(trial), Tensor) and _vectorizes(fun, trial, batched) else "numpy"
    except (TypeError, AttributeError, RuntimeError, ValueError):
        return "numpy"


def _vectorizes(fun: Callable[[Any], Any], trial: Tensor, batched: bool) -> bool:
    # numpy functions of pure arithmetic also accept tensors, and then run faster as torch
    if batched:
        return True
    torch.func.vmap(fun)(trial.unsqueeze(0))
    return True
