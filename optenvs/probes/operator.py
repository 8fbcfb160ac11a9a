"""Symmetric operators, known by their products alone: a Hessian, a Gauss-Newton matrix, or a plain matrix.

An :class:`Operator` is what every probe takes. B instances have one each; products are of a block of vectors
of each instance, ``(B, q, D)``, and an operator on some coordinates only (one layer) is the principal
submatrix of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.oracles import gauss_newton, hvp
from optenvs.models import LOSSES, Model, Objective, Part

Kind = Literal["hessian", "gauss_newton"]
KINDS = ("hessian", "gauss_newton")


@dataclass(frozen=True)
class Operator:
    """B symmetric ``D x D`` operators.

    Attributes:
        product: a block ``(B, q, D)`` to the block of products, of the same shape.
        batch: B.
        size: D.
        dtype: of vectors and products.
        device: where they lie.
    """

    product: Callable[[Tensor], Tensor]
    batch: int
    size: int
    dtype: torch.dtype
    device: torch.device

    def __call__(self, vectors: Float[Tensor, "B q D"]) -> Float[Tensor, "B q D"]:
        """The products with ``vectors``.

        Raises:
            ValueError: no block ``(B, q, D)``.
        """
        if vectors.ndim != 3 or vectors.shape[0] != self.batch or vectors.shape[2] != self.size:
            expected = f"({self.batch}, q, {self.size})"
            raise ValueError(f"vectors: expected the shape {expected}, got {tuple(vectors.shape)}")
        return self.product(vectors)

    def on(self, coordinates: Tensor) -> Operator:
        """The principal submatrix on ``coordinates``, whole numbers ``(d,)``.

        Raises:
            ValueError: no such coordinates, or some twice.
        """
        if coordinates.ndim != 1 or coordinates.dtype != torch.int64 or not len(coordinates):
            got = f"{coordinates.dtype} {tuple(coordinates.shape)}"
            raise ValueError(f"coordinates: expected int64 (d,) with d >= 1, got {got}")
        where = coordinates.to(self.device)
        if int(where.min()) < 0 or int(where.max()) >= self.size or len(where.unique()) < len(where):
            raise ValueError(f"coordinates: expected distinct numbers in [0, {self.size})")

        def product(vectors: Tensor) -> Tensor:
            whole = vectors.new_zeros(*vectors.shape[:2], self.size)
            return self(whole.index_copy(2, where, vectors)).index_select(2, where)

        return Operator(product, self.batch, len(where), self.dtype, self.device)

    def dense(self, chunk: int = 128) -> Float[Tensor, "B D D"]:
        """The matrices, symmetrised, of products with ``chunk`` columns of the identity at once."""
        check_whole("chunk", chunk, 1)
        columns = []
        for first in range(0, self.size, chunk):
            count = min(chunk, self.size - first)
            block = torch.zeros(count, self.size, dtype=self.dtype, device=self.device)
            block[torch.arange(count), first + torch.arange(count)] = 1
            columns.append(self(block.expand(self.batch, -1, -1)))
        matrix = torch.cat(columns, 1)
        return (matrix + matrix.mT) / 2


def matrix(matrices: Float[Tensor, "B D D"]) -> Operator:
    """The operator of given symmetric matrices.

    Raises:
        ValueError: not ``(B, D, D)``, no floating point, or not symmetric to rounding.
    """
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or not matrices.is_floating_point():
        got = f"{matrices.dtype} {tuple(matrices.shape)}"
        raise ValueError(f"matrices: expected floating point (B, D, D), got {got}")
    slack = 1e3 * torch.finfo(matrices.dtype).eps * matrices.abs().amax()
    if not bool((matrices - matrices.mT).abs().amax() <= slack):
        raise ValueError("matrices: expected symmetric matrices of numbers")
    batch, size, _ = matrices.shape
    return Operator(lambda v: v @ matrices, batch, size, matrices.dtype, matrices.device)


def at_point(
    objective: Objective,
    point: Float[Tensor, "B D"],
    part: Part,
    *,
    kind: Kind = "hessian",
    layer: str | None = None,
    fixed: Tensor | None = None,
) -> Operator:
    """The curvature of a training objective at the points of B networks.

    Args:
        objective: model and loss.
        point: flat parameters, such as a training environment's, or a run's record of them.
        part: the samples.
        kind: ``"hessian"``, or ``"gauss_newton"`` (of the logits, not of the label's probability).
        layer: a slot's name, or the beginning of some up to a dot (``"hidden1"``); ``None`` for all.
        fixed: the model's frozen slots.

    Raises:
        ValueError: an unknown kind or layer, or a point of another shape.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    if point.ndim != 2 or point.shape[1] != objective.model.size:
        raise ValueError(f"point: expected (B, {objective.model.size}), got {tuple(point.shape)}")

    def product(vectors: Tensor) -> Tensor:
        if kind == "hessian":
            return objective.hvp(point, part, vectors, fixed)[2]
        return objective.gauss_newton(point, part, vectors, fixed)[1]

    whole = Operator(product, len(point), point.shape[1], point.dtype, point.device)
    return whole if layer is None else whole.on(coordinates(objective.model, layer))


def coordinates(model: Model, layer: str) -> Tensor:
    """Where a layer's parameters stand in a model's flat vector, ``(d,)``.

    Raises:
        ValueError: the model has no such slot.
    """
    found, first = [], 0
    for slot in model.layout:
        if slot.name == layer or slot.name.startswith(f"{layer}."):
            found.append(torch.arange(first, first + slot.size))
        first += slot.size
    if not found:
        names = ", ".join(slot.name for slot in model.layout)
        raise ValueError(f"layer: expected one of {names}, or the beginning of one, got {layer!r}")
    return torch.cat(found)


def of_module(
    module: torch.nn.Module,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    loss: str | Callable[[Tensor, Tensor], Tensor] = "cross_entropy",
    kind: Kind = "hessian",
) -> Operator:
    """The curvature of a user's own module on given data, as an operator of one instance.

    The order of coordinates is that of ``parameters()`` which ask for a gradient; unused ones have zero rows.
    The mean over all samples weighs each batch by its size, so that a smaller last batch counts as it should.

    Args:
        module: a module in evaluation mode, or the curvature would hang on batch statistics and dropout.
        batches: pairs of inputs ``(m, ...)`` and targets ``(m, ...)``.
        loss: one of the project's losses, or a function of outputs and targets to their mean loss.
        kind: as in :func:`at_point`.

    Raises:
        ValueError: a module in training mode or without parameters, no data, an unknown loss or kind.
    """
    parameters = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    _check_module(module, parameters, batches, loss, kind)
    others = dict(module.named_buffers()) | {
        name: p.detach() for name, p in module.named_parameters() if not p.requires_grad
    }
    flat = torch.cat([p.reshape(-1) for p in parameters.values()])[None]
    total = sum(len(targets) for _, targets in batches)

    def outputs(row: Tensor, inputs: Tensor) -> Tensor:
        pieces = row[0].split([p.numel() for p in parameters.values()])
        own = {name: x.view(p.shape) for (name, p), x in zip(parameters.items(), pieces, strict=True)}
        return torch.func.functional_call(module, own | others, (inputs,))

    def mean(answers: Tensor, targets: Tensor) -> Tensor:
        if callable(loss):
            return loss(answers, targets).reshape(1)
        return LOSSES[loss](answers[None], targets[None])

    def one(inputs: Tensor, targets: Tensor, vectors: Tensor) -> Tensor:
        if kind == "hessian":
            return hvp(lambda row: mean(outputs(row, inputs), targets), flat, vectors)[2]
        return gauss_newton(
            lambda row: outputs(row, inputs)[None], lambda z: mean(z[0], targets), flat, vectors
        )[1]

    def product(vectors: Tensor) -> Tensor:
        answer = torch.zeros_like(vectors)
        for inputs, targets in batches:
            answer = answer + len(targets) / total * one(inputs, targets, vectors)
        return answer

    return Operator(product, 1, flat.shape[1], flat.dtype, flat.device)


def _check_module(
    module: torch.nn.Module, parameters: dict[str, Tensor], batches: Sequence[Any], loss: Any, kind: str
) -> None:
    if module.training:
        raise ValueError("module: expected evaluation mode (module.eval()), got training mode")
    if not parameters:
        raise ValueError("module: expected parameters that ask for a gradient, got none")
    if not len(batches) or not all(len(targets) for _, targets in batches):
        raise ValueError("batches: expected pairs of inputs and targets with samples, got none")
    if not callable(loss) and loss not in LOSSES:
        raise ValueError(f"loss: expected a function or one of {', '.join(LOSSES)}, got {loss!r}")
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
