"""Problems of the CUTEst collection, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.core.random import Keys, normal

from .base import Constrained
from .formulas import FORMULAS, Formula
from .parts import Draw


@dataclass(frozen=True, eq=False, kw_only=True)
class ConstrainedCutest(Constrained):
    """A problem of the CUTEst collection with equations for constraints.

    Args:
        problem: its name: those of :data:`optenvs.envs.constrained.formulas.FORMULAS` are computed in torch.
        perturbation: standard deviation of a normal perturbation of each coordinate of the start, relative to
            max(1, its size); without one all instances begin alike.
        start, start_multipliers, nan, tolerance, ...: see :class:`optenvs.envs.constrained.base.Constrained`.
    """

    problem: str = "HS6"
    perturbation: float = 0.0

    def __post_init__(self) -> None:
        if self.problem not in FORMULAS:
            raise ValueError(f"problem: got {self.problem!r}{suggest(str(self.problem), FORMULAS)}")
        if not 0 <= self.perturbation < math.inf:
            raise ValueError(f"perturbation: expected a number >= 0, got {self.perturbation!r}")
        if self.start is not None and self.perturbation:
            raise ValueError(f"perturbation: {self.perturbation!r} would have no effect beside start=")
        super().__post_init__()

    @property
    def formula(self) -> Formula:
        """What is computed."""
        return FORMULAS[self.problem]

    @property
    def size(self) -> int:
        return len(self.formula.start)

    @property
    def equality_count(self) -> int:
        return self.formula.rows

    def draw(self, keys: Keys) -> Draw:
        start = torch.tensor(self.formula.start, dtype=self.torch_dtype, device=keys.device)
        start = start.expand(len(keys), -1)
        if self.perturbation:
            moved = normal(keys, "start", self.size, dtype=self.torch_dtype)
            start = start + self.perturbation * start.abs().clamp_min(1) * moved
        lowest = self.formula.lowest
        return Draw(
            data=None,
            start=start,
            lowest=None if lowest is None else torch.full_like(start[:, 0], lowest),
        )

    def objective(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        f = self.formula.f
        return torch.zeros_like(x[:, 0]) if f is None else f(x.unbind(-1))

    def constraints(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
        return torch.stack(self.formula.c(x.unbind(-1)), -1)
