"""A network as a pure function over a flat parameter vector, for B networks at once.

``apply(flat, inputs)`` has no state: what a network is, is its row of ``flat`` ``(B, D)``, cut up
by the public ``layout``. The rows never meet, so that the gradient of the sum of their losses is
the gradient of each. The slots come in the order of ``torch.nn.Module.parameters()`` of the usual
module, so that ``torch.nn.utils.parameters_to_vector`` of such a module is a row of ``flat``.

Slots that a model holds ``frozen`` (features that are drawn and stay) are not in ``flat``, nor in the layout:
they lie in a second vector, ``fixed``.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, normal, uniform

Draw = Callable[[str, tuple[int, ...]], Tensor]
Parameters = dict[str, Tensor]


INITS = ("uniform", "normal")


@dataclass(frozen=True)
class Slot:
    """One named parameter tensor of a network.

    Attributes:
        name: Unique in the layout, such as ``"hidden1.weight"``.
        shape: Its shape in one network.
        init: ``"uniform"`` on (-gain/sqrt(fan_in), gain/sqrt(fan_in)), ``"normal"`` with standard deviation
            gain/sqrt(fan_in), ``"ones"`` or ``"zeros"``.
        fan_in: Inputs that one output sees.
        gain: See ``init``.
        keeps: Whether :attr:`Model.init` and :attr:`Model.gain` leave it as it is.
    """

    name: str
    shape: tuple[int, ...]
    init: Literal["uniform", "normal", "ones", "zeros"] = "uniform"
    fan_in: int = 1
    gain: float = 1.0
    keeps: bool = False

    @property
    def random(self) -> bool:
        """Whether its first numbers are drawn."""
        return self.init in INITS

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
        classes: Number of outputs: logits, or the numbers of a regression.
        init: How weights begin: ``"uniform"``, as torch's modules do (biases too), or ``"normal"`` with
            standard deviation 1/sqrt(fan_in) and biases 0.
        gain: A factor on those beginnings; sqrt(2) with ``"normal"`` is He's.
        frozen: Slots, or layers by the name before the dot, held out of the flat vector.
    """

    shape: tuple[int, ...]
    classes: int
    init: str = field(default="uniform", kw_only=True)
    gain: float = field(default=1.0, kw_only=True)
    frozen: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise ValueError(f"init: expected one of {', '.join(INITS)}, got {self.init!r}")
        if not 0 < self.gain < math.inf:
            raise ValueError(f"gain: expected a number > 0, got {self.gain!r}")
        if isinstance(self.frozen, str):
            raise ValueError(f"frozen: expected a tuple of names, got {self.frozen!r}")
        names = [slot.name for slot in self.slots]
        for name in self.frozen:
            if not any(_within(slot, name) for slot in names):
                raise ValueError(f"frozen: {name!r} is no slot or layer of {', '.join(names)}")
        if not self.layout:
            raise ValueError(f"frozen: {self.frozen!r} leaves nothing to train")

    reads_shared: ClassVar[bool] = False
    """Whether :meth:`forward` takes inputs that networks share as they are, ``(G, m, *shape)``."""

    @abc.abstractmethod
    def build(self) -> tuple[Slot, ...]:
        """The slots in the order in which they lie in the flat vector."""

    @abc.abstractmethod
    def forward(self, parameters: Parameters, inputs: Tensor) -> Float[Tensor, "B m *c"]:
        """Logits of ``inputs`` ``(B, m, *shape)`` under parameters ``(B, *slot.shape)``."""

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """All slots, trained or frozen, in order."""
        return tuple(self._begun(slot) for slot in self.build())

    def _begun(self, slot: Slot) -> Slot:
        if slot.keeps or not slot.random:
            return slot
        if self.init == "normal" and len(slot.shape) == 1:
            return replace(slot, init="zeros")
        init: Any = "normal" if self.init == "normal" else slot.init
        return replace(slot, init=init, gain=self.gain * slot.gain)

    @cached_property
    def layout(self) -> tuple[Slot, ...]:
        """The slots of the flat vector, in order."""
        return tuple(slot for slot in self.slots if not self._is_frozen(slot))

    @cached_property
    def fixed_layout(self) -> tuple[Slot, ...]:
        """The frozen slots, in order: those of ``fixed``."""
        return tuple(slot for slot in self.slots if self._is_frozen(slot))

    def _is_frozen(self, slot: Slot) -> bool:
        return any(_within(slot.name, name) for name in self.frozen)

    @cached_property
    def size(self) -> int:
        """D, the number of parameters."""
        return sum(slot.size for slot in self.layout)

    def unflatten(self, flat: Float[Tensor, "B D"], fixed: Float[Tensor, "G F"] | None = None) -> Parameters:
        """Views of the slots by name, each ``(B, *slot.shape)``; with ``fixed`` the frozen ones too.

        Raises:
            ValueError: the model has frozen slots and ``fixed`` is missing, or the other way round.
        """
        if (fixed is None) != (not self.frozen):
            wanted = ", ".join(slot.name for slot in self.fixed_layout) or "no"
            came = None if fixed is None else tuple(fixed.shape)
            raise ValueError(f"fixed: expected {wanted} frozen slots beside the parameters, got {came}")
        parameters = cut(self.layout, flat)
        if fixed is None:
            return parameters
        return parameters | cut(self.fixed_layout, share(fixed, flat.shape[0]))

    def flatten(self, parameters: Parameters) -> Float[Tensor, "B D"]:
        """The inverse of :meth:`unflatten`, without the frozen slots; also for gradients by name."""
        return torch.cat([parameters[slot.name].flatten(1) for slot in self.layout], dim=1)

    def initial(self, draw: Draw, gauss: Draw | None = None) -> Float[Tensor, "B D"]:
        """Starting weights, by default as torch's modules have them: Kaiming-uniform with a = sqrt(5).

        Args:
            draw: ``draw(name, shape)`` gives uniform numbers of [0, 1), shape ``(B, *shape)``;
                their device and type are those of the result.
            gauss: the same for standard normal numbers, where a slot begins with them.
        """
        return _begin(self.layout, draw, gauss)

    def draw(self, keys: Keys, dtype: torch.dtype, stream: str = "weights") -> Float[Tensor, "B D"]:
        """:meth:`initial` out of each key's own streams, ``"weights NAME"`` for the slot NAME."""
        return _begin(self.layout, *_streams(keys, dtype, stream))

    def draw_fixed(
        self, keys: Keys, dtype: torch.dtype, stream: str = "weights"
    ) -> Float[Tensor, "B F"] | None:
        """The frozen slots out of the same streams; ``None`` where there are none."""
        return _begin(self.fixed_layout, *_streams(keys, dtype, stream)) if self.frozen else None

    def apply(
        self, flat: Float[Tensor, "B D"], inputs: Tensor, fixed: Float[Tensor, "G F"] | None = None
    ) -> Float[Tensor, "B m *c"]:
        """Logits of each network on its own inputs.

        Batch normalisation uses the statistics of the ``m`` inputs given, in training and in
        evaluation: running averages would be a state beside the parameters, and the loss no
        function of them. So evaluate a network with it on large batches, and state their size.

        Args:
            flat: One network a row.
            inputs: ``(B, m, *shape)``, or ``(G, m, *shape)`` with G a divisor of B for inputs that each
                B / G networks in a row share.
            fixed: The frozen slots, where the model has some: a row a network, or shared in the same way.

        Returns:
            ``(B, m, classes)``.
        """
        if not self.reads_shared:
            inputs = share(inputs, flat.shape[0])
        return self.forward(self.unflatten(flat, fixed), inputs)

    def closed_form(
        self,
        flat: Float[Tensor, "B D"],
        inputs: Tensor,
        targets: Int64[Tensor, "B m"],
        fixed: Float[Tensor, "G F"] | None = None,
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


def _within(slot: str, name: str) -> bool:
    """Whether the slot is ``name``, or one of the layer ``name``."""
    return slot == name or slot.startswith(f"{name}.")


def cut(layout: tuple[Slot, ...], flat: Float[Tensor, "B D"]) -> Parameters:
    """Views of the slots of ``flat`` by name, ``(B, *slot.shape)`` each.

    Raises:
        ValueError: the rows of ``flat`` are not as long as the layout: weights of another architecture.
    """
    size = sum(slot.size for slot in layout)
    if flat.shape[1] != size:
        raise ValueError(f"weights: expected {size} numbers a row for this architecture, got {flat.shape[1]}")
    # split, not slices: its backward is one concatenation
    parts = flat.split([slot.size for slot in layout], dim=1)
    batch = flat.shape[0]
    return {slot.name: part.view(batch, *slot.shape) for slot, part in zip(layout, parts, strict=True)}


def draw_slots(
    layout: tuple[Slot, ...], keys: Keys, dtype: torch.dtype, stream: str = "weights"
) -> Float[Tensor, "B D"]:
    """First numbers of each key's own: normal, with standard deviation gain/sqrt(fan_in); biases 0."""
    slots = tuple(
        replace(slot, init="zeros" if len(slot.shape) == 1 else "normal") if slot.random else slot
        for slot in layout
    )
    if not slots:
        return torch.zeros(len(keys), 0, dtype=dtype, device=keys.device)
    return _begin(slots, *_streams(keys, dtype, stream))


def _streams(keys: Keys, dtype: torch.dtype, stream: str) -> tuple[Draw, Draw]:
    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        return uniform(keys, f"{stream} {name}", shape, dtype=dtype)

    def gauss(name: str, shape: tuple[int, ...]) -> Tensor:
        return normal(keys, f"{stream} {name}", shape, dtype=dtype)

    return draw, gauss


def _begin(layout: tuple[Slot, ...], draw: Draw, gauss: Draw | None) -> Tensor:
    """The first numbers of the slots, side by side."""
    parts: list[Tensor | float] = []
    for slot in layout:
        scale = slot.gain / math.sqrt(slot.fan_in)
        if slot.init == "uniform":
            parts.append((2 * draw(slot.name, slot.shape).flatten(1) - 1) * scale)
        elif slot.init == "normal":
            if gauss is None:
                raise ValueError(f"gauss: {slot.name} begins with normal numbers, got None")
            parts.append(scale * gauss(slot.name, slot.shape).flatten(1))
        else:
            parts.append(float(slot.init == "ones"))
    drawn = [part for part in parts if isinstance(part, Tensor)]
    like = drawn[0] if drawn else draw(layout[0].name, ())
    return torch.cat(
        [
            part if isinstance(part, Tensor) else like.new_full((len(like), slot.size), part)
            for slot, part in zip(layout, parts, strict=True)
        ],
        dim=1,
    )
