"""Losses of group arithmetic, with the gradient written out by hand for the network of the theory.

    code:   mean_i | o_i - mean_c o_i - (e_yi - 1/M) |^2            centred over classes (the official code)
    theory: |P (Y - O)|^2 / 2,  P = I - 1 1'/n                      centred over samples (equation 1)
    nll:    mean_i cross-entropy

and ``decay``/2 |V|^2 on each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.models import Objective, Part
from optenvs.models.base import share
from optenvs.models.losses import cross_entropy, cross_entropy_parts

from .network import ACTIVATIONS, GroupNetwork, spread, summed

LOSSES = ("code", "theory", "nll")
_CACHED = 1 << 18
"""Hidden numbers of some networks at once on a host: with more of them a pass waits for memory."""


@dataclass(frozen=True)
class GroupObjective(Objective):
    """A loss of a :class:`~.network.GroupNetwork`.

    Attributes:
        model: the network.
        loss: one of :data:`LOSSES`.
        piece: see :class:`~optenvs.models.Objective`; the theory's loss has no pieces.
        decay: eta, of the penalty on V.
    """

    loss: str = "code"
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.piece is not None and self.loss == "theory":
            raise ValueError(f"piece: the theory's loss is of all samples at once, got {self.piece!r}")

    def of(self, outputs: Float[Tensor, "B m c"], targets: Int64[Tensor, "B m"]) -> Float[Tensor, "B"]:
        """The loss of outputs, without the penalty."""
        targets = share(targets, outputs.shape[0])
        if self.loss == "nll":
            return cross_entropy(outputs, targets)
        rest = residual(outputs, targets, self.loss)
        return rest.square().sum((1, 2)) / (2 if self.loss == "theory" else outputs.shape[1])

    def value(self, point: Tensor, part: Part, fixed: Tensor | None = None) -> Tensor:
        """The loss with its penalty, ``(B,)`` or ``(B, q)``."""
        return super().value(point, part, fixed) + self._penalty(point)

    def value_and_gradient(
        self, point: Tensor, part: Part, fixed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss with its penalty, and the gradient, of the shape of ``point``."""
        model = self.model
        assert isinstance(model, GroupNetwork)
        recorded = torch.is_grad_enabled() and point.requires_grad
        if recorded or not model.plain:
            value, gradient = super().value_and_gradient(point, part, fixed)
        else:
            value, gradient = self._ask(self._some_by_hand, point, part)
        if self.decay:
            value, gradient = value + self._penalty(point), gradient + self.decay * self._top(point)
        return value, gradient

    def hvp(
        self, point: Tensor, part: Part, vector: Tensor, fixed: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, gradient, and the product of the Hessian, the penalty's too, with ``vector``."""
        value, gradient, product = super().hvp(point, part, vector, fixed)
        value, gradient = value + self._penalty(point), gradient + self.decay * self._top(point)
        return value, gradient, product + self.decay * self._top(vector)

    def gauss_newton(
        self, point: Tensor, part: Part, vector: Tensor, fixed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss, and the product of the Gauss-Newton matrix, with the penalty's, and ``vector``."""
        value, product = super().gauss_newton(point, part, vector, fixed)
        return value + self._penalty(point), product + self.decay * self._top(vector)

    def _top(self, point: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """The part of a vector that is V, zeros elsewhere: V comes last."""
        size = self.model.layout[-1].size
        return torch.cat((torch.zeros_like(point[..., :-size]), point[..., -size:]), -1)

    def _penalty(self, point: Tensor) -> Tensor | float:
        if not self.decay:
            return 0.0
        return self.decay / 2 * point[..., -self.model.layout[-1].size :].square().sum(-1)

    def _some_by_hand(self, rows: Float[Tensor, "B D"], part: Part) -> tuple[Tensor, ...]:
        """Loss and gradient, some networks at a time."""
        model, batch = self.model, len(rows)
        assert isinstance(model, GroupNetwork)
        inputs, targets = share(part.inputs, batch), share(part.targets, batch)
        some = max(1, _CACHED // (model.width * max(1, len(part))))
        if rows.device.type != "cpu" or some >= batch:
            return self._by_hand(model, rows, inputs, targets)
        pieces = zip(rows.split(some), inputs.split(some), targets.split(some), strict=True)
        found = [self._by_hand(model, *piece) for piece in pieces]
        return torch.cat([value for value, _ in found]), torch.cat([slope for _, slope in found])

    def _by_hand(
        self, model: GroupNetwork, rows: Float[Tensor, "B D"], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights = model.unflatten(rows)
        hidden, places = summed(weights["hidden.weight"], inputs)
        activation = ACTIVATIONS[model.activation]
        features, top = activation.value(hidden), weights["output.weight"]
        value, slope = self._loss_slope(model.multiplier * torch.bmm(features, top.mT), targets)
        slope = slope * model.multiplier if model.multiplier != 1 else slope
        by_top = torch.bmm(slope.mT, features)
        moved = torch.bmm(slope, top).mul_(activation.slope(hidden))
        by_hidden = spread(moved, places, weights["hidden.weight"])
        return value, torch.cat((by_hidden.flatten(1), by_top.flatten(1)), 1)

    def _loss_slope(self, outputs: Float[Tensor, "B m c"], targets: Tensor) -> tuple[Tensor, Tensor]:
        samples = outputs.shape[1]
        if self.loss == "nll":
            value, powers, total = cross_entropy_parts(outputs, targets)
            slope = _minus_unit(powers / total, targets)
            return value, slope / samples
        rest = residual(outputs, targets, self.loss)
        square = rest.square().sum((1, 2))
        if self.loss == "theory":
            return square / 2, rest
        return square / samples, rest * (2 / samples)


def residual(
    outputs: Float[Tensor, "B m c"], targets: Int64[Tensor, "B m"], loss: str
) -> Float[Tensor, "B m c"]:
    """Outputs without targets, centred over classes (``code``) or over samples (``theory``)."""
    rest = _minus_unit(outputs, targets)
    return rest - rest.mean(1 if loss == "theory" else 2, keepdim=True)


def _minus_unit(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs without the unit vectors of the targets."""
    place = targets.unsqueeze(-1)
    return outputs.scatter_add(-1, place, torch.full_like(outputs[..., :1], -1.0))
