"""Recursive estimates: a mean of some gradients, which differences of gradients then carry along.

An epoch begins with the mean of ``batch`` gradients at one point, asked one a query; the first step is along
it. Each of the other ``period - 1`` steps of the epoch asks once, and a method says what it makes of the
answer. Without a period there is one epoch.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.struct import struct

from ..core import Observation, require
from ._ascent import HVP, Ascent, Climb, Estimate, between, check_form


@struct
class Epoch:
    """Where a row is in its epoch.

    Attributes:
        total: the sum of the gradients at its beginning so far, ``(B, n)``.
        left: how many are still to come, ``(B, 1)``.
        steps: taken in it, ``(B, 1)``.
        anchor: where it began, and ``mean``, the gradient there, ``(B, n)`` each.
        more: what a method keeps besides, ``(B, 1)``.
    """

    total: Float[Tensor, "B n"]
    left: Float[Tensor, "B 1"]
    steps: Float[Tensor, "B 1"]
    anchor: Float[Tensor, "B n"]
    mean: Float[Tensor, "B n"]
    more: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class Recursive(Ascent):
    """A method with a recursive estimate.

    Args:
        batch: gradients whose mean begins an epoch.
        period: steps of an epoch; ``None`` for one epoch.
    """

    lr: Any = 0.01
    power: float = 0.0
    normalise: bool = False
    batch: int = 10
    period: int | None = None

    needs = ("policy_gradient", "pair")

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.batch, int) and not isinstance(self.batch, bool) and self.batch >= 1
        require(self, "batch", whole, "a whole number >= 1")
        period = self.period
        fits = period is None or (isinstance(period, int) and not isinstance(period, bool) and period >= 1)
        require(self, "period", fits, "a whole number >= 1, or None")

    @abc.abstractmethod
    def carried(self, state: Climb, seen: Observation) -> Float[Tensor, "B n"]:
        """The estimate at ``state.x`` from the last one and the answer."""

    def noted(self, state: Climb, seen: Observation, begins: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the method keeps besides, and gamma_t where it is its own; ``begins``: rows in a beginning."""
        return state.own.more, None

    def begun(self, x: Float[Tensor, "B n"]) -> Epoch:
        zero, number = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        return Epoch(zero, number + self.batch, number, x, zero, number)

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        own: Epoch = state.own
        begins = own.left > 0
        more, rate = self.noted(state, seen, begins)
        total = torch.where(begins, own.total + seen["policy_gradient"], own.total)
        left = torch.where(begins, own.left - 1, own.left)
        mean = total / self.batch
        d = torch.where(begins, mean, self.carried(state, seen))
        moves = left == 0
        steps = own.steps + moves
        over = torch.zeros_like(moves) if self.period is None else moves & (steps >= self.period)
        after = Epoch(
            total=torch.where(over, 0.0, total),
            left=torch.where(over, float(self.batch), left),
            steps=torch.where(over, 0.0, steps),
            anchor=torch.where(begins, state.x, own.anchor),
            mean=torch.where(begins, mean, own.mean),
            more=more,
        )
        return Estimate(d, after, moves, rate)

    def ask(self, state: Climb) -> tuple[dict[str, Any], dict[str, Tensor]]:
        begins = (state.own.left > 0).squeeze(-1)
        second = self.compared(state)
        return {"policy_gradient": begins, "pair": ~begins}, {"x": state.x, "second": second}

    def compared(self, state: Climb) -> Float[Tensor, "B n"]:
        """The point whose gradient the new one is compared with."""
        return state.last


@dataclass(frozen=True, eq=False)
class HessianAided(Recursive):
    """One whose differences are Hessian products at a point between the last two.

    Args:
        hvp: ``paper``, or ``causal``, the product without the scores of later steps, of less variance.
    """

    hvp: str = "paper"

    needs = ("policy_gradient", "product")
    fresh: ClassVar[bool] = True
    """Whether each iteration asks a gradient, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_form(self)

    def ask(self, state: Climb) -> tuple[dict[str, Any], dict[str, Tensor]]:
        begins = (state.own.left > 0).squeeze(-1)
        second, vector = between(state)
        gradient = torch.ones_like(begins) if self.fresh else begins
        wanted = {"policy_gradient": gradient, HVP[self.hvp]: ~begins}
        return wanted, {"x": state.x, "second": second, "vector": vector}
