"""What the adaptive methods share: averages, their bias, weight decay and the final quotient.

One step of them is a dozen passes over memory, so passes are what is saved: in no-grad mode temporaries are
written over, results take memory that an earlier step has left, and a batch of one has plain numbers for
step sizes, which torch's kernels fuse. With a graph to keep, or inside ``torch.func``, the same formulas run
without all that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.memory import recycled
from optenvs.core.oracles import inside_transform

from ..core import Agent, require

Number = float | Float[Tensor, "B _"]


@dataclass(frozen=True)
class Workspace:
    """Where results go: ``out=`` arguments, all ``None`` unless memory is ``free`` to be chosen."""

    free: bool

    @classmethod
    def of(cls, *read: Any) -> Workspace:
        """For a step that reads these; what is no tensor does not matter."""
        tensors = (x for x in read if isinstance(x, Tensor))
        return cls(not torch.is_grad_enabled() and not any(map(inside_transform, tensors)))

    def over(self, temporary: Tensor) -> Tensor | None:
        """The ``out=`` of an operation whose result may take the place of ``temporary``."""
        return temporary if self.free else None

    def fresh(self, like: Tensor) -> Tensor | None:
        """The ``out=`` of an operation with a new result of the shape and dtype of ``like``."""
        return recycled(like) if self.free else None

    def number(self, value: float | Tensor) -> Any:
        """A plain number in place of a tensor of one on the CPU."""
        if self.free and isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu":
            return value.item()
        return value


PLAIN = Workspace(free=False)
"""Torch puts every result into memory of its own."""


def debias(decay: float, count: Number) -> Number:
    """``1 - decay ** count`` for ``count >= 1``, without float32's cancellation where ``decay`` is near 1."""
    if decay == 0:
        return 1.0
    power = count * math.log(decay)
    return -torch.expm1(power) if isinstance(power, Tensor) else -math.expm1(power)


def average_square(mean: Tensor, x: Tensor, decay: float, work: Workspace) -> Tensor:
    """``decay * mean + (1 - decay) * x^2``."""
    kept = torch.mul(mean, decay, out=work.fresh(mean))
    return torch.addcmul(kept, x, x, value=1 - decay, out=work.over(kept))


def damped_root(nu: Tensor, eps: Number, work: Workspace, spare: Tensor | None = None) -> Tensor:
    """``sqrt(nu) + eps``: a tensor that may be written over, in the memory of ``spare`` if given.

    Its derivative is taken as 0 where ``nu`` is 0: there the square root has none, and a coordinate whose
    gradient was always zero would turn every unrolled gradient into NaN.
    """
    if work.free:
        root = torch.sqrt(nu, out=work.fresh(nu) if spare is None else spare)
        return torch.add(root, eps, out=root)
    zero = nu == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, nu).sqrt()) + eps


def with_penalty(gradient: Tensor, point: Tensor, weight_decay: float, work: Workspace) -> Tensor:
    """The gradient with that of an L2 penalty: coupled weight decay."""
    if not weight_decay:
        return gradient
    return torch.add(gradient, point, alpha=weight_decay, out=work.fresh(point))


def divided_step(
    point: Tensor, numerator: Tensor, denominator: Tensor, rate: Number, work: Workspace, keep: Number = 1.0
) -> Tensor:
    """``keep * point - rate * numerator / denominator``; the denominator's memory is used up."""
    if isinstance(keep, Tensor) or keep != 1:
        return _shrunk(point, torch.div(numerator, denominator, out=work.over(denominator)), rate, work, keep)
    if isinstance(rate, Tensor):
        return torch.addcdiv(point, numerator * rate, denominator, value=-1, out=work.over(denominator))
    return torch.addcdiv(point, numerator, denominator, value=-rate, out=work.over(denominator))


def multiplied_step(
    point: Tensor, mu: Tensor, factor: Tensor, rate: Number, work: Workspace, keep: Number = 1.0
) -> Tensor:
    """``keep * point - rate * mu * factor``; the factor's memory is used up."""
    if isinstance(keep, Tensor) or keep != 1:
        return _shrunk(point, torch.mul(mu, factor, out=work.over(factor)), rate, work, keep)
    if isinstance(rate, Tensor):
        return torch.addcmul(point, mu * rate, factor, value=-1, out=work.over(factor))
    return torch.addcmul(point, mu, factor, value=-rate, out=work.over(factor))


def _shrunk(point: Tensor, direction: Tensor, rate: Number, work: Workspace, keep: Number) -> Tensor:
    # one pass more than with a shrunken copy of the point, but no fourth new tensor of its size
    moved = torch.mul(direction, -rate, out=work.over(direction))
    if isinstance(keep, Tensor):
        return torch.addcmul(moved, point, keep, out=work.over(moved))
    return torch.add(moved, point, alpha=keep, out=work.over(moved))


def check_adaptive(agent: Agent, *non_negative: str) -> None:
    """Raise ``ValueError`` for ``betas`` outside [0, 1), and for fields that are negative."""
    betas = getattr(agent, "betas", (0.0, 0.0))
    fits = isinstance(betas, tuple | list) and len(betas) == 2 and all(0 <= b < 1 for b in betas)
    require(agent, "betas", fits, "two numbers in [0, 1)")
    for name in ("eps", "weight_decay", *non_negative):
        require(agent, name, 0 <= getattr(agent, name) < math.inf, "a number >= 0")
