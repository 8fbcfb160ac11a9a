"""Lower bounds of the gradient-normalized smoothness by a class's constant, for ``GnsNewton(gamma=...)``.

Each is a function of ||g(x)||_*, ``(B,)`` to ``(B,)``, and a constant is a number or one an instance
``(B,)``. A step of such a gamma needs no test (Semenov, Jaggi, Doikov 2025; the constants are derived from
its definition).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Number = float | Float[Tensor, "B"]


@dataclass(frozen=True, eq=False)
class LipschitzGradient:
    """||g||_* / L, with H = 0: a step is one of gradient descent by 1/L.

    Args:
        L: the gradient's Lipschitz constant.
    """

    L: Number

    def __post_init__(self) -> None:
        _check(self, "L")

    def __call__(self, norm: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return norm / self.L


@dataclass(frozen=True, eq=False)
class L0L1Smooth:
    """||g||_* / (L0 + L1 ||g||_*), with H = 0, where the Hessian is no larger than L0 + L1 ||g||_*.

    Args:
        L0, L1: the constants.
    """

    L0: Number
    L1: Number

    def __post_init__(self) -> None:
        _check(self, "L0", "L1")

    def __call__(self, norm: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return norm / (self.L0 + self.L1 * norm)


@dataclass(frozen=True, eq=False)
class HolderHessian:
    """((1 + nu) ||g||_* / L)^(1 / (1 + nu)), with the exact Hessian, Hoelder with exponent nu and constant L.

    Args:
        L: the constant.
        nu: the exponent, in [0, 1]; 1 for a Lipschitz Hessian.
    """

    L: Number
    nu: float = 1.0

    def __post_init__(self) -> None:
        _check(self, "L")
        if not 0 <= self.nu <= 1:
            raise ValueError(f"HolderHessian: nu: expected a number in [0, 1], got {self.nu!r}")

    def __call__(self, norm: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return ((1 + self.nu) * norm / self.L) ** (1 / (1 + self.nu))


@dataclass(frozen=True, eq=False)
class SelfConcordant:
    """1.2564 / M, with the exact Hessian of a quasi-self-concordant function (the root of e^t = 1 + 2 t).

    Args:
        M: the constant, |D3 f(x)[h, h, u]| <= M <Hh, h> ||u||; 2 / mu of LogSumExp in the metric
            sum a_i a_i'.
        error: C, where H is not exact but nearer than C ||g||_*: 1 / mu of the weighted Gauss-Newton matrix
            of LogSumExp. Errors add up harmonically: gamma is 1 / (M / 1.2564 + C).
    """

    M: Number
    error: Number = 0.0

    def __post_init__(self) -> None:
        _check(self, "M")
        if not bool((torch.as_tensor(self.error) >= 0).all()):
            raise ValueError(f"SelfConcordant: error: expected a number >= 0, got {self.error!r}")

    def __call__(self, norm: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return torch.ones_like(norm) / (self.M / 1.2564312086261697 + self.error)


def _check(rule: object, *names: str) -> None:
    for name in names:
        if not bool((torch.as_tensor(getattr(rule, name)) > 0).all()):
            raise ValueError(
                f"{type(rule).__name__}: {name}: expected a number > 0, got {getattr(rule, name)!r}"
            )
