"""Logistic regression over a network: synthetic nodes, or real data dealt out to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import softplus

from optenvs.core.given import check_whole
from optenvs.core.random import Keys, bits, uniform
from optenvs.data import Dataset, load
from optenvs.data.placed import Tensors, tensors

from .base import Network
from .classification import Samples, minimise, two_classes
from .parts import Draw, Functions, refuse_changed

POSITIVE: dict[str, tuple[int, ...]] = {
    "breast_cancer": (1,),
    "digits": (1, 3, 5, 7, 9),
    "mushroom": (1,),
}
"""The real data sets, and the classes that are labelled +1 in them: benign, odd, poisonous."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkLogistic(Network):
    """Node i owns f_i(x) = mean over its samples (a, b) of log(1 + exp(-b a'x)), plus mu/2 |x|^2.

    The problem of classification of Nabli and Oyallon (2023, section 4). L is the greatest of the
    lambda_max(D_i' D_i) / (4 m_i) + mu. The solution minimises the sum of the f_i, and is found by Newton's
    method. There is no intercept.

    Synthetic data have the law of scikit-learn's ``make_classification(m, d, n_classes=2, n_redundant=0)``,
    drawn for each node anew; see :func:`optenvs.envs.network.classification.two_classes`. Real data come with
    inputs standardised by their training part, which is dealt out to the nodes, anew for every instance, in
    parts that differ by one sample at most; the metric ``accuracy`` is that of the mean of the iterates on
    their test part.

    Args:
        data: ``synthetic``, ``breast_cancer``, ``digits`` or ``mushroom``.
        split: of real data: ``iid``: at random; ``class``: sorted by class (of the digits: all ten), so that
            a node sees few of them.
        positive: of real data: the classes with the label +1; by default benign, the odd digits, poisonous.
        samples: the number m of samples of a node, of synthetic data.
        batch_size: samples that a gradient uses, drawn uniformly with replacement; all of them by default.
        mu: the strength of the regularisation, > 0.
        official_L: take max(1, max_i mean |a|^2 / 4) for L, as the authors' code does. It leaves out mu.
        dim: of synthetic data, 2 by default; real data have their own.
        nodes, graph, ...: see :class:`optenvs.envs.network.base.Network`. The oracle is ``gradient``.
    """

    dim: int | None = None
    data: str = "synthetic"
    split: str = "iid"
    positive: tuple[int, ...] | None = None
    samples: int = 100
    batch_size: int | None = None
    mu: float = 1.0
    official_L: bool = False  # noqa: N815, the constant is called L

    truths = ("least",)

    def __post_init__(self) -> None:
        known = ("synthetic", *POSITIVE)
        if self.data not in known:
            raise ValueError(f"data: expected one of {', '.join(known)}, got {self.data!r}")
        if self.split not in ("iid", "class"):
            raise ValueError(f"split: expected iid or class, got {self.split!r}")
        if not 0 < self.mu < math.inf:
            raise ValueError(f"mu: expected a number > 0, got {self.mu!r}")
        if self.oracle == "conjugate":
            raise ValueError(
                "oracle: the conjugate of a logistic loss has no closed form; dual methods run on "
                "NetworkLinear and NetworkQuadratic, expected oracle='gradient' here"
            )
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size)
        super().__post_init__()
        if self.data == "synthetic":
            self._check_synthetic()
        else:
            self._check_real()

    def _check_synthetic(self) -> None:
        check_whole("samples", self.samples)
        if self.width < 2:
            raise ValueError(f"dim: expected at least the 2 inputs that tell the classes, got {self.width}")
        if self.split != "iid" or self.positive is not None:
            raise ValueError("split, positive: synthetic nodes have data of their own, nothing is dealt out")

    def _check_real(self) -> None:
        refuse_changed(self, ("samples",), f"{self.data} is dealt out whole")
        count, classes = len(self._real.train_y), set(range(self._real.classes))
        if self.dim not in (None, self.width):
            raise ValueError(f"dim: expected None or the {self.width} inputs of {self.data}, got {self.dim}")
        if self.agents > count:
            raise ValueError(f"nodes: expected at most the {count} samples of {self.data}, got {self.agents}")
        if not set() < set(self._labelled) < classes:
            raise ValueError(
                f"positive: expected some and not all of the classes 0 to {len(classes) - 1} of {self.data}, "
                f"got {self.positive!r}"
            )

    @cached_property
    def _real(self) -> Dataset:
        return load(self.data)

    @property
    def _labelled(self) -> tuple[int, ...]:
        return POSITIVE[self.data] if self.positive is None else self.positive

    @property
    def width(self) -> int:
        if self.data != "synthetic":
            return math.prod(self._real.shape)
        return 2 if self.dim is None else self.dim

    @cached_property
    def _tensors(self) -> Tensors:
        return tensors(self._real, self.torch_device, torch.float64, "feature")

    def _signs(self, classes: Int64[Tensor, "..."]) -> Float[Tensor, "..."]:
        positive = torch.tensor(self._labelled, device=classes.device)
        return torch.isin(classes, positive).double() * 2 - 1

    @cached_property
    def _test(self) -> tuple[Float[Tensor, "t d"], Float[Tensor, "t"]]:
        """Inputs and labels of the test part."""
        return self._tensors.test_x.flatten(1).to(self.torch_dtype), self._signs(self._tensors.test_y)

    @cached_property
    def _parts(self) -> tuple[Int64[Tensor, "N m"], Int64[Tensor, "N"]]:
        """Where in the order of the samples each node's part lies, padded by its first, and its length."""
        count = len(self._real.train_y)
        cuts = torch.arange(self.agents + 1, device=self.torch_device) * count // self.agents
        size = cuts.diff()
        place = torch.arange(int(size.max()), device=self.torch_device)
        return cuts[:-1, None] + torch.where(place < size[:, None], place, 0), size

    def rows(self, keys: Keys) -> Int64[Tensor, "B N m"]:
        """The training samples of each node; where a node has one less than another, its first again."""
        order = bits(keys, "split", len(self._real.train_y)).argsort(-1)
        if self.split == "class":
            order = order.gather(-1, self._tensors.train_y[order].argsort(dim=-1, stable=True))
        return order[:, self._parts[0]]

    def table(self, keys: Keys) -> Samples:
        """The samples of every node, float64."""
        if self.data == "synthetic":
            return two_classes(keys, self.agents, self.samples, self.width)
        rows = self.rows(keys)
        signs, (_, size) = self._signs(self._tensors.train_y), self._parts
        filled = torch.arange(rows.shape[-1], device=keys.device) < size[:, None]
        return Samples(
            inputs=self._tensors.train_x.flatten(1)[rows],
            labels=signs[rows],
            weights=(filled.double() / size[:, None]).expand(rows.shape),
        )

    def draw(self, keys: Keys) -> Draw:
        table = self.table(keys)
        signed = table.inputs * table.labels.unsqueeze(-1)
        weighted = table.weights.unsqueeze(-1) * signed
        if self.official_L:
            square = (weighted * signed).sum((-1, -2)).amax(-1)
            largest = (square / 4).clamp_min(1.0)
        else:
            largest = torch.linalg.eigvalsh(weighted.mT @ signed)[..., -1].amax(-1) / 4 + self.mu
        solution = minimise(signed.flatten(1, 2), table.weights.flatten(1) / self.agents, self.mu)
        least = self._value(signed, table.weights, solution)
        data = {"signed": signed, "weights": table.weights, "least": least}
        dtype = self.torch_dtype
        functions = Functions(
            data={name: value.to(dtype) for name, value in data.items()}, solution=solution.to(dtype)
        )
        return Draw(functions=functions, mu=torch.full_like(largest, self.mu).to(dtype), L=largest.to(dtype))

    def _value(self, signed: Tensor, weights: Tensor, x: Float[Tensor, "B d"]) -> Float[Tensor, "B"]:
        """The mean of the f_i."""
        margin = (signed.flatten(1, 2) @ x.unsqueeze(-1)).squeeze(-1)
        loss = (weights.flatten(1) * softplus(-margin)).sum(-1) / self.agents
        return loss + self.mu / 2 * x.square().sum(-1)

    def gradient(self, data: Any, x: Float[Tensor, "B N d"], keys: Int64[Tensor, "B N"]) -> Tensor:
        signed, weights = data["signed"], data["weights"]
        if self.batch_size is not None:
            sizes = (weights > 0).sum(-1, keepdim=True)  # without the padding
            place = uniform(keys, "minibatch", self.batch_size, dtype=torch.float64) * sizes
            chosen = place.long().unsqueeze(-1)
            signed = signed.gather(2, chosen.expand(*chosen.shape[:-1], x.shape[-1]))
            weights = torch.full_like(signed[..., 0], 1 / self.batch_size)
        pull = weights * torch.sigmoid(-(signed @ x.unsqueeze(-1)).squeeze(-1))
        return self.mu * x - (pull.unsqueeze(-2) @ signed).squeeze(-2)

    def conjugate(self, data: Any, x: Float[Tensor, "B N d"]) -> Tensor:
        raise NotImplementedError("the conjugate of a logistic loss has no closed form")

    def measure(self, functions: Functions, x: Float[Tensor, "B d"]) -> dict[str, Tensor]:
        """The gap of the mean of the f_i; for real data the accuracy on the test part."""
        own = functions.data
        metrics = {"gap": (self._value(own["signed"], own["weights"], x) - own["least"]).clamp_min(0.0)}
        if self.data != "synthetic":
            inputs, labels = self._test
            metrics["accuracy"] = ((x @ inputs.mT) * labels > 0).to(x.dtype).mean(-1)
        return metrics
