"""Muon: momentum whose matrices are replaced by their polar factors (Jordan 2024).

W <- (1 - lr * weight_decay) W                  decoupled
m <- momentum m + (1 - momentum) g
d <- m                                          (Nesterov: momentum m + (1 - momentum) g)
W <- W - lr * scale * polar(d)

on every tensor with two axes, but for the last layer; all else is moved by Adam. ``paper`` are the settings
of the code of Tian 2025 (arXiv 2509.21519): five Newton-Schulz steps by a schedule, momentum 0.99, no scale.
``reference`` is Jordan's: fixed coefficients, momentum 0.95 with Nesterov, scale sqrt(max(1, r/c)). ``exact``
is the theory's: the polar factor by singular values, else as ``paper``. The authors' iterations are in single
or half precision; here they are in the points' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import GradientAgent, Observation, require
from ._moments import check_adaptive
from ._polar import METHODS, polar
from .adam import Adam, AdamState

SCALES: dict[str, Callable[[int, int], float]] = {
    "none": lambda rows, columns: 1.0,
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}
"""Factors of a step by the matrix's form, named as ``torch.optim.Muon`` names them."""
_OWN = {"paper": (0.99, False, "none"), "reference": (0.95, True, "original"), "exact": (0.99, False, "none")}
"""Momentum, Nesterov and scale of each method."""
Part = tuple[int, int, tuple[int, ...], bool]
"""Of a tensor: where it begins and ends in the vector, its shape, and whether its steps are polar."""


@struct
class MuonState:
    """Muon's memory.

    Attributes:
        momentum: of the gradient, ``(B, n)``; zeros where Adam moves.
        adam: Adam's memory of its own tensors, side by side; ``None`` where there are none.
        parts: the tensors of the vector.
    """

    momentum: Float[Tensor, "B n"]
    adam: AdamState | None
    parts: tuple[Part, ...] = static()


@dataclass(frozen=True, eq=False)
class Muon(GradientAgent):
    """Muon on matrices, Adam on all else: a problem tells them by ``problem.model.layout``.

    A problem without a layout has one tensor with one axis, which is Adam's. Tensors with three axes or more
    (convolutions, complex numbers as pairs) are Adam's, too.

    Args:
        method: ``paper``, ``reference`` or ``exact``.
        momentum: of the average; ``None`` for the method's.
        nesterov: whether the average is looked ahead; ``None`` for the method's.
        scale: of a step: ``none``, ``original`` or ``match_rms_adamw``; ``None`` for the method's.
        weight_decay: of matrices, decoupled.
        adam: slots, or layers by the name before the dot, that Adam moves whatever their axes; ``None`` for
            the last layer, where there is another matrix.
        adam_lr: Adam's rate; ``None`` for ``lr``.
        betas, eps: Adam's.
        adam_weight_decay: of Adam's tensors, coupled.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-3
    method: str = "paper"
    momentum: float | None = None
    nesterov: bool | None = None
    scale: str | None = None
    weight_decay: float = 0.0
    adam: tuple[str, ...] | None = None
    adam_lr: float | Float[Tensor, "B"] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    adam_weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self, "adam_weight_decay")
        require(self, "method", self.method in METHODS, "one of " + ", ".join(METHODS))
        known = self.scale is None or self.scale in SCALES
        require(self, "scale", known, "one of " + ", ".join(SCALES) + ", or None")
        require(self, "nesterov", self.nesterov in (None, True, False), "True, False or None")
        fits = self.momentum is None or 0 <= self.momentum < 1
        require(self, "momentum", fits, "a number in [0, 1) or None")
        names = self.adam is None or (not isinstance(self.adam, str) and all(map(_is_name, self.adam)))
        require(self, "adam", names, "a tuple of names or None")
        if self.adam_lr is not None:
            require(self, "adam_lr", torch.all(torch.as_tensor(self.adam_lr) > 0), "a number > 0 or None")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> MuonState:
        point = observation["point"]
        parts = self._parts(problem, point.shape[1])
        own = _of_adam(point, parts)
        adam = None if own is None else self._adam.init(problem, {"point": own}, keys)
        return MuonState(momentum=torch.zeros_like(point), adam=adam, parts=parts)

    def act(self, state: MuonState, observation: Observation) -> tuple[Tensor, MuonState]:
        point, gradient = observation["point"], observation["gradient"]
        own, nesterov, scale = _OWN[self.method]
        momentum = own if self.momentum is None else self.momentum
        nesterov = nesterov if self.nesterov is None else self.nesterov
        factor = SCALES[scale if self.scale is None else self.scale]
        rate = self.rate(observation)
        adam, moved, at = state.adam, None, 0
        if adam is not None:
            own_point, own_gradient = (_of_adam(x, state.parts) for x in (point, gradient))
            assert own_point is not None and own_gradient is not None
            seen = observation | {"point": own_point, "gradient": own_gradient}
            moved, adam = self._adam.act(adam, seen)
        points, kept = [], []
        for first, last, shape, matrix in state.parts:
            if not matrix:
                assert moved is not None
                points.append(moved[:, at : at + last - first])
                kept.append(state.momentum[:, first:last])
                at += last - first
                continue
            slope = gradient[:, first:last]
            mean = torch.lerp(state.momentum[:, first:last], slope, 1 - momentum)
            ahead = torch.lerp(slope, mean, momentum) if nesterov else mean
            step = polar(ahead.unflatten(1, shape), self.method).flatten(1)
            shrunk = point[:, first:last] * (1 - rate * self.weight_decay)
            points.append(shrunk - rate * factor(*shape) * step)
            kept.append(mean)
        return torch.cat(points, 1), MuonState(torch.cat(kept, 1), adam, state.parts)

    @property
    def _adam(self) -> Adam:
        rate = self.lr if self.adam_lr is None else self.adam_lr
        return Adam(rate, self.schedule, self.betas, self.eps, self.adam_weight_decay)

    def _parts(self, problem: Any, size: int) -> tuple[Part, ...]:
        """The tensors of the vector, and which are Muon's."""
        layout = getattr(getattr(problem, "model", None), "layout", None)
        if layout is None:
            if self.adam:
                raise ValueError(f"Muon: adam: {self.adam!r} names tensors, and this problem has no layout")
            return ((0, size, (size,), False),)
        shapes = {slot.name: tuple(map(int, slot.shape)) for slot in layout}
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        chosen = self.adam
        if chosen is None:
            last = matrices[-1].partition(".")[0] if matrices else ""
            others = [name for name in matrices if not _within(name, last)]
            chosen = (last,) if others else ()
        for name in chosen:
            if not any(_within(slot, name) for slot in shapes):
                raise ValueError(f"Muon: adam: no slot or layer {name!r} among {', '.join(shapes)}")
        parts, first = [], 0
        for name, shape in shapes.items():
            last = first + math.prod(shape)
            matrix = name in matrices and not any(_within(name, other) for other in chosen)
            parts.append((first, last, shape, matrix))
            first = last
        return tuple(parts)


def _is_name(name: Any) -> bool:
    return isinstance(name, str)


def _within(slot: str, name: str) -> bool:
    return slot == name or slot.startswith(f"{name}.")


def _of_adam(vector: Float[Tensor, "B n"], parts: tuple[Part, ...]) -> Float[Tensor, "B m"] | None:
    """What Adam moves of a vector; ``None`` where it moves nothing."""
    own = [vector[:, first:last] for first, last, _, matrix in parts if not matrix]
    return torch.cat(own, 1) if own else None
