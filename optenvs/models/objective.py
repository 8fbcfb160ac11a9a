"""A model and a loss on given samples: value, gradient, curvature, and score.

Pure functions of flat parameters. The samples are a :class:`Part`: of a minibatch, which every network has to
itself, or of a whole data set, which all of them share and nobody copies. Where a point ``(B, D)`` is asked
for, a block ``(B, q, D)`` may stand: ``q`` points of each instance, and answers ``(B, q, ...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.oracles import gauss_newton, hvp, value_and_gradient
from optenvs.core.struct import struct

from .base import Model, share
from .losses import LOSSES, accuracy, loss_and_gradient


@struct
class Part:
    """Some samples: of each instance its own, or shared (leading dimension 1, or a divisor G of ``B``).

    Attributes:
        inputs: ``(G, m, *shape)``.
        targets: class numbers ``(G, m)``, or numbers ``(G, m)`` or ``(G, m, c)``; their G need not be that of
            ``inputs``: shared inputs may have labels of each instance's own.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.inputs.shape[1]

    def pieces(self, size: int | None) -> Iterable[Part]:
        """The samples in pieces of at most ``size``."""
        if size is None or size >= len(self):
            return (self,)
        cuts = range(0, len(self), size)
        return (Part(self.inputs[:, i : i + size], self.targets[:, i : i + size]) for i in cuts)


@dataclass(frozen=True)
class Objective:
    """The mean loss of a model on a part of its data.

    Attributes:
        model: the architecture.
        loss: one of :data:`LOSSES`.
        piece: samples that go through the model at once, to bound memory; ``None`` for all. The answers are
            the same to rounding, but for batch normalisation, which sees the piece.
    """

    model: Model
    loss: str = "cross_entropy"
    piece: int | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.loss == "logistic" and self.model.classes != 1:
            raise ValueError(f"loss: logistic needs a model of one output, got {self.model.classes}")
        if self.loss == "cross_entropy" and self.model.classes < 2:
            raise ValueError("loss: cross_entropy needs a model of two outputs or more, got 1")
        if self.piece is not None and self.piece < 1:
            raise ValueError(f"piece: expected a whole number >= 1 or None, got {self.piece!r}")

    def of(self, outputs: Float[Tensor, "B m c"], targets: Tensor) -> Float[Tensor, "B"]:
        """The loss of outputs."""
        return LOSSES[self.loss](outputs, share(targets, outputs.shape[0]))

    def value(self, point: Tensor, part: Part, fixed: Tensor | None = None) -> Tensor:
        """The loss, ``(B,)``. ``fixed`` are the model's frozen slots, where it has some."""

        def ask(rows: Tensor, piece: Part) -> tuple[Tensor, ...]:
            return (self.of(self.model.apply(rows, piece.inputs, fixed), piece.targets),)

        return self._ask(ask, point, part)[0]

    def value_and_gradient(
        self, point: Tensor, part: Part, fixed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss and its gradient, of the shape of ``point``."""

        def ask(rows: Tensor, piece: Part) -> tuple[Tensor, ...]:
            if self.loss == "cross_entropy":  # it may have a closed form
                targets = share(piece.targets, rows.shape[0])
                return loss_and_gradient(self.model, rows, piece.inputs, targets, fixed)

            def loss(rows: Tensor) -> Tensor:
                return self.of(self.model.apply(rows, piece.inputs, fixed), piece.targets)

            return value_and_gradient(loss, rows)

        value, gradient = self._ask(ask, point, part)
        return value, gradient

    def hvp(
        self, point: Tensor, part: Part, vector: Tensor, fixed: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, gradient, and the Hessian's product with ``vector``.

        Args:
            point: ``(B, D)`` or a block ``(B, q, D)``.
            part: the samples.
            vector: of the shape of ``point``, or a block of vectors at every point, ``(B, m, D)`` or
                ``(B, q, m, D)``.
            fixed: the model's frozen slots.
        """

        def ask(rows: Tensor, piece: Part, vectors: Tensor) -> tuple[Tensor, ...]:
            def loss(rows: Tensor) -> Tensor:
                return self.of(self.model.apply(rows, piece.inputs, fixed), piece.targets)

            return hvp(loss, rows, vectors)

        value, gradient, product = self._ask(ask, point, part, vector)
        return value, gradient, product

    def gauss_newton(
        self, point: Tensor, part: Part, vector: Tensor, fixed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss, and the product of the Gauss-Newton matrix with ``vector``; arguments as of :meth:`hvp`.

        It is J' H J, with J the Jacobian of the model's outputs and H the loss's Hessian by them: the Fisher
        matrix, where the loss is the cross-entropy.
        """

        def ask(rows: Tensor, piece: Part, vectors: Tensor) -> tuple[Tensor, ...]:
            def network(rows: Tensor) -> Tensor:
                return self.model.apply(rows, piece.inputs, fixed)

            return gauss_newton(network, lambda outputs: self.of(outputs, piece.targets), rows, vectors)

        value, product = self._ask(ask, point, part, vector)
        return value, product

    def score(
        self, point: Float[Tensor, "B D"], parts: Iterable[Part], fixed: Tensor | None = None
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Loss and accuracy over all ``parts``."""
        loss, correct, count = torch.zeros_like(point[:, 0]), torch.zeros_like(point[:, 0]), 0
        for part in parts:
            outputs = self.model.apply(point, part.inputs, fixed)
            targets = share(part.targets, len(point))
            loss = loss + self.of(outputs, targets) * len(part)
            correct = correct + accuracy(outputs, targets) * len(part)
            count += len(part)
        return loss / count, correct / count

    def _ask(
        self, ask: Callable[..., tuple[Tensor, ...]], point: Tensor, part: Part, *vectors: Tensor
    ) -> tuple[Tensor, ...]:
        """Means over the samples of what ``ask`` says of rows on a piece, in the form of ``point``."""
        block = point.ndim == 3
        given: list[Any] = [x.flatten(0, 1) if block else x for x in (point, *vectors)]
        answers: tuple[Tensor, ...] = ()
        for piece in part.pieces(self.piece):
            share_of_all = len(piece) / len(part)
            found = ask(given[0], piece, *given[1:])
            if len(piece) < len(part):
                found = tuple(share_of_all * x for x in found)
            answers = tuple(a + b for a, b in zip(answers, found, strict=True)) if answers else found
        return tuple(x.unflatten(0, point.shape[:2]) for x in answers) if block else answers
