"""Convolutional networks: a small one, and the ResNet family for small images.

B networks are one network with B groups: feature maps lie as ``(m, B * channels, height, width)``
from the first layer to the last, so that all of them share each kernel call. (Grouped convolution
was 1.9 to 2.7 times faster than unfolding into batched products on two CPU cores, for 16 and 64
networks and images of 8 and 28 pixels.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from optenvs.core.oracles import inside_transform

from .activations import ACTIVATIONS, check_activation
from .base import Model, Parameters, Slot, linear, normalisation

Maps = Float[Tensor, "_ _ _ _"]  # (m, B * channels, height, width), each layer its own


def _kernel(name: str, inputs: int, outputs: int, side: int) -> Slot:
    return Slot(f"{name}.weight", (outputs, inputs, side, side), fan_in=inputs * side**2)


def _grouped(inputs: Float[Tensor, "B m c h w"]) -> Maps:
    return inputs.transpose(0, 1).flatten(1, 2)


def _channels_last(maps: Maps, kernels: Tensor) -> Maps:
    """The same maps with channels last in memory: 1.3 to 2.5 times faster on a CPU where channels are few.

    Not for the ResNets: with it the backward pass of torch 2.13's batch normalisation gave wrong gradients
    for strided scales.
    """
    if inside_transform(maps) or inside_transform(kernels):  # vmap knows no memory formats
        return maps
    return maps.contiguous(memory_format=torch.channels_last)


def _convolve(maps: Maps, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Maps:
    """Each network's own kernels ``(B, out, in, k, k)`` on its own maps, padded by ``k // 2``."""
    return functional.conv2d(
        maps,
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride=stride,
        padding=weight.shape[-1] // 2,
        groups=weight.shape[0],
    )


def _readout(
    features: Float[Tensor, "m Bf"], weight: Float[Tensor, "B c f"], bias: Float[Tensor, "B c"]
) -> Float[Tensor, "B m c"]:
    own = features.view(features.shape[0], weight.shape[0], -1).transpose(0, 1)
    return torch.baddbmm(bias.unsqueeze(1), own, weight.mT)


def _check_image(model: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise ValueError(f"{model}: expected images (channels, height, width), got shape {shape}")


@dataclass(frozen=True)
class CNN(Model):
    """Blocks of 3x3 convolution, activation and 2x2 maximum pooling, then an affine layer.

    Attributes:
        widths: Channels of each block.
        activation: One of :data:`ACTIVATIONS`.
    """

    widths: tuple[int, ...] = (8, 16)
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_activation(self.activation)
        _check_image("cnn", self.shape)
        if not self.widths or min(self.shape[1:]) >> len(self.widths) == 0:
            raise ValueError(f"cnn: {len(self.widths)} blocks do not fit images of shape {self.shape}")
        super().__post_init__()

    def build(self) -> tuple[Slot, ...]:
        slots: list[Slot] = []
        before, *sides = self.shape
        for i, width in enumerate(self.widths, 1):
            kernel = _kernel(f"conv{i}", before, width, 3)
            slots += (kernel, Slot(f"conv{i}.bias", (width,), fan_in=kernel.fan_in))
            before = width
        features = before * math.prod(side >> len(self.widths) for side in sides)
        return (*slots, *linear("output", features, self.classes))

    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m c"]:
        activate = ACTIVATIONS[self.activation].forward
        maps = _channels_last(_grouped(inputs), parameters["conv1.weight"])
        for i in range(1, len(self.widths) + 1):
            maps = _convolve(maps, parameters[f"conv{i}.weight"], parameters[f"conv{i}.bias"])
            maps = functional.max_pool2d(activate(maps), 2)
        return _readout(maps.flatten(1), parameters["output.weight"], parameters["output.bias"])


@dataclass(frozen=True)
class _Block:
    """One residual block: its convolutions as (inputs, outputs, side, stride), and its shortcut."""

    name: str
    convolutions: tuple[tuple[int, int, int, int], ...]
    shortcut: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class ResNet(Model):
    """Residual networks for images of about 32 pixels (He, Zhang, Ren, Sun 2016).

    The stem is one 3x3 convolution without pooling, followed by four stages of 1, 2, 4 and 8 times
    ``width`` channels, global average pooling and an affine layer; with ``width=64`` these are the
    ResNet-18, -34 and -50 that papers train on CIFAR. Batch normalisation as said at
    :meth:`Model.apply`.

    Attributes:
        depth: 18, 34 (two 3x3 convolutions a block) or 50 (bottlenecks, whose output is 4 times as
            wide).
        width: Channels of the first stage.
        activation: One of :data:`ACTIVATIONS`, in every place.
    """

    depth: int = 18
    width: int = 64
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_activation(self.activation)
        _check_image("resnet", self.shape)
        if self.depth not in _STAGES:
            raise ValueError(f"resnet: depth must be one of {tuple(_STAGES)}, got {self.depth}")
        super().__post_init__()

    @cached_property
    def _blocks(self) -> tuple[_Block, ...]:
        blocks = []
        before = self.width
        for stage, count in enumerate(_STAGES[self.depth]):
            inner = self.width << stage
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                if self.depth < 50:
                    after = inner
                    layers = ((before, inner, 3, stride), (inner, inner, 3, 1))
                else:
                    after = 4 * inner
                    layers = (
                        (before, inner, 1, 1),
                        (inner, inner, 3, stride),
                        (inner, after, 1, 1),
                    )
                shortcut = (before, after, 1, stride) if stride > 1 or before != after else None
                blocks.append(_Block(f"stage{stage + 1}.{i + 1}", layers, shortcut))
                before = after
        return tuple(blocks)

    def build(self) -> tuple[Slot, ...]:
        slots = [_kernel("stem.conv", self.shape[0], self.width, 3)]
        slots += normalisation("stem.norm", self.width)
        for block in self._blocks:
            for i, (inputs, outputs, side, _) in enumerate(block.convolutions, 1):
                slots.append(_kernel(f"{block.name}.conv{i}", inputs, outputs, side))
                slots += normalisation(f"{block.name}.norm{i}", outputs)
            if block.shortcut is not None:
                inputs, outputs, side, _ = block.shortcut
                slots.append(_kernel(f"{block.name}.shortcut.conv", inputs, outputs, side))
                slots += normalisation(f"{block.name}.shortcut.norm", outputs)
        last = self._blocks[-1].convolutions[-1][1]
        return (*slots, *linear("output", last, self.classes))

    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m c"]:
        activate = ACTIVATIONS[self.activation].forward

        def layer(maps: Maps, conv: str, norm: str, stride: int = 1) -> Maps:
            maps = _convolve(maps, parameters[f"{conv}.weight"], stride=stride)
            # contiguous: with maps that are channels last, torch 2.13 on a CPU reads a strided scale wrongly
            scale = parameters[f"{norm}.scale"].flatten().contiguous()
            shift = parameters[f"{norm}.shift"].flatten().contiguous()
            return functional.batch_norm(maps, None, None, scale, shift, training=True)

        maps = activate(layer(_grouped(inputs), "stem.conv", "stem.norm"))
        for block in self._blocks:
            name, branch, kept = block.name, maps, maps
            for i, (_, _, _, stride) in enumerate(block.convolutions, 1):
                branch = layer(branch, f"{name}.conv{i}", f"{name}.norm{i}", stride)
                if i < len(block.convolutions):
                    branch = activate(branch)
            if block.shortcut is not None:
                stride = block.shortcut[3]
                kept = layer(maps, f"{name}.shortcut.conv", f"{name}.shortcut.norm", stride)
            maps = activate(branch + kept)
        features = maps.mean((2, 3))
        return _readout(features, parameters["output.weight"], parameters["output.bias"])


_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
