"""A small transformer, decoder or encoder, for tokens or for sequences of numbers.

Everything is written in plain batched operations: fused attention has neither a second derivative nor a
batching rule. B networks share each product; the rows of a sequence are samples of an affine layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from .activations import ACTIVATIONS, check_activation
from .base import Model, Parameters, Slot, linear, normalisation
from .dense import affine, standardise

READOUTS = ("last", "mean", "all")


def attend(
    query: Float[Tensor, "*B t d"],
    key: Float[Tensor, "*B s d"],
    value: Float[Tensor, "*B s v"],
    causal: bool = False,
) -> Float[Tensor, "*B t v"]:
    """softmax(query key' / sqrt(d)) value, differentiable twice and batched by ``vmap``.

    Args:
        query: the rows of a head.
        key: what they are compared with.
        value: what they gather.
        causal: whether a row sees only the rows up to its own.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(-1) @ value


@dataclass(frozen=True)
class Transformer(Model):
    """Blocks of self-attention and a two-layer MLP, each added to what came in (Vaswani et al. 2017).

    Inputs are tokens ``(B, m, t)``, whole numbers below ``vocabulary`` of any dtype, with ``shape=(t,)``;
    without a vocabulary they are ``t`` rows of numbers, ``shape=(t, features)``. Positions are learned. A
    block is ``torch.nn.TransformerEncoderLayer(norm_first=True)``, its slots in that order.

    Attributes:
        vocabulary: Number of tokens; 0 for rows of numbers.
        width: Of the residual stream.
        heads: They share the width evenly.
        layers: Blocks.
        hidden: Width of a block's MLP; 4 ``width`` by default.
        activation: Of that MLP, one of :data:`ACTIVATIONS`.
        causal: A decoder, in which a position sees none that comes later; else an encoder.
        readout: Outputs are read at the ``"last"`` position, off the ``"mean"`` of all, or at ``"all"``, then
            ``(B, m, t, classes)``.
        norm: Layer normalisation ahead of each part and of the readout: ``"layer"``, or ``"none"``.
    """

    vocabulary: int = field(default=0, kw_only=True)
    width: int = field(default=32, kw_only=True)
    heads: int = field(default=4, kw_only=True)
    layers: int = field(default=1, kw_only=True)
    hidden: int | None = field(default=None, kw_only=True)
    activation: str = field(default="relu", kw_only=True)
    causal: bool = field(default=True, kw_only=True)
    readout: str = field(default="last", kw_only=True)
    norm: str = field(default="layer", kw_only=True)

    def __post_init__(self) -> None:
        check_activation(self.activation)
        dims = 1 if self.vocabulary else 2
        if len(self.shape) != dims:
            wanted = "(positions,)" if self.vocabulary else "(positions, features), or a vocabulary"
            raise ValueError(f"transformer: expected inputs of shape {wanted}, got {self.shape}")
        for name in ("width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {getattr(self, name)!r}")
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of the width {self.width}, got {self.heads}")
        if self.readout not in READOUTS:
            raise ValueError(f"readout: expected one of {', '.join(READOUTS)}, got {self.readout!r}")
        if self.norm not in ("layer", "none"):
            raise ValueError(f"norm: expected layer or none, got {self.norm!r}")
        super().__post_init__()

    def build(self) -> tuple[Slot, ...]:
        width, hidden = self.width, self.hidden or 4 * self.width
        if self.vocabulary:
            slots = [Slot("embedding.weight", (self.vocabulary, width), "normal", width)]
        else:
            slots = [*linear("embedding", self.shape[1], width)]
        slots.append(Slot("position.weight", (self.shape[0], width), "normal", width))
        for i in range(1, self.layers + 1):
            name = f"block{i}"
            slots += linear(f"{name}.attention", width, 3 * width) + linear(f"{name}.mixed", width, width)
            slots += linear(f"{name}.hidden", width, hidden) + linear(f"{name}.out", hidden, width)
            slots += self._norm(f"{name}.norm1") + self._norm(f"{name}.norm2")
        return (*slots, *self._norm("norm"), *linear("output", width, self.classes))

    def _norm(self, name: str) -> tuple[Slot, ...]:
        return normalisation(name, self.width) if self.norm == "layer" else ()

    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m *c"]:
        activate = ACTIVATIONS[self.activation].forward

        def layer(x: Tensor, name: str) -> Tensor:
            return affine(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])

        def normed(x: Tensor, name: str) -> Tensor:
            if self.norm == "none":
                return x
            scale, shift = parameters[f"{name}.scale"], parameters[f"{name}.shift"]
            return standardise(x, -1)[0] * scale.unsqueeze(1) + shift.unsqueeze(1)

        batch, m, t = inputs.shape[:3]
        if self.vocabulary:
            table = parameters["embedding.weight"]
            tokens = inputs.reshape(batch, m * t, 1).long().expand(-1, -1, self.width)
            x = table.gather(1, tokens)
        else:
            x = layer(inputs.flatten(1, 2), "embedding")
        x = x + parameters["position.weight"].repeat(1, m, 1)
        for i in range(1, self.layers + 1):
            name = f"block{i}"
            mixed = layer(normed(x, f"{name}.norm1"), f"{name}.attention")
            x = x + layer(self._attention(mixed, m), f"{name}.mixed")
            x = x + layer(activate(layer(normed(x, f"{name}.norm2"), f"{name}.hidden")), f"{name}.out")
        rows = x.unflatten(1, (m, t))
        if self.readout == "all":
            return layer(normed(x, "norm"), "output").unflatten(1, (m, t))
        read = rows[:, :, -1] if self.readout == "last" else rows.mean(2)
        return layer(normed(read, "norm"), "output")

    def _attention(self, mixed: Float[Tensor, "B _ _"], m: int) -> Float[Tensor, "B _ w"]:
        heads = mixed.unflatten(1, (m, -1)).unflatten(-1, (3, self.heads, -1))  # (B, m, t, 3, heads, d)
        query, key, value = heads.movedim(3, 0).transpose(-3, -2)  # (B, m, heads, t, d) each
        seen = attend(query, key, value, self.causal)
        return seen.transpose(-3, -2).flatten(-2).flatten(1, 2)
