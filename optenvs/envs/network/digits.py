"""A neural network trained by nodes that share the handwritten digits: functions without convexity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.random import Keys, bits, integers
from optenvs.data import Dataset, load
from optenvs.data.placed import Tensors, tensors
from optenvs.models import Model, accuracy, cross_entropy, loss_and_gradient, make_model

from .base import Network
from .parts import Draw, Functions, refuse_changed


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkDigits(Network):
    """Node i owns the mean cross-entropy of an MLP on its share of 8x8 digits (extra ``data``).

    The training images are dealt out to the nodes in parts of equal size, anew for every instance; what
    does not divide is left out. The solution is unknown: the merit is ``loss``, the mean of the f_i at the
    mean of the iterates, and ``train_accuracy`` and ``test_accuracy`` (360 images) are those of the network
    with the mean of the iterates. All nodes begin with the same weights, drawn as torch's layers draw them.

    Args:
        widths: hidden widths of the MLP; none for logistic regression.
        activation: of the hidden layers.
        split: ``iid``: at random; ``class``: sorted by class, so that a node sees few of the digits.
        batch_size: samples that a gradient uses, drawn uniformly with replacement; ``None`` for all.
        samples: use only the first so many of the 1,437 training images.
        mu, L: what the agents are told of convexity and smoothness. The functions have neither number; these
            set the step sizes (a plain method takes 1 / (2 L)).
        start_std: a factor on the first weights.
        nodes, graph, ...: see :class:`optenvs.envs.network.base.Network`. The oracle is ``gradient``.
    """

    dim: int | None = None
    widths: tuple[int, ...] = (32,)
    activation: str = "relu"
    split: str = "iid"
    batch_size: int | None = 32
    samples: int | None = None
    mu: float = 0.05
    L: float = 2.0

    default_nodes = 4
    merit_name = "loss"

    def __post_init__(self) -> None:
        if self.split not in ("iid", "class"):
            raise ValueError(f"split: expected iid or class, got {self.split!r}")
        if not 0 < self.mu <= self.L < math.inf:
            raise ValueError(f"mu, L: expected 0 < mu <= L, got {self.mu!r} and {self.L!r}")
        if not self.widths:
            refuse_changed(self, ("activation",), "a network without hidden layers has none")
        if self.oracle == "conjugate":
            raise ValueError("oracle: these functions have no conjugate; expected oracle='gradient'")
        for name in ("batch_size", "samples"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        available = len(self._data.train_y)
        if self.samples is not None and self.samples > available:
            raise ValueError(f"samples: expected at most {available}, got {self.samples}")
        if self.dim not in (None, self.width):
            raise ValueError(f"dim: the network has {self.width} weights, expected that or None: {self.dim}")
        super().__post_init__()
        if self.agents > self._count:
            raise ValueError(f"nodes: expected at most one a sample, {self._count}, got {self.agents}")

    @cached_property
    def _data(self) -> Dataset:
        return load("digits")

    @cached_property
    def _tensors(self) -> Tensors:
        return tensors(self._data, self.torch_device, self.torch_dtype, "scalar")

    @cached_property
    def network(self) -> Model:
        """The model as a pure function of its weights."""
        kind = "mlp" if self.widths else "logistic"
        shape, classes = self._data.shape, self._data.classes
        return make_model(kind, shape=shape, classes=classes, widths=self.widths, activation=self.activation)

    @property
    def _count(self) -> int:
        available = len(self._data.train_y)
        return available if self.samples is None else min(self.samples, available)

    @property
    def width(self) -> int:
        return self.network.size

    def begin(self, keys: Keys) -> Float[Tensor, "B N d"]:
        start = self.start_std * self.network.draw(keys, self.torch_dtype)
        return start.unsqueeze(1).repeat(1, self.agents, 1)

    def draw(self, keys: Keys) -> Draw:
        labels = self._tensors.train_y[: self._count]
        order = bits(keys, "split", len(labels)).argsort(-1)
        if self.split == "class":
            order = order.gather(-1, labels[order].argsort(dim=-1, stable=True))
        share = len(labels) // self.agents
        rows = order[:, : share * self.agents].unflatten(-1, (self.agents, share))
        functions = Functions(
            data={"inputs": self._tensors.train_x[rows], "targets": labels[rows]}, solution=None
        )
        constants = torch.ones(len(keys), dtype=self.torch_dtype, device=keys.device)
        return Draw(functions=functions, mu=self.mu * constants, L=self.L * constants)

    def gradient(self, data: Any, x: Float[Tensor, "B N d"], keys: Int64[Tensor, "B N"]) -> Tensor:
        inputs, targets = data["inputs"], data["targets"]
        if self.batch_size is not None:
            chosen = integers(keys, "minibatch", self.batch_size, targets.shape[-1])
            targets = targets.gather(2, chosen)
            pixels = inputs.flatten(3)
            rows = chosen.unsqueeze(-1).expand(*chosen.shape, pixels.shape[-1])
            inputs = pixels.gather(2, rows).unflatten(-1, inputs.shape[3:])
        each = (part.flatten(0, 1) for part in (x, inputs, targets))
        return loss_and_gradient(self.network, *each)[1].view_as(x)

    def conjugate(self, data: Any, x: Float[Tensor, "B N d"]) -> Tensor:
        raise NotImplementedError("a network's loss has no conjugate")

    def measure(self, functions: Functions, x: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        """The mean of the f_i, and the shares of images that are classified right."""
        inputs, targets = (functions.data[name].flatten(1, 2) for name in ("inputs", "targets"))
        logits = self.network.apply(x, inputs)
        held_out = self.network.apply(x, self._tensors.test_x.unsqueeze(0))
        return {
            "loss": cross_entropy(logits, targets),
            "train_accuracy": accuracy(logits, targets),
            "test_accuracy": accuracy(held_out, self._tensors.test_y.expand(len(x), -1)),
        }
