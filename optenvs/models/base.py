"""A network as a pure function over a flat parameter vector, for B networks at once.

``apply(flat, inputs)`` has no state: what a network is, is its row of ``flat`` ``(B, D)``, cut up
by the public ``layout``. The rows never meet, so that the gradient of the sum of their losses is
the gradient of each. The slots come in the order of ``torch.nn.Module.parameters()`` of the usual
module, so that ``torch.nn.utils.parameters_to_vector`` of such a module is a row of ``flat``.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Draw = Callable[[str, tuple[int, ...]], Tensor]
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Slot:
    """One named parameter tensor of a network.

    Attributes:
        name: Unique in the layout, such as ``"hidden1.weight"``.
        shape: Its shape in one network.
        init: ``"uniform"`` on (-1/sqrt(fan_in), 1/sqrt(fan_in)), ``"ones"`` or ``"zeros"``.
        fan_in: Inputs that one output sees; for ``"uniform"`` only.
    """

    name: str
    shape: tuple[int, ...]
    init: Literal["uniform", "ones", "zeros"] = "uniform"
    fan_in: int = 1

    @property
    def size(self) -> int:
        """Numbers in the slot."""
        return math.prod(self.shape)


def linear(name: str, inputs: int, outputs: int) -> tuple[Slot, Slot]:
    """Weight ``(outputs, inputs)`` and bias ``(outputs,)`` of an affine layer."""
    return (
        Slot(f"{name}.weight", (outputs, inputs), fan_in=inputs),
        Slot(f"{name}.bias", (outputs,), fan_in=inputs),
    )


def normalisation(name: str, features: int) -> tuple[Slot, Slot]:
    """Scale and shift, ``(features,)`` each, of a normalisation layer."""
    return Slot(f"{name}.scale", (features,), "ones"), Slot(f"{name}.shift", (features,), "zeros")


@dataclass(frozen=True)
class Model(abc.ABC):
    """A network architecture: immutable, hashable, without weights.

    Attributes:
        shape: Shape of one input.
        classes: Number of logits.
    """

    shape: tuple[int, ...]
    classes: int

    reads_shared: ClassVar[bool] = False
    """Whether :meth:`forward` takes inputs that networks share as they are, ``(G, m, *shape)``."""

    @abc.abstractmethod
    def build(self) -> tuple[Slot, ...]:
        """The slots in the order in which they lie in the flat vector."""

    @abc.abstractmethod
    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m c"]:
        """Logits of ``inputs`` ``(B, m, *shape)`` under parameters ``(B, *slot.shape)``."""

    @cached_property
    def layout(self) -> tuple[Slot, ...]:
        """The slots of the flat vector, in order."""
        return self.build()

    @cached_property
    def size(self) -> int:
        """D, the number of parameters."""
        return sum(slot.size for slot in self.layout)

    def unflatten(self, flat: Float[Tensor, "B D"]) -> Parameters:
        """Views of the slots by name, each ``(B, *slot.shape)``."""
        # split, not slices: its backward is one concatenation
        parts = flat.split([slot.size for slot in self.layout], dim=1)
        batch = flat.shape[0]
        return {
            slot.name: part.view(batch, *slot.shape) for slot, part in zip(self.layout, parts, strict=True)
        }

    def flatten(self, parameters: Parameters) -> Float[Tensor, "B D"]:
        """The inverse of :meth:`unflatten`; also for gradients by name."""
        return torch.cat([parameters[slot.name].flatten(1) for slot in self.layout], dim=1)

    def initial(self, draw: Draw) -> Float[Tensor, "B D"]:
        """Starting weights as torch's modules have them: Kaiming-uniform with a = sqrt(5).

        Args:
            draw: ``draw(name, shape)`` gives uniform numbers of [0, 1), shape ``(B, *shape)``;
                their device and type are those of the result.
        """
        parts = []
        for slot in self.layout:
            if slot.init == "uniform":
                bound = 1 / math.sqrt(slot.fan_in)
                parts.append((2 * draw(slot.name, slot.shape).flatten(1) - 1) * bound)
            else:
                parts.append(float(slot.init == "ones"))
        like = next(part for part in parts if isinstance(part, Tensor))
        return torch.cat(
            [
                part if isinstance(part, Tensor) else like.new_full((len(like), slot.size), part)
                for slot, part in zip(self.layout, parts, strict=True)
            ],
            dim=1,
        )

    def apply(self, flat: Float[Tensor, "B D"], inputs: Tensor) -> Float[Tensor, "B m c"]:
        """Logits of each network on its own inputs.

        Batch normalisation uses the statistics of the ``m`` inputs given, in training and in
        evaluation: running averages would be a state beside the parameters, and the loss no
        function of them. So evaluate a network with it on large batches, and state their size.

        Args:
            flat: One network a row.
            inputs: ``(B, m, *shape)``, or ``(G, m, *shape)`` with G a divisor of B for inputs that each
                B / G networks in a row share.

        Returns:
            ``(B, m, classes)``.
        """
        if not self.reads_shared:
            inputs = share(inputs, flat.shape[0])
        return self.forward(self.unflatten(flat), inputs)

    def closed_form(
        self, flat: Float[Tensor, "B D"], inputs: Tensor, targets: Int64[Tensor, "B m"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]] | None:
        """Cross-entropy and its gradient written out by hand; None where autograd has to do it.

        A pure function of differentiable operations, as :meth:`apply` is.
        """
        return None


def share(inputs: Tensor, batch: int) -> Tensor:
    """Inputs ``(G, m, ...)`` as ``(batch, m, ...)``, each ``batch / G`` times in a row; for G = 1 a view."""
    if inputs.shape[0] == batch:
        return inputs
    if inputs.shape[0] == 1:
        return inputs.expand(batch, *inputs.shape[1:])
    return inputs.repeat_interleave(batch // inputs.shape[0], 0)
