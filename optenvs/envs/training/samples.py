"""Samples as each instance has them: a data set, its own split into two parts, its own noise in the targets.

Answers are a :class:`~optenvs.models.Part`, for an :class:`~optenvs.models.Objective`. What all instances
share is handed on once, ``(1, n, ...)``; only a minibatch, and a part of an instance's own, are gathered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from optenvs.core.random import Keys, permutation, uniform, uniform_at
from optenvs.core.struct import rows, struct
from optenvs.models import Part

from .augmentation import crop_flip, draw_crop_flip

PARTS = ("train", "test")


@struct
class Split:
    """An instance's own parts: numbers of samples, ``(B, n)`` and ``(B, m)``, without a common one."""

    train: Int64[Tensor, "B n"]
    test: Int64[Tensor, "B m"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """The samples of a family of instances.

    Attributes:
        inputs: of training, or all of which each instance draws its own parts, ``(n, *shape)``.
        targets: class numbers ``(n,)``, or numbers ``(n,)`` or ``(n, c)``.
        test_inputs: the held-out ones, for instances without a split of their own.
        test_targets: theirs.
        classes: the number of classes; 0 for targets that are numbers.
        noise: of training targets: the share of labels that are drawn anew, uniformly over the classes; or
            the standard deviation of what is added to numbers.
        split: how many samples an instance trains on, drawn by itself; those left are its test part.
            ``None``: all train, and the test part is given.
        augment: ``none`` or ``crop_flip``, of minibatches; see :mod:`.augmentation`.
        black: what a black pixel is.
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor | None = None
    test_targets: Tensor | None = None
    classes: int = 0
    noise: float = 0.0
    split: int | None = None
    augment: str = "none"
    black: Tensor | None = None

    def __post_init__(self) -> None:
        if self.split is not None and not 0 < self.split < len(self.inputs):
            raise ValueError(f"split: expected a number in 1 .. {len(self.inputs) - 1}, got {self.split!r}")
        if not 0 <= self.noise <= (1 if self.classes else math.inf):
            raise ValueError(f"noise: expected a share in [0, 1] or a deviation, got {self.noise!r}")

    def __len__(self) -> int:
        """The number of training samples of an instance."""
        return len(self.inputs) if self.split is None else self.split

    def draw_split(self, keys: Keys) -> Split | None:
        """The parts that each instance has to itself; ``None`` where they are given."""
        if self.split is None:
            return None
        order = permutation(keys, "split", len(self.inputs))
        return Split(train=order[:, : self.split], test=order[:, self.split :])

    def labels(self, keys: Keys, index: Int64[Tensor, "B m"]) -> Tensor:
        """The training targets of samples ``index`` as each instance has them."""
        clean = self.targets[index]
        if not self.noise:
            return clean
        if self.classes:
            chosen = uniform_at(keys, "label noise", index) < self.noise
            wrong = uniform_at(keys, "wrong label", index) * self.classes
            return torch.where(chosen, wrong.to(torch.int64), clean)
        outputs = clean.shape[2:].numel()
        place = index.unsqueeze(-1) * outputs + torch.arange(outputs, device=index.device)
        radius, angle = (
            uniform_at(keys, f"target noise {name}", place.flatten(1)).to(clean.dtype)
            for name in ("radius", "angle")
        )
        normal = (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)  # Box and Muller
        return clean + self.noise * normal.view_as(clean)

    def at(self, keys: Keys, index: Int64[Tensor, "B m"], query: Int64[Tensor, "B"] | None = None) -> Part:
        """Training samples ``index`` of each instance; with ``query`` as they look at that query."""
        if self.augment == "crop_flip" and query is not None:
            assert self.black is not None
            drawn = draw_crop_flip(keys, query, index.shape[1])
            inputs = crop_flip(self.inputs, index, *drawn, self.black)
        else:
            inputs = _take(self.inputs, index)
        return Part(inputs, self.labels(keys, index))

    def part(self, keys: Keys, which: str, split: Split | None = None) -> Part:
        """All of ``train`` or of ``test``, as the samples are: not augmented; noise is in ``train`` alone."""
        if which not in PARTS:
            raise ValueError(f"which: expected train or test, got {which!r}")
        if split is not None:
            if which == "train":
                return self.at(keys, split.train)
            return Part(_take(self.inputs, split.test), self.targets[split.test])
        if which == "test":
            assert self.test_inputs is not None and self.test_targets is not None
            return Part(self.test_inputs.unsqueeze(0), self.test_targets.unsqueeze(0))
        if not self.noise:
            return Part(self.inputs.unsqueeze(0), self.targets.unsqueeze(0))
        everyone = torch.arange(len(self.inputs), device=keys.device).expand(len(keys), -1)
        return Part(self.inputs.unsqueeze(0), self.labels(keys, everyone))

    def drawn(self, keys: Keys, which: str, size: int, query: Int64[Tensor, "B"]) -> Part:
        """``size`` samples of a given part, drawn anew for each instance and query, as they are."""
        own = self.inputs if which == "train" else self.test_inputs
        assert own is not None
        place = uniform(keys, f"fresh {which}", size, query, torch.float64) * len(own)
        index = place.to(torch.int64).clamp_max(len(own) - 1)
        if which == "train":
            return self.at(keys, index)
        assert self.test_targets is not None
        return Part(_take(own, index), self.test_targets[index])

    def in_groups(
        self, keys: Keys, which: str, elements: int, piece: int, split: Split | None = None
    ) -> Iterator[tuple[slice, Iterator[Part]]]:
        """A part in pieces of ``piece`` samples, for so many instances at once that memory is bounded.

        Args:
            keys: the instances.
            which: ``train`` or ``test``.
            elements: numbers that the inputs of a group's pieces may have.
            piece: samples of a piece: fixed, because batch normalisation sees it.
            split: their own parts.

        Yields:
            the instances as a slice, and their pieces.
        """
        # parts of their own are gathered whole
        at_once = piece if split is None else getattr(split, which).shape[1]
        group = max(1, elements // (at_once * self.inputs[0].numel()))
        for first in range(0, len(keys), group):
            some = slice(first, first + group)
            part = self.part(keys[some], which, None if split is None else rows(split, some))
            yield some, iter(part.pieces(piece))


def _take(inputs: Tensor, index: Int64[Tensor, "B m"]) -> Tensor:
    # index_select copies whole samples, in half the time of indexing by two dimensions
    taken = inputs.index_select(0, index.flatten())
    return taken.view(*index.shape, *taken.shape[1:])
