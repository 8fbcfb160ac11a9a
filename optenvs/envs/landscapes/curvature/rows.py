"""Functions of A x - b, whose rows are drawn, or given."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys, uniform
from optenvs.core.struct import struct

from .base import Curved

METRICS = ("gram", "identity")


@struct
class Rows:
    """A and b: ``(B, m, n)`` and ``(B, m)``, or ``(m, n)`` and ``(m,)`` where all instances share them."""

    a: Float[Tensor, "... m n"]
    b: Float[Tensor, "... m"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OfRows(Curved):
    """A function of A x - b, with A and b uniform on [-1, 1) and an instance's own, or those of ``data``.

    Args:
        dim: n; by default the class's (10, or as it says), or that of ``data``.
        rows: m; by default the class's, or that of ``data``.
        data: A ``(m, n)`` and b ``(m,)`` of all instances: a pair, or a dict with the keys A and b.
        metric: ``gram``: B = A' A, plus 1e-8 I for the powers; ``identity``: the Euclidean norm.
    """

    dim: int = None  # type: ignore[assignment]  # filled in below
    rows: int = None  # type: ignore[assignment]
    data: Any = None
    metric: str = "gram"

    domain = (-2.0, 2.0)
    default_dim, default_rows = 10, 20
    ridge = 0.0
    """What is added to the diagonal of A' A."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {self.metric!r}")
        given = None if self.data is None else read(self.data, {"A": 2, "b": 1})
        if given is not None and given["A"].shape[0] != given["b"].shape[0]:
            raise ValueError(f"data: A of shape {given['A'].shape} has no row for each of {given['b'].shape}")
        sizes = (self.default_rows, self.default_dim) if given is None else given["A"].shape
        for name, size in zip(("rows", "dim"), sizes, strict=True):
            told = getattr(self, name)
            if told is None:
                object.__setattr__(self, name, size)
            elif given is not None and told != size:
                raise ValueError(f"{name}: {told!r} does not fit data, whose A has shape {sizes}")
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 1:
            raise ValueError(f"rows: expected a whole number >= 1, got {self.rows!r}")
        super().__post_init__()
        if self.metric == "gram" and not self.ridge and self.rows < self.dim:
            raise ValueError(
                f"rows: A'A is singular with {self.rows} rows of {self.dim} coordinates; give at least "
                f"{self.dim} rows, or metric='identity'"
            )
        _ = self._shared  # made now: a tensor made inside a transform would not outlive it

    @cached_property
    def _given(self) -> Rows | None:
        if self.data is None:
            return None
        return Rows(**{
            name.lower(): torch.tensor(part, dtype=torch.float64, device=self.torch_device)
            for name, part in read(self.data, {"A": 2, "b": 1}).items()
        })  # fmt: skip

    @cached_property
    def _shared(self) -> Any:
        """The coefficients of all instances, where data are given."""
        return None if self._given is None else self.prepare(self._given)

    @abc.abstractmethod
    def prepare(self, drawn: Rows) -> Any:
        """The coefficients of the function, of A and b in float64."""

    def told(self, coefficients: Any) -> Any:
        """The coefficients of an instance, or of all."""
        return self._shared if coefficients is None else coefficients

    def own(self, drawn: Rows) -> Any:
        """What the instances of a draw keep: nothing, where data are given."""
        return None if self._given is not None else self.prepare(drawn)

    def drawn(self, keys: Keys) -> Rows:
        """A and b in float64, as drawn or given."""
        if self._given is not None:
            return self._given
        shape = self.rows, self.dim
        return Rows(
            a=uniform(keys, "A", shape, dtype=torch.float64, low=-1.0, high=1.0),
            b=uniform(keys, "b", self.rows, dtype=torch.float64, low=-1.0, high=1.0),
        )

    def norm(self, keys: Keys, a: Float[Tensor, "... m n"]) -> Float[Tensor, "B n n"] | None:
        """The metric that the rows of A stand for."""
        if self.metric == "identity":
            return None
        whole = a.mT @ a
        if self.ridge:
            whole = whole + self.ridge * torch.eye(self.dim, dtype=a.dtype, device=a.device)
        return whole.to(self.torch_dtype).expand(len(keys), -1, -1)


def read(data: Any, dims: dict[str, int]) -> dict[str, Float[np.ndarray, "..."]]:
    """The arrays of an instance by name.

    Args:
        data: a dict of arrays, or these in the order of ``dims``.
        dims: the number of axes of each.

    Raises:
        ValueError: another number of arrays or axes, an empty one, or one with something that is no number.
    """
    told = ", ".join(f"{name} with {axes} {'axis' if axes == 1 else 'axes'}" for name, axes in dims.items())
    parts = dict(data) if isinstance(data, Mapping) else None
    if parts is None:
        if not isinstance(data, tuple | list) or len(data) != len(dims):
            raise ValueError(f"data: expected {told}, as a dict or in this order, got {type(data).__name__}")
        parts = dict(zip(dims, data, strict=True))
    if parts.keys() != dims.keys():
        raise ValueError(f"data: expected {told}, got {', '.join(map(str, parts))}")
    found = {}
    for name, axes in dims.items():
        part = parts[name].detach().cpu() if isinstance(parts[name], Tensor) else parts[name]
        try:
            found[name] = np.array(part, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"data: {name}: expected numbers, got {type(part).__name__} ({error})"
            ) from error
        if found[name].ndim != axes or not found[name].size:
            raise ValueError(f"data: {name}: expected {told}, got shape {found[name].shape}")
        if not np.isfinite(found[name]).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(found[name]))[0])
            raise ValueError(f"data: {name}: expected finite numbers, got {found[name][where]} at {where}")
    return found
