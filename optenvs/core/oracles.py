"""Derivatives of batched functions, for authors who write only the function.

A function takes ``x`` of shape ``(B, ...)``, or several such arguments, and answers ``(B,)`` or ``(B, ...)``.
Its rows do not see each other, so that the gradient of the sum is the gradient of every row. Where a point is
asked for, a tuple of tensors may stand: the function is called with all of them, and the derivatives come as
a tuple. A block of ``m`` vectors has its number after the batch, ``(B, m, ...)``.

Where nothing can differentiate the answer again (no-grad mode, outside inference mode, every transform and
recording), plain autograd answers in half the time; otherwise ``torch.func`` does, which composes with
autograd, ``vmap`` and itself. A function that does not depend on its argument has the derivative 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, overload

import torch
from torch import Tensor

from .struct import detach
from .tracing import tracing

Function = Callable[..., Tensor]
Points = tuple[Tensor, ...]

_batched: ContextVar[bool] = ContextVar("batched", default=False)


def inside_transform(x: Tensor) -> bool:
    """Whether plain autograd, ``out=`` and the like are refused: batched, transformed, or recorded."""
    if _batched.get() or tracing():
        return True
    return torch._C._functorch.is_functorch_wrapped_tensor(x)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _batched_backward(needed: bool = True) -> Iterator[None]:
    """Around a function whose derivative is pulled back for a block at once, by rules of ``vmap``."""
    token = _batched.set(needed or _batched.get())
    try:
        yield
    finally:
        _batched.reset(token)


@contextlib.contextmanager
def derivatives() -> Iterator[None]:
    """Around the transforms of ``torch.func``: in inference mode, torch 2.8 and 2.11 make zeros of them."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


@overload
def value_and_gradient(function: Function, x: Tensor) -> tuple[Tensor, Tensor]: ...
@overload
def value_and_gradient(function: Function, x: Points) -> tuple[Tensor, Points]: ...
def value_and_gradient(function: Function, x: Any) -> tuple[Tensor, Any]:
    """``f(x)`` of shape ``(B,)`` and its gradient, of the shape of ``x``; of several arguments, a tuple."""
    points, form = _points(x)
    if _plain():
        with torch.enable_grad():
            leaves = _leaves(points)
            value = _scalar(function(*leaves), points)
            slopes = _pull(value, leaves, torch.ones_like(value))
        return value.detach(), form(slopes)

    def total(*y: Tensor) -> tuple[Tensor, Tensor]:
        value = _scalar(function(*y), points)
        return value.sum(), value

    with derivatives():
        places = tuple(range(len(points)))
        slopes, (_, value) = torch.func.grad_and_value(total, places, has_aux=True)(*points)
    return value, form(slopes)


def value_gradient_and_rest(
    function: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor
) -> tuple[Tensor, Tensor, Any]:
    """As :func:`value_and_gradient`, of a function that also tells a tree of tensors."""
    if _plain():
        with torch.enable_grad():
            (leaf,) = _leaves((x,))
            told, rest = function(leaf)
            value = _scalar(told, (x,))
            (slope,) = _pull(value, (leaf,), torch.ones_like(value))
        return value.detach(), slope, detach(rest)

    def total(y: Tensor) -> tuple[Tensor, tuple[Tensor, Any]]:
        told, rest = function(y)
        value = _scalar(told, (x,))
        return value.sum(), (value, rest)

    with derivatives():
        slope, (_, (value, rest)) = torch.func.grad_and_value(total, has_aux=True)(x)
    return value, slope, rest


@overload
def vjp(function: Function, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]: ...
@overload
def vjp(function: Function, x: Points, cotangent: Tensor) -> tuple[Tensor, Points]: ...
def vjp(function: Function, x: Any, cotangent: Tensor) -> tuple[Tensor, Any]:
    """``f(x)`` of any shape ``(B, ...)``, and ``cotangent' J``, of the shape of ``x``.

    Args:
        function: the function.
        x: the point.
        cotangent: of the shape of ``f(x)``, or a block ``(B, m, ...)`` of such; then the products are one.
    """
    points, form = _points(x)
    if _plain():
        with torch.enable_grad(), _batched_backward():
            leaves = _leaves(points)
            outputs = function(*leaves)
            products = _pull(outputs, leaves, cotangent)
        return outputs.detach(), form(products)
    with derivatives():
        outputs, pullback = torch.func.vjp(function, *points)  # type: ignore[misc]
        products = _spread(pullback, cotangent, outputs)
    return outputs, form(products)


def jvp(function: Function, x: Tensor | Points, tangent: Tensor | Points) -> tuple[Tensor, Tensor]:
    """``f(x)`` of any shape ``(B, ...)``, and ``J tangent``, of that shape (forward mode).

    Args:
        function: the function.
        x: the point.
        tangent: of the shape of ``x`` (of each part), or a block ``(B, m, ...)``; then the products are one.
    """
    points, _ = _points(x)
    tangents, _ = _points(tangent)
    with derivatives():
        if tangents[0].ndim == points[0].ndim:
            return torch.func.jvp(function, points, tangents)  # type: ignore[return-value]

        def along(*vectors: Tensor) -> tuple[Tensor, Tensor]:
            return torch.func.jvp(function, points, vectors)  # type: ignore[return-value]

        outputs, products = torch.func.vmap(along, in_dims=1)(*tangents)
        return outputs[0], products.movedim(0, 1)


def hvp(
    function: Callable[[Tensor], Any], x: Tensor, vector: Tensor, *, written: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``f(x)`` ``(B,)``, its gradient, and the product of its Hessian with ``vector``.

    Args:
        function: the function; or, where the gradient is ``written`` out, ``x -> (value, gradient)``.
        x: the point.
        vector: of the shape of ``x``, or a block ``(B, m, ...)`` of such; then the products are one.
        written: see ``function``.
    """
    if _plain():
        with torch.enable_grad(), _batched_backward(vector.ndim > x.ndim):
            leaf = x.detach().requires_grad_()
            if written:
                value, gradient = function(leaf)
            else:
                value = _scalar(function(leaf), (x,))
                (gradient,) = _pull(value, (leaf,), torch.ones_like(value), again=True)
            (product,) = _pull(gradient, (leaf,), vector)
        return value.detach(), gradient.detach(), product

    def slope(y: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = function(y) if written else value_and_gradient(function, y)
        return gradient, value

    # the Hessian is symmetric, so the gradient's pullback of the vector is the product with it
    with derivatives():
        gradient, pullback, value = torch.func.vjp(slope, x, has_aux=True)  # type: ignore[misc]
        (product,) = _spread(pullback, vector, gradient)
    return value, gradient, product


def jacobian(function: Function, x: Tensor, *, forward: bool = False) -> tuple[Tensor, Tensor]:
    """``f(x)`` ``(B, p)`` and its Jacobian ``(B, p, n)`` at ``x`` ``(B, n)``.

    Args:
        function: the function.
        x: the point.
        forward: column by column, in forward mode: dear by n, where reverse mode is dear by p.
    """
    if forward:
        outputs, columns = jvp(function, x, _units(x, x.shape[1]))
        return outputs, columns.mT
    if _plain():
        with torch.enable_grad(), _batched_backward():
            leaf = x.detach().requires_grad_()
            outputs = function(leaf)
            (product,) = _pull(outputs, (leaf,), _units(outputs, outputs.shape[1]))
        return outputs.detach(), product
    with derivatives():
        outputs, pullback = torch.func.vjp(function, x)  # type: ignore[misc]
        (product,) = _spread(pullback, _units(outputs, outputs.shape[1]), outputs)
    return outputs, product


def hessian(
    function: Callable[[Tensor], Any], x: Tensor, *, written: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """``f(x)`` ``(B,)``, its gradient ``(B, n)``, its Hessian ``(B, n, n)``; arguments as of :func:`hvp`."""
    return hvp(function, x, _units(x, x.shape[1]), written=written)


def gauss_newton(
    network: Function, loss: Callable[[Tensor], Tensor], x: Tensor, vector: Tensor
) -> tuple[Tensor, Tensor]:
    """``loss(network(x))`` ``(B,)`` and the product of ``J' H J`` with ``vector``.

    J is the Jacobian of the network's outputs, H the loss's Hessian by them.

    Args:
        network: ``x -> outputs (B, ...)``.
        loss: ``outputs -> (B,)``.
        x: the point.
        vector: of the shape of ``x``, or a block ``(B, m, ...)`` of such; then the products are one.
    """
    outputs, moved = jvp(network, x, vector)
    value, _, turned = hvp(loss, outputs, moved)
    return value, vjp(network, x, turned)[1]


def _plain() -> bool:
    """Whether nothing can differentiate, batch or record what is computed now."""
    if torch.is_grad_enabled() or torch.is_inference_mode_enabled() or tracing():
        return False
    return torch._C._functorch.peek_interpreter_stack() is None  # type: ignore[attr-defined]


def _points(x: Tensor | Sequence[Tensor]) -> tuple[Points, Callable[[Sequence[Tensor]], Any]]:
    """The arguments as a tuple, and what gives a tuple of answers their form."""
    return ((x,), lambda parts: parts[0]) if isinstance(x, Tensor) else (tuple(x), tuple)


def _leaves(points: Points) -> Points:
    return tuple(point.detach().requires_grad_() for point in points)


def _scalar(value: Any, points: Points) -> Tensor:
    """The answer of a function of a point, whose derivative is asked."""
    shape = points[0].shape[:1]
    if not isinstance(value, Tensor) or value.shape != shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"function: expected one number a row, of shape {tuple(shape)}, got {got}")
    return value if value.is_floating_point() else value.to(points[0].dtype)


def _pull(outputs: Tensor, leaves: Points, cotangent: Tensor, again: bool = False) -> Points:
    """Pull one cotangent, or a block of them, back to the leaves."""
    block = cotangent.ndim > outputs.ndim
    if block and cotangent.shape[1] == 1:  # nothing to batch, which takes half as long again
        return tuple(part.unsqueeze(1) for part in _pull(outputs, leaves, cotangent.squeeze(1), again))
    slopes: Sequence[Tensor | None] = [None] * len(leaves)
    if outputs.requires_grad:
        along = cotangent.movedim(1, 0) if block else cotangent
        slopes = torch.autograd.grad(
            outputs, leaves, along, create_graph=again, is_grads_batched=block, allow_unused=True
        )
    size = cotangent.shape[1:2] if block else ()

    def known(slope: Tensor | None, leaf: Tensor) -> Tensor:
        if slope is None:  # the function does not depend on this argument
            return leaf.new_zeros(leaf.shape[:1] + size + leaf.shape[1:])
        return slope.movedim(0, 1) if block else slope

    return tuple(known(slope, leaf) for slope, leaf in zip(slopes, leaves, strict=True))


def _spread(pullback: Callable[..., Any], cotangent: Tensor, outputs: Tensor) -> Points:
    """A pullback of ``torch.func`` of one cotangent, or of a block of them."""
    if cotangent.ndim == outputs.ndim:
        return pullback(cotangent)
    # vmap can put no other dimension before what does not depend on the cotangent
    return tuple(part.movedim(0, 1) for part in torch.func.vmap(pullback, in_dims=1)(cotangent))


def _units(like: Tensor, size: int) -> Tensor:
    """The unit vectors as a block, ``(B, size, size)``."""
    return torch.eye(size, dtype=like.dtype, device=like.device).expand(like.shape[0], -1, -1)
