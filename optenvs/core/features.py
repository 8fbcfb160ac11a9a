"""What learned optimizers see of a gradient: pure functions over ``(B, n)``, for agents and wrappers.

A parameter vector may consist of tensors (the weights and biases of a network). Their sizes, in the order
of the vector, are the ``sizes`` below; the functions that work tensor by tensor take a vector without a
layout as one.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""Decays of the momenta that LOLv2 sees (Metz et al. 2020)."""
TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""Time scales, in steps, of the features of the step number."""
_RESTS = tuple(1 - decay for decay in DECAYS)
LOLV2_FEATURES = 2 + len(DECAYS) + len(TIMES)
SHARED = ("level", "progress", "decrease", "time")
"""Features of a whole problem for the choice of a learning rate: see :func:`control_features`."""
EACH = ("gradient", "growth", "cosine", "action")
"""Those of each tensor that has a rate of its own."""

_DECADES = 4.0  # logarithms are divided by this, so that four decades are one unit
_TINY = 1e-12


def tensor_sizes(problem: Any, count: int) -> tuple[int, ...]:
    """Sizes of the tensors in a parameter vector of ``count`` entries, from ``problem.model.layout``.

    A problem without a layout has one tensor of all entries.
    """
    layout = getattr(getattr(problem, "model", None), "layout", None)
    return (count,) if layout is None else tuple(slot.size for slot in layout)


@lru_cache(maxsize=64)
def constants(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "m"]:
    """Numbers as a tensor, made once; it is to be read only."""
    with torch.inference_mode(False):  # a cached tensor must be usable in any mode
        return torch.tensor(numbers, dtype=dtype, device=device)


@lru_cache(maxsize=64)
def tensor_index(sizes: tuple[int, ...], device: torch.device) -> Int64[Tensor, "n"]:
    """The number of the tensor that each entry belongs to."""
    with torch.inference_mode(False):  # a cached tensor must be usable in any mode
        return torch.repeat_interleave(torch.tensor(sizes, device=device))


def tensor_means(x: Float[Tensor, "B n ..."], sizes: tuple[int, ...]) -> Float[Tensor, "B t ..."]:
    """The mean of each tensor's entries."""
    if len(sizes) == 1:
        return x.mean(1, keepdim=True)
    sums = x.new_zeros(x.shape[0], len(sizes), *x.shape[2:])
    sums = sums.index_add(1, tensor_index(sizes, x.device), x)
    return sums / torch.tensor(sizes, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 2))


def spread(x: Float[Tensor, "B t ..."], sizes: tuple[int, ...]) -> Float[Tensor, "B n ..."]:
    """Each tensor's number, at each of its entries."""
    if len(sizes) == 1:
        return x.expand(-1, sizes[0], *x.shape[2:])
    return x[:, tensor_index(sizes, x.device)]


def log_and_sign(gradient: Float[Tensor, "B n"], k: float = 5.0) -> Float[Tensor, "B n 2"]:
    """Andrychowicz et al. (2016), appendix A: magnitude and sign of numbers over many orders of magnitude.

    (log|g| / k, sign g) where ``|g| >= exp(-k)``, and (-1, exp(k) g) below; written without the branch.
    """
    smallest = torch.finfo(gradient.dtype).eps
    magnitude = (torch.log(gradient.abs() + smallest) / k).clamp_min(-1.0)
    sign = (gradient * math.exp(k)).clamp(-1.0, 1.0)
    return torch.stack((magnitude, sign), -1)


def time_features(k: Float[Tensor, "B 1"]) -> Float[Tensor, "B 11"]:
    """``tanh(k / c - 1)`` of the step ``k`` for the time scales ``c`` of :data:`TIMES`."""
    return torch.tanh(k / constants(TIMES, k.dtype, k.device) - 1)


def empty_momenta(point: Float[Tensor, "B n"]) -> Float[Tensor, "B n 6"]:
    """The momenta before the first gradient."""
    return point.new_zeros(*point.shape, len(DECAYS))


def update_momenta(momenta: Float[Tensor, "B n 6"], gradient: Float[Tensor, "B n"]) -> Float[Tensor, "B n 6"]:
    """``m <- decay m + (1 - decay) g`` for every decay of :data:`DECAYS`."""
    rest = constants(_RESTS, gradient.dtype, gradient.device)
    return torch.lerp(momenta, gradient.unsqueeze(-1), rest)


def second_moment_normalise(
    x: Float[Tensor, "B n F"], sizes: tuple[int, ...], epsilon: float = 1e-5
) -> Float[Tensor, "B n F"]:
    """Each feature over the root of its mean square in its tensor: ``x / sqrt(epsilon + mean x^2)``."""
    factor = torch.rsqrt(epsilon + tensor_means(x * x, sizes))
    return x * (factor if len(sizes) == 1 else spread(factor, sizes))


def lolv2_moments(
    point: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    momenta: Float[Tensor, "B n 6"],
    sizes: tuple[int, ...],
) -> Float[Tensor, "B n 8"]:
    """Gradient, parameter and six momenta (updated with this gradient), normalised tensor by tensor."""
    moments = torch.cat((gradient.unsqueeze(-1), point.unsqueeze(-1), momenta), -1)
    return second_moment_normalise(moments, sizes)


def lolv2_features(
    point: Float[Tensor, "B n"],
    gradient: Float[Tensor, "B n"],
    momenta: Float[Tensor, "B n 6"],
    k: Float[Tensor, "B 1"],
    sizes: tuple[int, ...],
) -> Float[Tensor, "B n 19"]:
    """What the per-parameter MLP of Metz et al. (2020) sees.

    The :func:`lolv2_moments`; then the eleven :func:`time_features`, the same for all parameters.
    """
    time = time_features(k).unsqueeze(1).expand(-1, point.shape[1], -1)
    return torch.cat((lolv2_moments(point, gradient, momenta, sizes), time), -1)


def control_features(
    seen: dict[str, Tensor],
    before: tuple[Float[Tensor, "B 1"], Float[Tensor, "B n"]],
    first: Float[Tensor, "B 1"],
    time: Float[Tensor, "B 1"],
    action: Float[Tensor, "B t"],
    sizes: tuple[int, ...],
) -> Float[Tensor, "B F"]:
    """What one sees who chooses a learning rate: ``(B, 4 + 4 t)``, :data:`SHARED` and then :data:`EACH`.

    ``level``: log10 of the value's magnitude; ``progress``: its change since the start; ``decrease``: the
    last change over the sum of both magnitudes, in [-1, 1]; ``time``: the share that is over; then, of each
    tensor, ``gradient``: log10 of the root mean square; ``growth``: its change over the last action;
    ``cosine`` between the gradients before and after the last action (0 before the first); ``action``: the
    last one. Logarithms are in units of four decades.

    Args:
        seen: the answer, its ``value`` and ``gradient``.
        before: value and gradient where the last action began.
        first: the first value.
        time: see above.
        action: the last one, of each of the t tensors.
        sizes: theirs.
    """
    value, gradient = seen["value"], seen["gradient"]
    level = _log10(value.abs())
    moved = before[0] - value
    square, last = (tensor_means(g * g, sizes) for g in (gradient, before[1]))
    product = tensor_means(gradient * before[1], sizes)
    # the product of two roots, because that of two squares would underflow in float32
    cosine = product / (square.sqrt() * last.sqrt()).clamp_min(torch.finfo(square.dtype).tiny)
    cosine = torch.where(time > 0, cosine.clamp(-1, 1), torch.zeros_like(cosine))
    size = _log10(square) / 2
    return torch.cat(
        (
            level,
            level - _log10(first.abs()),
            moved / (value.abs() + before[0].abs()).clamp_min(_TINY),
            time,
            size,
            size - _log10(last) / 2,
            cosine,
            action,
        ),
        -1,
    )


def _log10(x: Tensor) -> Tensor:
    return torch.log10(x.clamp_min(_TINY * _TINY)) / _DECADES
