"""Ascent of the features' energy on the sphere (Tian 2025, arXiv 2509.21519, stages II and III).

w_j <- normalise(w_j + lr * grad E(w_j))                  each node by itself
W   <- normalise(W + lr * polar(grad E(w_1), ...))        coupled: Muon, which drives nodes apart

The environment normalises: a query is a direction. On Z23, whose eleven irreps are alike, 16 nodes hold 8.7
of them alone (of a coupon collector's draws the mean is 8.6) and 9.9 together; 24 nodes 10.1 and 10.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Agent, Observation, each_row, require
from ..gradient._polar import METHODS, polar

_RATE = 0.2
COUPLINGS = ("none", *METHODS)


@struct
class Rate:
    """What a gradient is multiplied by, ``(B, 1, 1)``."""

    lr: Float[Tensor, "B 1 1"]


@dataclass(frozen=True, eq=False)
class EnergyAscent(Agent):
    """Gradient ascent of every node, alone or together.

    Args:
        lr: the rate, a number or one an instance; ``None`` for 0.2/M alone (energies have the size of M: the
            maxima are then reached to rounding in some 4000 steps), and 0.2 together, where a step has the
            size of ``lr`` whatever M.
        coupling: ``none``, or how all gradients together are replaced by their polar factor: ``exact``, or
            Newton and Schulz's iteration with the coefficients of the ``paper`` or of the ``reference``.
    """

    lr: float | Float[Tensor, "B"] | None = None
    coupling: str = "none"

    needs: ClassVar[tuple[str, ...]] = ("ascent",)

    def __post_init__(self) -> None:
        if self.lr is not None:
            rates = torch.as_tensor(self.lr)
            fits = bool(((rates > 0) & rates.isfinite()).all())
            require(self, "lr", fits, "a finite number > 0 or None")
        require(self, "coupling", self.coupling in COUPLINGS, "one of " + ", ".join(COUPLINGS))

    @property
    def together(self) -> bool:  # type: ignore[override]
        """Whether it cannot move each node by itself."""
        return self.coupling != "none"

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Rate:
        point = observation["point"]
        if self.lr is not None:
            return Rate(each_row("lr", self.lr, point).clone())
        if self.together:
            return Rate(torch.full_like(point[:, :1, :1], _RATE))
        order = getattr(problem, "order", None)
        if order is None:
            raise TypeError("EnergyAscent: lr: None needs a problem that tells M as problem.order")
        return Rate(_RATE / order.to(point).unsqueeze(-1))

    def act(self, state: Rate, observation: Observation) -> tuple[Tensor, Rate]:
        point, slope = observation["point"], observation["ascent"]
        step = polar(slope, self.coupling) if self.together else slope
        return point + state.lr * step, state
