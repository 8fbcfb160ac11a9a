"""A loss tuned to classes that are rare, by clients that share the data (LV-HBA, section 4; loss tuning).

Of the digits class i keeps a share ``ratio``^(i / 9) of the samples of class 0, so that the last one is rare.
Each client holds as many samples as any other, half of them for training, half for validation. The upper
variable is (Delta, l), ten numbers each: the lower loss is the cross-entropy of ``logits * sigmoid(Delta) +
l``, in which a class weighs ``ratio``^(-i / 9), normalised to a mean weight of 1; the upper loss is the plain
cross-entropy of the validation samples. There is no constraint. The network is not convex, and no exact lower
solution is known: ``value`` is F where ``solve_steps`` steps of Adam on the whole lower loss lead from y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.given import check_choice, check_whole
from optenvs.core.oracles import value_and_gradient
from optenvs.core.random import Keys, bits, integers
from optenvs.core.struct import struct
from optenvs.data import Dataset, load
from optenvs.data.placed import Tensors, tensors
from optenvs.models import Model, make_model

from .federated import Federated

CLASSES = 10


@struct
class Share:
    """The samples of each client, as rows of the training images, ``(B, N, h)`` each."""

    train: Int64[Tensor, "*B h"]
    validation: Int64[Tensor, "*B h"]


@dataclass(frozen=True, eq=False, kw_only=True)
class BilevelLongTail(Federated):
    """Clients tune the loss of a network to classes that are rare: 8x8 digits, an MLP.

    The merit is ``value`` + ``lower_gap``: the upper loss once y is trained on, and what training still
    gains.

    Args:
        clients, fraction: see :class:`~optenvs.envs.bilevel.federated.Federated`; the paper has 100 and 0.1.
        ratio: what the last class has of the first one's samples.
        split: ``iid``: samples are dealt out at random; ``class``: sorted by class, so that a client sees
            few.
        widths: hidden widths of the MLP; none for logistic regression, with which the lower level is convex.
        batch_size: samples that a gradient uses, drawn uniformly with replacement; ``None`` for all.
        solve_steps, solve_rate: of Adam, from y to ``value``.
        evaluation_period: queries between two measurements, which train.
        budget: a number counts rounds.
        reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    ratio: float = 0.1
    split: str = "iid"
    widths: tuple[int, ...] = (16,)
    batch_size: int | None = 10
    solve_steps: int = 50
    solve_rate: float = 0.02
    evaluation_period: Any = 20

    meanings: ClassVar[dict[str, str]] = {
        "upper_value": "the validation loss F at the server's pair, the mean over the clients",
        "lower_value": "the weighted training loss f there",
        "metric value": "F where training on leads from y",
        "lower_gap": "what f loses on the way there",
        "test_accuracy": "share of the 360 test images, no class of which is rare, that y gets right",
        "tail_accuracy": "the same among the five rarest classes",
    }
    painter = "optenvs.envs.bilevel.long_tail_picture:tuning"

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio: expected a number in (0, 1], got {self.ratio!r}")
        check_choice("split", self.split, ("iid", "class"))
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size)
        check_whole("solve_steps", self.solve_steps)
        if not 0 < self.solve_rate < float("inf"):
            raise ValueError(f"solve_rate: expected a number > 0, got {self.solve_rate!r}")
        super().__post_init__()
        if self._half < 1:
            raise ValueError(
                f"clients: expected at most {self._total // 2}, two of the {self._total} samples each, "
                f"got {self.clients}"
            )

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
        return make_model(kind, shape=self._data.shape, classes=CLASSES, widths=self.widths)

    @property
    def sizes(self) -> tuple[int, int]:
        return 2 * CLASSES, self.network.size

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many samples of each class there are."""
        there = [int((self._data.train_y == c).sum()) for c in range(CLASSES)]
        shares = [self.ratio ** (c / (CLASSES - 1)) for c in range(CLASSES)]
        return tuple(max(1, min(n, round(there[0] * s))) for n, s in zip(there, shares, strict=True))

    @cached_property
    def weights(self) -> Float[Tensor, "c"]:
        """What a sample of each class weighs in the lower loss; 1 on average."""
        counts = torch.tensor(self.counts, dtype=self.torch_dtype, device=self.torch_device)
        powers = torch.arange(CLASSES, dtype=self.torch_dtype, device=self.torch_device) / (CLASSES - 1)
        weights = self.ratio**-powers
        return weights * counts.sum() / (weights * counts).sum()

    @property
    def _total(self) -> int:
        return sum(self.counts)

    @property
    def _half(self) -> int:
        return self._total // self.clients // 2

    def draw(self, keys: Keys) -> tuple[Share, Tensor, Tensor]:
        labels = self._tensors.train_y
        # each class keeps its first samples in a random order of all
        order = bits(keys, "samples", len(labels)).argsort(-1)
        by_class = order.gather(-1, labels[order].argsort(dim=-1, stable=True))  # (B, all)
        kept, first = [], 0
        for c, count in enumerate(self.counts):
            kept.append(by_class[:, first : first + count])
            first += int((self._data.train_y == c).sum())
        rows = torch.cat(kept, -1)
        if self.split == "iid":
            rows = rows.gather(-1, bits(keys, "clients", rows.shape[1]).argsort(-1))
        share, half = self._total // self.clients, self._half
        dealt = rows[:, : share * self.clients].unflatten(-1, (self.clients, share))
        mixed = bits(keys, "halves", (self.clients, share)).argsort(-1)
        dealt = dealt.gather(-1, mixed)
        y = self.network.draw(keys, self.torch_dtype)
        x = torch.zeros(len(keys), 2 * CLASSES, dtype=y.dtype, device=y.device)
        return Share(train=dealt[..., :half], validation=dealt[..., half : 2 * half]), x, y

    def batches(self, data: Share, keys: Int64[Tensor, "R"]) -> tuple[Tensor, Tensor]:
        if self.batch_size is None:
            return data.validation, data.train
        size, half = self.batch_size, self._half
        return (
            data.validation.gather(-1, integers(keys, "validation", size, half)),
            data.train.gather(-1, integers(keys, "train", size, half)),
        )

    def upper(self, batch: Int64[Tensor, "R h"], x: Tensor, y: Tensor) -> Float[Tensor, "R"]:
        return self._loss(self._logits(y, batch), batch).mean(-1)

    def lower(self, batch: Int64[Tensor, "R h"], x: Tensor, y: Tensor) -> Float[Tensor, "R"]:
        scale, shift = x[:, None, :CLASSES].sigmoid(), x[:, None, CLASSES:]
        weights = self.weights[self._tensors.train_y[batch]]
        return (weights * self._loss(self._logits(y, batch) * scale + shift, batch)).mean(-1)

    def _logits(self, y: Tensor, rows: Int64[Tensor, "R h"]) -> Float[Tensor, "R h c"]:
        return self.network.apply(y, self._tensors.train_x[rows])

    def _loss(self, logits: Float[Tensor, "R h c"], rows: Int64[Tensor, "R h"]) -> Float[Tensor, "R h"]:
        labels = self._tensors.train_y[rows].unsqueeze(-1)
        return logits.logsumexp(-1) - logits.gather(-1, labels).squeeze(-1)

    def measure(self, data: Share, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        train, validation = data.train.flatten(1), data.validation.flatten(1)
        F, f = self.upper(validation, x, y), self.lower(train, x, y)
        trained = self.train(train, x, y)
        value, gap = self.upper(validation, x, trained), f - self.lower(train, x, trained)
        labels = self._tensors.test_y
        right = self.network.apply(y, self._tensors.test_x.unsqueeze(0)).argmax(-1) == labels
        rare = labels >= CLASSES // 2
        return value + gap.clamp_min(0), {
            "upper_value": F,
            "lower_value": f,
            "value": value,
            "lower_gap": gap,
            "test_accuracy": right.to(y.dtype).mean(-1),
            "tail_accuracy": (right & rare).sum(-1) / rare.sum().to(y.dtype),
        }

    def train(self, rows: Int64[Tensor, "B h"], x: Tensor, y: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
        """Where Adam on the whole lower loss leads from y; the best of the way, row by row."""
        first, second = torch.zeros_like(y), torch.zeros_like(y)
        least = torch.full_like(y[:, :1], torch.inf)
        best = y
        for k in range(1, self.solve_steps + 1):
            value, slope = value_and_gradient(lambda at: self.lower(rows, x, at), y)
            better = value.unsqueeze(-1) < least
            best, least = torch.where(better, y, best), torch.where(better, value.unsqueeze(-1), least)
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope.square()
            step = (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
            y = y - self.solve_rate * step
        last = self.lower(rows, x, y).unsqueeze(-1)
        return torch.where(last < least, y, best)
