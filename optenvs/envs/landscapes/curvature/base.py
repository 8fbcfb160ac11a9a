"""Landscapes that answer a declared approximation of their Hessian.

* State: the instance (data, power or smoothing, start, metric B), the point asked last, and the last answers.
* Query: a point, a vector, and which of value, gradient, Hessian and Hessian-vector product are wanted; with
  ``oracle`` below ``"hessian"`` as of every landscape (:mod:`optenvs.envs.landscapes.base`).
* Answer: these kinds, nothing else. With ``hessian=`` other than ``exact``, Hessian and products are those of
  the approximation. Where that has rank one, the kind ``factor`` is offered, too.
* Bill: one of its own name a kind.

The approximations are those of Semenov, Jaggi, Doikov, "Gradient-Normalized Smoothness for Optimization with
Approximate Hessians", 2025 (arXiv 2506.13710), and of the authors' code (epfml/grad-norm-smooth); all but
``exact`` are positive semidefinite wherever they are asked. ``problem.metric`` is the matrix B of the norm
``|x| = (x' B x)^(1/2)`` in which a function is smooth; it turns with the instance.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.linear import times
from optenvs.core.menu import Kind, Menu, Query
from optenvs.envs.landscapes.base import Landscape
from optenvs.envs.landscapes.menu import kinds as menu_kinds
from optenvs.envs.landscapes.parts import Hidden, turned

APPROXIMATIONS = ("exact", "weighted_gauss_newton", "inexact", "fisher", "fisher_term", "zero")


class Bend(NamedTuple):
    """A function at a point; what nobody asks for is not computed.

    Attributes:
        value: ``(B,)``.
        gradient: ``(B, n)``.
        hessian: what makes the declared Hessian H, ``(B, n, n)``.
        product: what multiplies it with vectors ``(B, n)``.
        factor: with ``hessian="fisher_term"`` what makes F of H = F' F, ``(B, 1, n)``.
    """

    value: Float[Tensor, "B"]
    gradient: Float[Tensor, "B n"]
    hessian: Callable[[], Tensor]
    product: Callable[[Tensor], Tensor]
    factor: Callable[[], Tensor] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Curved(Landscape):
    """A landscape whose curvature is written out.

    Args:
        hessian: what stands for the Hessian: ``exact``; ``weighted_gauss_newton``, ``inexact``, ``fisher``,
            ``fisher_term`` (the page of the environment says what they are there); ``zero``.
        dim, oracle, noise, shift, rotate, bounds, start, nan, tolerance, budget, reward, device, dtype: see
            :class:`optenvs.envs.landscapes.base.Landscape`. The oracle is ``hessian`` and the dtype
            ``float64`` unless told otherwise.
    """

    oracle: str = "hessian"
    dtype: str = "float64"
    hessian: str = "exact"

    approximations: ClassVar[tuple[str, ...]] = ("exact", "zero")
    """The values of ``hessian`` that make sense of this function."""
    meanings: ClassVar = {
        "hessian": "the Hessian, or the approximation of it that stands for it",
        "hvp": "the product with the vector of the Hessian, or of what stands for it",
        "factor": "F, where F'F stands for the Hessian",
    }

    @abc.abstractmethod
    def bend(self, x: Float[Tensor, "B n"], coefficients: Any) -> Bend:
        """Value, gradient, and the curvature that ``hessian`` declares."""

    def __post_init__(self) -> None:
        if self.hessian not in self.approximations:
            known = ", ".join(self.approximations)
            meant = "" if self.hessian not in APPROXIMATIONS else ", which makes no sense of this function"
            raise ValueError(f"hessian: {self.name} knows {known}; got {self.hessian!r}{meant}")
        super().__post_init__()
        if self.hessian != "exact" and self.oracle not in ("hvp", "hessian"):
            raise ValueError(f"hessian: {self.hessian!r} would have no effect with oracle={self.oracle!r}")

    @property
    def oracles(self) -> tuple[str, ...]:
        factored = self.oracle == "hessian" and self.hessian == "fisher_term"
        return (*super().oracles, "factor") if factored else super().oracles

    @property
    def approximate(self) -> tuple[str, ...]:
        return () if self.hessian == "exact" else ("hvp", "hessian", "factor")

    @cached_property
    def card(self) -> Menu | None:
        """The menu at work; slopes are those of the function where the Hessian is."""
        if self.oracle != "hessian":
            return None
        kinds = menu_kinds(self.dim, self._look, exact=not self.noise, curved=not self.approximate)
        if "factor" in self.oracles:
            kinds["factor"] = Kind(
                (1, self.dim),
                lambda state, query: query.once("look", lambda: self._look(state, query))["factor"],
                at=("point",),
            )
        places = {"point": self._point, "vector": (self.dim,)}
        return Menu(places, kinds, dtype=self.dtype, device=self.torch_device, owner=self.name)

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        found = self.bend(x, coefficients)
        return found.value, found.gradient

    def _bent(self, hidden: Hidden, x: Tensor) -> Bend:
        """The same in the coordinates of the query."""
        found, rotation = self.bend(self._unmove(hidden, x), hidden.coefficients), hidden.rotation
        if rotation is None:
            return found
        factor = found.factor
        return Bend(
            found.value,
            gradient=times(rotation, found.gradient),
            hessian=lambda: turned(found.hessian(), rotation),  # type: ignore[return-value, arg-type]
            product=lambda vector: times(rotation, found.product(times(rotation.mT, vector))),
            factor=None if factor is None else lambda: factor() @ rotation.mT,
        )

    def _products(self, hidden: Hidden, x: Tensor, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self._bent(hidden, x)
        return found.value, found.gradient, found.product(vector)

    def found_at(self, hidden: Hidden, query: Query) -> tuple[Tensor, dict[str, Tensor]]:
        wanted, x = query.kinds, query["point"]
        if not wanted - {"value"}:
            return self.value(self._unmove(hidden, x), hidden.coefficients), {}
        bent = self._bent(hidden, x)
        found = {"gradient": bent.gradient}
        if "hessian" in wanted:
            found["hessian"] = bent.hessian()
        if "factor" in wanted:
            assert bent.factor is not None  # it is on the menu
            found["factor"] = bent.factor()
        if "hvp" in wanted:
            found["hvp"] = bent.product(query["vector"])
        return bent.value, found


def gram(matrix: Float[Tensor, "... m n"], weight: Float[Tensor, "B m"]) -> Float[Tensor, "B n n"]:
    """The sum of w_i a_i a_i' over the rows a_i of the matrix."""
    return (weight.unsqueeze(-1) * matrix).mT @ matrix


def power(x: Float[Tensor, "..."], exponent: float) -> Float[Tensor, "..."]:
    """x^exponent of numbers >= 0, with 0^0 = 1, and with slope 0 at 0 where it has none."""
    if exponent >= 1 or exponent == 0:
        return x**exponent
    return torch.where(x > 0, torch.where(x > 0, x, 1.0) ** exponent, 0.0)


def outer(x: Float[Tensor, "B n"]) -> Float[Tensor, "B n n"]:
    """The matrix x x'."""
    return x.unsqueeze(-1) * x.unsqueeze(-2)


def nothing(x: Float[Tensor, "B n"]) -> Float[Tensor, "B n n"]:
    """The matrix 0."""
    return x.new_zeros(*x.shape, x.shape[-1])


def dot(x: Float[Tensor, "B n"], y: Float[Tensor, "B n"]) -> Float[Tensor, "B 1"]:
    """The number x'y."""
    return (x * y).sum(-1, keepdim=True)
