"""Logistic regression and multilayer perceptrons, with the gradient written out by hand.

For B small networks the cost of a step is that of its kernel calls, so backpropagation is a handful
of batched products, with no graph to record, and one concatenation into the flat gradient. (Batched
products straight into views of the flat vector take torch's slow path: their result is not
contiguous.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .activations import ACTIVATIONS, check_activation
from .base import Model, Parameters, Slot, linear, normalisation
from .losses import cross_entropy_parts

NORMS = ("none", "layer", "batch", "after")
_EPS = 1e-5  # torch's default for both normalisations
_EPS_AFTER = 1e-4


def affine(
    x: Float[Tensor, "B m i"], weight: Float[Tensor, "B o i"], bias: Float[Tensor, "B o"]
) -> Float[Tensor, "B m o"]:
    """Each network's own affine layer."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _first_affine(
    x: Float[Tensor, "G m i"], weight: Float[Tensor, "B o i"], bias: Float[Tensor, "B o"]
) -> Float[Tensor, "B m o"]:
    """:func:`affine` of inputs that ``B / G`` networks share: one product, and no copy of the inputs."""
    batch, outputs, inputs = weight.shape
    groups, samples, _ = x.shape
    if groups == batch:
        return affine(x, weight, bias)
    product = torch.bmm(x, weight.reshape(groups, -1, inputs).mT)
    own = product.view(groups, samples, -1, outputs).transpose(1, 2).reshape(batch, samples, outputs)
    return own + bias.unsqueeze(1)


def _outer(delta: Float[Tensor, "B m o"], x: Float[Tensor, "G m i"]) -> Float[Tensor, "B o i"]:
    """The gradient of :func:`_first_affine` by its weights: one product for the networks of a group."""
    batch, samples, outputs = delta.shape
    groups = x.shape[0]
    if groups == batch:
        return torch.bmm(delta.mT, x)
    together = delta.mT.reshape(groups, -1, samples)
    return torch.bmm(together, x).view(batch, outputs, -1)


def standardise(z: Float[Tensor, "B m h"], dim: int) -> tuple[Tensor, Tensor]:
    """``z`` with mean 0 and variance 1 along ``dim``, and what it was multiplied by."""
    centred = z - z.mean(dim, keepdim=True)
    factor = torch.rsqrt(centred.square().mean(dim, keepdim=True) + _EPS)
    return centred * factor, factor


def _standardise_after(a: Float[Tensor, "B m h"]) -> Float[Tensor, "B m h"]:
    """What ``norm="after"`` does to an activation: batch normalisation by the unbiased variance."""
    centred = a - a.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / max(a.shape[1] - 1, 1)
    return centred * torch.rsqrt(variance + _EPS_AFTER)


@dataclass(frozen=True)
class MLP(Model):
    """Affine layers with an activation between them; an input of any shape is flattened.

    Attributes:
        widths: Hidden widths; none at all is logistic regression.
        activation: One of :data:`ACTIVATIONS`.
        norm: Between an affine layer and its activation: ``"none"``, ``"layer"`` (over the features
            of a sample), ``"batch"`` (over the samples of the minibatch, see :meth:`Model.apply`).
            ``"after"`` is another network: every layer, the last one included, is affine, then activation,
            then batch normalisation without scale and shift, by the unbiased variance plus 1e-4. So bounded
            logits are those of the consensus-based optimization papers (Riedl 2023, the authors' code).
    """

    widths: tuple[int, ...] = (32,)
    activation: str = "relu"
    norm: str = "none"

    reads_shared = True

    def __post_init__(self) -> None:
        check_activation(self.activation)
        if self.norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {self.norm!r}")
        super().__post_init__()

    def build(self) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        before = math.prod(self.shape)
        for i, width in enumerate(self.widths, 1):
            slots += linear(f"hidden{i}", before, width)
            if self.norm in ("layer", "batch"):
                slots += normalisation(f"norm{i}", width)
            before = width
        return (*slots, *linear("output", before, self.classes))

    @property
    def _norm_dim(self) -> int:
        return 1 if self.norm == "batch" else -1

    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m c"]:
        activate = ACTIVATIONS[self.activation].forward
        x, layer = inputs.flatten(2), _first_affine
        for i in range(1, len(self.widths) + 1):
            z = layer(x, parameters[f"hidden{i}.weight"], parameters[f"hidden{i}.bias"])
            layer = affine
            if self.norm in ("layer", "batch"):
                z, _ = standardise(z, self._norm_dim)
                scale, shift = parameters[f"norm{i}.scale"], parameters[f"norm{i}.shift"]
                z = z * scale.unsqueeze(1) + shift.unsqueeze(1)
            x = activate(z)
            if self.norm == "after":
                x = _standardise_after(x)
        logits = layer(x, parameters["output.weight"], parameters["output.bias"])
        return _standardise_after(activate(logits)) if self.norm == "after" else logits

    def closed_form(
        self,
        flat: Float[Tensor, "B D"],
        inputs: Tensor,
        targets: Int64[Tensor, "B m"],
        fixed: Float[Tensor, "G F"] | None = None,
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]] | None:
        if self.norm == "after":
            return None
        p = self.unflatten(flat, fixed)
        activate, through = ACTIVATIONS[self.activation]
        normed, dim = self.norm != "none", self._norm_dim
        x, layer = inputs.flatten(2), _first_affine
        tape: list[tuple[Tensor, ...]] = []
        for i in range(1, len(self.widths) + 1):
            z = layer(x, p[f"hidden{i}.weight"], p[f"hidden{i}.bias"])
            layer = affine
            unit = factor = z
            if normed:
                unit, factor = standardise(z, dim)
                z = unit * p[f"norm{i}.scale"].unsqueeze(1) + p[f"norm{i}.shift"].unsqueeze(1)
            a = activate(z)
            tape.append((x, z, a, unit, factor))
            x = a
        logits = layer(x, p["output.weight"], p["output.bias"])

        loss, exponentials, total = cross_entropy_parts(logits, targets)
        m = targets.shape[1]
        minus = logits.new_full((1, 1, 1), -1 / m).expand(*targets.shape, 1)
        delta = (exponentials / (m * total)).scatter_add(-1, targets.unsqueeze(-1), minus)

        g: Parameters = {"output.weight": _outer(delta, x), "output.bias": delta.sum(1)}
        above = p["output.weight"]
        for i in range(len(self.widths), 0, -1):
            x, z, a, unit, factor = tape[i - 1]
            delta = through(torch.bmm(delta, above), z, a)
            if normed:
                g[f"norm{i}.scale"] = (delta * unit).sum(1)
                g[f"norm{i}.shift"] = delta.sum(1)
                delta = delta * p[f"norm{i}.scale"].unsqueeze(1)
                along = (delta * unit).mean(dim, keepdim=True)
                delta = factor * (delta - delta.mean(dim, keepdim=True) - unit * along)
            g[f"hidden{i}.weight"] = _outer(delta, x)
            g[f"hidden{i}.bias"] = delta.sum(1)
            above = p[f"hidden{i}.weight"]
        return loss, self.flatten(g)


@dataclass(frozen=True)
class Logistic(MLP):
    """Multinomial logistic regression: one affine layer on the flattened input."""

    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths:
            raise ValueError(f"a logistic regression has no hidden widths, got {self.widths}")


@dataclass(frozen=True)
class Linear(Model):
    """A matrix, without a bias: ``W x`` of a flattened input."""

    def build(self) -> tuple[Slot, ...]:
        inputs = math.prod(self.shape)
        return (Slot("weight", (self.classes, inputs), fan_in=inputs),)

    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m c"]:
        return torch.matmul(inputs.flatten(2), parameters["weight"].mT)


@dataclass(frozen=True)
class RandomFeatures(MLP):
    """One hidden layer that is drawn and stays (in ``fixed``); the affine layer on its features is trained.

    With ``relu`` these are the random ReLU features of the double-descent literature, without biases; with
    ``cos`` the Fourier features of Rahimi and Recht (2007): normal frequencies, phases uniform on the circle.

    Attributes:
        bandwidth: Of the hidden weights: their standard deviation is 1/bandwidth with ``cos`` (the width of
            the Gaussian kernel), and 1/(bandwidth sqrt(inputs)) otherwise.
    """

    bandwidth: float = field(default=1.0, kw_only=True)
    frozen: tuple[str, ...] = field(default=("hidden1",), kw_only=True)

    def __post_init__(self) -> None:
        if len(self.widths) != 1 or self.norm != "none":
            raise ValueError(
                f"random features: expected one hidden width without norm, got {self.widths}, {self.norm!r}"
            )
        if not 0 < self.bandwidth < math.inf:
            raise ValueError(f"bandwidth: expected a number > 0, got {self.bandwidth!r}")
        super().__post_init__()

    def build(self) -> tuple[Slot, ...]:
        weight, bias, *output = super().build()
        fourier = self.activation == "cos"
        fan_in = 1 if fourier else weight.fan_in
        weight = replace(weight, init="normal", fan_in=fan_in, gain=1 / self.bandwidth, keeps=True)
        phase = replace(bias, fan_in=1, gain=math.pi, keeps=True)
        return (weight, phase if fourier else replace(bias, init="zeros"), *output)
