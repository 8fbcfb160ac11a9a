"""The network of the grokking literature: the sum of an embedding of each operand, an activation, a matrix.

    F = sigma(W x),  x the operands' unit vectors side by side;  blocks F <- sigma(F + A F);  outputs V F

Tian 2025 (arXiv 2509.21519), section 3, and the official code's ``other_layers`` and complex weights. There
are no biases. The unit vectors are never built: W x is a sum of columns of W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor
from torch.nn import functional

from optenvs.models.base import Model, Parameters, Slot


class Activation(NamedTuple):
    """A function of one number, and its derivative."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _silu_slope(x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


ACTIVATIONS: dict[str, Activation] = {
    "square": Activation(torch.square, lambda x: 2 * x),
    "relu": Activation(torch.relu, lambda x: (x > 0).to(x.dtype)),
    "silu": Activation(functional.silu, _silu_slope),
    "relu_squared": Activation(lambda x: torch.relu(x).square(), lambda x: 2 * torch.relu(x)),
    "tanh": Activation(torch.tanh, lambda x: 1 - torch.tanh(x).square()),
}
PRODUCT = "product"
"""In place of an activation of the sum: the product of the operands' embeddings."""


def gather(
    rows: Inexact[Tensor, "B r K"], index: Int64[Tensor, "B m"]
) -> tuple[Inexact[Tensor, "B m K"], Int64[Tensor, "Bm"]]:
    """Rows by number, of each instance its own, and their places in the flattened rows."""
    batch, count, width = rows.shape
    first = torch.arange(batch, device=index.device).unsqueeze(1) * count
    places = (index + first).flatten()
    return rows.reshape(-1, width).index_select(0, places).view(*index.shape, width), places


def summed(
    weight: Float[Tensor, "B K wide"], inputs: Int64[Tensor, "B n 2"]
) -> tuple[Float[Tensor, "B n K"], tuple[Tensor, Tensor]]:
    """W x of pairs: two columns of W each; and the places of these, for :func:`spread`."""
    columns = weight.mT.contiguous()  # as rows they are read whole
    left, at_left = gather(columns, inputs[..., 0])
    right, at_right = gather(columns, inputs[..., 1] + columns.shape[1] // 2)
    return left.add_(right), (at_left, at_right)


def spread(
    slope: Float[Tensor, "B n K"], places: tuple[Tensor, Tensor], weight: Float[Tensor, "B K wide"]
) -> Float[Tensor, "B K wide"]:
    """The slope by W, where ``slope`` is that by W x."""
    batch, width, wide = weight.shape
    flat = slope.reshape(-1, width)
    total = torch.zeros(batch * wide, width, dtype=slope.dtype, device=slope.device)
    for place in places:
        total = total.index_add(0, place, flat)
    return total.view(batch, wide, width).mT


@dataclass(frozen=True)
class GroupNetwork(Model):
    """Two layers, or more, on tuples of group elements.

    Attributes:
        shape: ``(operands,)``.
        classes: M, the order of the group.
        width: K, the number of hidden nodes.
        activation: one of :data:`ACTIVATIONS`, or ``product``.
        layers: blocks after the hidden layer.
        residual: whether a block adds its input: sigma(F + A F), else sigma(A F).
        complex_weights: W and V are complex (their slots end in an axis of 2); outputs are real parts.
        multiplier: of the outputs.
        v_init: a factor on the first V; 0 begins with V = 0.
        top: whether V is a parameter; without it the model ends in its features.
    """

    width: int = 256
    activation: str = field(default="square", kw_only=True)
    layers: int = field(default=0, kw_only=True)
    residual: bool = field(default=True, kw_only=True)
    complex_weights: bool = field(default=False, kw_only=True)
    multiplier: float = field(default=1.0, kw_only=True)
    v_init: float = field(default=1.0, kw_only=True)
    top: bool = field(default=True, kw_only=True)

    @property
    def plain(self) -> bool:
        """Whether it is the network of the theory: two real layers, sigma of a sum of two embeddings."""
        return not (self.layers or self.complex_weights) and self.activation != PRODUCT and self.shape == (2,)

    def build(self) -> tuple[Slot, ...]:
        wide, pair = self.shape[0] * self.classes, (2,) if self.complex_weights else ()
        blocks = (
            Slot(f"block{i + 1}.weight", (self.width, self.width), fan_in=self.width)
            for i in range(self.layers)
        )
        hidden = Slot("hidden.weight", (self.width, wide, *pair), fan_in=wide)
        output = Slot("output.weight", (self.classes, self.width, *pair), fan_in=self.width, gain=self.v_init)
        return (hidden, *blocks, output) if self.top else (hidden, *blocks)

    def embedded(self, parameters: Parameters, inputs: Tensor) -> list[Tensor]:
        """What each operand adds to the hidden nodes, ``(B, m, K)`` each."""
        weight = _numbers(parameters["hidden.weight"], self.complex_weights).transpose(1, 2)
        return [
            gather(weight, inputs[..., i] + i * self.classes)[0] for i in range(self.shape[0])
        ]  # columns of W become rows: they are read whole

    def features(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """F, the last hidden layer, ``(B, m, K)``."""
        parts = self.embedded(parameters, inputs)
        total = parts[0]
        if self.activation == PRODUCT:
            for part in parts[1:]:
                total = total * part
            return total
        for part in parts[1:]:
            total = total + part
        sigma = ACTIVATIONS[self.activation].value
        found = sigma(total)
        for i in range(self.layers):
            moved = found @ parameters[f"block{i + 1}.weight"].mT
            found = sigma(found + moved if self.residual else moved)
        return found

    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m c"]:
        top = _numbers(parameters["output.weight"], self.complex_weights)
        outputs = self.features(parameters, inputs) @ top.transpose(1, 2)
        return self.multiplier * (outputs.real if self.complex_weights else outputs)


def _numbers(weight: Tensor, complex_weights: bool) -> Tensor:
    return torch.view_as_complex(weight.contiguous()) if complex_weights else weight
