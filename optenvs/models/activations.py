"""The activations by name, each with its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LEAKY_SLOPE = 0.1  # the value of the diffGrad paper's activation study; torch's default is 0.01
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


class Activation(NamedTuple):
    """An activation and the step of backpropagation through it.

    Attributes:
        forward: ``forward(z)``.
        backward: ``backward(delta, z, a)``: ``delta`` times the derivative at ``z``, with ``a =
            forward(z)`` at hand, because most derivatives are cheaper in terms of the output.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


def _relu_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(delta, a, 0)  # one pass; a product with a mask takes two


def _lrelu(z: Tensor) -> Tensor:
    return functional.leaky_relu(z, LEAKY_SLOPE)


def _lrelu_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return torch.where(z > 0, delta, LEAKY_SLOPE * delta)


def _elu_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return torch.where(z > 0, delta, delta * (a + 1))


def _selu_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return delta * torch.where(z > 0, _SELU_SCALE, a + _SELU_SCALE * _SELU_ALPHA)


def _tanh_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return delta * (1 - a * a)


def _sigmoid_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return delta * (a * (1 - a))


def _gelu_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    below = 0.5 * (1 + torch.erf(z * math.sqrt(0.5)))
    density = torch.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))
    return delta * (below + z * density)


def _cos_backward(delta: Tensor, z: Tensor, a: Tensor) -> Tensor:
    return -delta * torch.sin(z)


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(functional.relu, _relu_backward),
    "lrelu": Activation(_lrelu, _lrelu_backward),
    "elu": Activation(functional.elu, _elu_backward),
    "selu": Activation(functional.selu, _selu_backward),
    "tanh": Activation(torch.tanh, _tanh_backward),
    "sigmoid": Activation(torch.sigmoid, _sigmoid_backward),
    "gelu": Activation(functional.gelu, _gelu_backward),
    "cos": Activation(torch.cos, _cos_backward),
}


def check_activation(name: str) -> None:
    """Raise ValueError unless ``name`` is an activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
