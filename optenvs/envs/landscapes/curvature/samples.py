"""What regressions share: samples that are drawn, loaded or given, and the minimum of the mean loss."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys, normal
from optenvs.core.struct import struct
from optenvs.data import load
from optenvs.envs.landscapes.parts import Draw

from .base import Curved
from .least import least
from .rows import read

NOISE = 2.0
STEPS, STEPS_NEAR, STEPS_ONCE = 10, 24, 40
"""Steps of Newton's method to the minimum: of noisy samples, which take 8 to the last digit; of samples that
are few or nearly separable, whose minimiser is far; and of data that all instances share."""


@struct
class Table:
    """Inputs ``(B, N, d)`` and targets ``(B, N, C)``, or ``(N, d)`` and ``(N, C)`` of all instances.

    Targets are -1 or 1 with C = 1, and else 1 for the class and 0 for the others.
    """

    inputs: Float[Tensor, "... N d"]
    targets: Float[Tensor, "... N C"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OfSamples(Curved):
    """The mean loss of linear functions of N samples, plus mu/2 |x|^2.

    Args:
        dim: n; it follows from the data.
        samples: N; by default 60, or that of ``data``.
        data: ``None`` for samples drawn for each instance; the name of a data set, whose training part is
            that of all instances; or their inputs ``(N, d)`` and labels ``(N,)``: a pair, or a dict with the
            keys A and y.
        label_noise: of drawn samples: the standard deviation of what is added to the outputs of a random
            linear function before they give the label, in units of the norm of its coefficients. With 0 the
            samples are separable, and without ``mu`` the minimum is not attained.
        mu: the strength of the regularisation, >= 0.
    """

    dim: int = None  # type: ignore[assignment]  # filled in below
    samples: int = None  # type: ignore[assignment]
    data: Any = None
    label_noise: float = NOISE
    mu: float = 0.0

    approximations = ("exact", "fisher", "zero")
    domain = (-2.0, 2.0)
    default_samples: ClassVar[int] = 60

    def __post_init__(self) -> None:
        for name in ("label_noise", "mu"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number >= 0, got {getattr(self, name)!r}")
        if self.data is not None and self.label_noise != NOISE:
            raise ValueError(f"label_noise: {self.label_noise!r} would have no effect beside data")
        count = self.default_samples if self._given is None else len(self._given[0])
        if self.samples is None:
            object.__setattr__(self, "samples", count)
        elif self._given is not None and self.samples != count:
            raise ValueError(f"samples: {self.samples!r} does not fit data, which have {count}")
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise ValueError(f"samples: expected a whole number >= 1, got {self.samples!r}")
        self.settle()
        super().__post_init__()
        _ = self._shared  # made now: a tensor made inside a transform would not outlive it

    # What a regression says --------------------------------------------------------------------

    @abc.abstractmethod
    def settle(self) -> None:
        """Check sizes and data, and fill in what was not told."""

    @abc.abstractmethod
    def label(self, labels: np.ndarray) -> Float[np.ndarray, "N C"]:
        """The targets of the labels that are given; of a data set they are class numbers."""

    @abc.abstractmethod
    def sampled(self, inputs: Float[Tensor, "B N d"], keys: Keys) -> Float[Tensor, "B N C"]:
        """The targets of inputs that are drawn."""

    @abc.abstractmethod
    def separated(self, x: Float[Tensor, "B n"], table: Table) -> Tensor:
        """Whether x tells all samples of a row from those of the other classes, ``(B,)``."""

    @property
    @abc.abstractmethod
    def inputs(self) -> int:
        """d, of samples that are drawn."""

    @abc.abstractmethod
    def loss(self, x: Float[Tensor, "... B n"], table: Table) -> Float[Tensor, "... B"]:
        """The function, of this table."""

    @abc.abstractmethod
    def slopes(self, x: Float[Tensor, "B n"], table: Table) -> tuple[Tensor, Tensor]:
        """Its gradient and its exact Hessian."""

    # What it gets ------------------------------------------------------------------------------

    @cached_property
    def _given(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Inputs ``(N, d)`` and labels ``(N,)``, of a data set or as they were given."""
        if self.data is None:
            return None
        if isinstance(self.data, str):
            try:
                found = load(self.data)
            except ValueError as error:  # no such set, or not the published one
                raise ValueError(f"data: {error}") from error
            return found.train_x.reshape(len(found.train_y), -1).astype(np.float64), found.train_y
        parts = read(self.data, {"A": 2, "y": 1})
        if len(parts["A"]) != len(parts["y"]):
            raise ValueError(
                f"data: A of shape {parts['A'].shape} has no row for each of {parts['y'].shape} labels"
            )
        return parts["A"], parts["y"]

    @cached_property
    def _shared(self) -> tuple[Table, Tensor, Tensor] | None:
        """The table of all instances with its minimiser and its minimum, where data are given."""
        if self._given is None:
            return None
        inputs, labels = self._given
        device = self.torch_device
        table = Table(
            inputs=torch.tensor(inputs, dtype=torch.float64, device=device),
            targets=torch.tensor(self.label(labels), dtype=torch.float64, device=device),
        )
        start = torch.zeros(1, self.dim, dtype=torch.float64, device=device)
        return self._placed(table), *self._least(table, start, STEPS_ONCE)

    def _placed(self, table: Table) -> Table:
        dtype = self.torch_dtype
        return Table(inputs=table.inputs.to(dtype), targets=table.targets.to(dtype))

    def _least(self, table: Table, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The minimiser, where there is one, and the infimum."""
        with torch.no_grad():
            x = least(lambda y: self.loss(y, table), lambda y: self.slopes(y, table), start, steps)
            lowest = self.loss(x, table)
            if not self.mu:
                lowest = torch.where(self.separated(x, table), 0.0, lowest)
        return x.to(self.torch_dtype), lowest.to(self.torch_dtype)

    def told(self, coefficients: Any) -> Table:
        """The table of an instance, or that of all."""
        return self._shared[0] if coefficients is None else coefficients  # type: ignore[index]

    def draw(self, keys: Keys) -> Draw:
        start = torch.zeros(len(keys), self.dim, dtype=torch.float64, device=keys.device)
        table = None
        if self._shared is None:
            inputs = normal(keys, "A", (self.samples, self.inputs), dtype=torch.float64)
            table = Table(inputs=inputs, targets=self.sampled(inputs, keys))
            noisy = self.label_noise >= 1 and self.samples >= 2 * self.dim
            optimum, lowest = self._least(table, start, STEPS if noisy else STEPS_NEAR)
        else:
            _, optimum, lowest = self._shared
        return Draw(
            start=start.to(self.torch_dtype),
            optimum=optimum.expand_as(start) if self.mu else None,
            lowest=lowest.expand(len(keys)),
            coefficients=None if table is None else self._placed(table),
        )

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return self.loss(x, self.told(coefficients))
