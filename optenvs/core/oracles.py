"""Gradients of batched functions, for authors who write only the value.

They take ``f`` with ``f(x) -> (B,)`` for ``x`` of shape ``(B, ...)`` whose rows do not see
each other, so that the gradient of the sum is the gradient of every row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .tracing import tracing

Function = Callable[[Tensor], Tensor]


def inside_transform(x: Tensor) -> bool:
    """Whether plain autograd and ``out=`` are refused: in ``torch.func.vmap`` or ``grad``, or recorded."""
    if tracing():
        return True
    return torch._C._functorch.is_functorch_wrapped_tensor(x)  # type: ignore[attr-defined]


@contextlib.contextmanager
def derivatives() -> Iterator[None]:
    """Around the transforms of ``torch.func``: in inference mode, torch 2.8 and 2.11 make zeros of them."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def value_and_gradient(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """``f(x)`` of shape ``(B,)`` and its gradient, of the shape of ``x``.

    Where nothing can differentiate the answer again (no-grad mode, outside inference mode and every
    transform), plain autograd gives it in half the time; otherwise ``torch.func`` does, which composes with
    autograd and vmap.
    """
    recording = torch.is_grad_enabled() or torch.is_inference_mode_enabled()
    if not recording and not inside_transform(x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = function(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def total(y: Tensor) -> tuple[Tensor, Tensor]:
        value = function(y)
        return value.sum(), value

    with derivatives():
        gradient, (_, value) = torch.func.grad_and_value(total, has_aux=True)(x)
    return value, gradient
