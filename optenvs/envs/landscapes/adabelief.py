"""The toy problems of the AdaBelief paper (Zhuang et al. 2020), in two dimensions.

Starting points are those of the authors' videos; the slope of |u| at 0 is taken as 0. An episode never ends
as solved; the default budget pays the 20,000 updates of the longest runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optenvs.core.errors import suggest
from optenvs.core.random import Keys, uniform

from .base import Draw, Landscape
from .classic import beale

Curve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Toy(NamedTuple):
    """One toy problem: value and slopes at ``x, y``, its start, its minimiser and its minimum."""

    curve: Curve
    start: tuple[float, float]
    minimiser: tuple[float, float] = (0.0, 0.0)
    minimum: float = 0.0


def _valley(along: float, across: float) -> Curve:
    def curve(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return along * x.abs() + across * y.abs(), along * x.sign(), across * y.sign()

    return curve


def _turned(plus: float, minus: float) -> Curve:
    def curve(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, v = x + y, x - y
        slope_u, slope_v = plus * u.sign(), minus * v.sign()
        return plus * u.abs() + minus * v.abs(), slope_u + slope_v, slope_u - slope_v

    return curve


def _rotquad(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, v = x + y, x - y
    return u * u + v * v / 10, 2 * u + v / 5, 2 * u - v / 5


def _beale(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value, slope = beale(torch.stack((x, y), -1))
    return value, slope[:, 0], slope[:, 1]


def _rosenbrock(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rest, bend = 1 - x, y - x * x
    return rest * rest + 100 * bend * bend, -2 * rest - 400 * x * bend, 200 * bend


def _mccormick(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    cosine, gap = torch.cos(x + y), x - y
    value = torch.sin(x + y) + gap * gap - 1.5 * x + 2.5 * y + 1
    return value, cosine + 2 * gap - 1.5, cosine - 2 * gap + 2.5


_MCCORMICK = ((-0.5471975511965976, -1.5471975511965976), -1.9132229549810362)

TOYS: dict[str, Toy] = {
    "valley1": Toy(_valley(0.1, 1.0), (0.5, 1.5)),
    "valley2": Toy(_valley(1.0, 1.0), (2.5, 0.1)),
    "valley3": Toy(_valley(0.1, 1.0), (2.5, 0.1)),
    "valley4": Toy(_valley(1.0, 1.0), (2.5, -2.5)),
    "rotvalley": Toy(_turned(1.0, 0.1), (2.5, 0.1)),
    "rotvalley_video": Toy(_turned(0.1, 1.0), (2.5, 0.1)),
    "rotquad": Toy(_rotquad, (2.5, 0.1)),
    "beale1": Toy(_beale, (2.5, -2.5), (3.0, 0.5)),
    "beale2": Toy(_beale, (-2.5, -2.5), (3.0, 0.5)),
    "rosen1": Toy(_rosenbrock, (2.5, -1.0), (1.0, 1.0)),
    "rosen2": Toy(_rosenbrock, (-2.5, -2.5), (1.0, 1.0)),
    "mccormick1": Toy(_mccormick, (0.0, 2.0), *_MCCORMICK),
    "mccormick2": Toy(_mccormick, (1.8, -1.8), *_MCCORMICK),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class AdaBeliefToy(Landscape):
    """One of the paper's toy problems.

    Args:
        problem: ``valley1`` to ``valley4``, ``rotvalley`` (the published formula), ``rotvalley_video``
            (turned the other way, as in the video), ``rotquad``, ``beale1``, ``beale2``, ``rosen1``,
            ``rosen2``, ``mccormick1``, ``mccormick2``.
        instance: ``paper`` (the video's start), or ``random`` (uniform in the box of the plots).
    """

    dim: int = 2
    budget: Any = 20_001
    tolerance: float | None = None
    problem: str = "valley1"
    instance: str = "paper"

    domain = (-3.0, 3.0)
    fixed_dim = 2

    def __post_init__(self) -> None:
        if self.problem not in TOYS:
            raise ValueError(f"problem: got {self.problem!r}{suggest(self.problem, TOYS)}")
        if self.instance not in ("paper", "random"):
            raise ValueError(f"instance: expected 'paper' or 'random', got {self.instance!r}")
        super().__post_init__()

    @property
    def search_domain(self) -> tuple[float, float]:
        edge = 4.0 if self.problem.startswith("beale") else 3.0
        return -edge, edge

    def draw(self, keys: Keys) -> Draw:
        toy, dtype = TOYS[self.problem], self.torch_dtype
        low, high = self.search_domain
        start = uniform(keys, "start", 2, dtype=dtype, low=low, high=high)
        if self.instance == "paper":
            start = torch.tensor(toy.start, dtype=dtype, device=keys.device).expand_as(start)
        optimum = torch.tensor(toy.minimiser, dtype=dtype, device=keys.device).expand_as(start)
        return Draw(start=start, optimum=optimum, lowest=torch.full_like(start[:, 0], toy.minimum))

    @property
    def bounded_below(self) -> bool:
        return not self.problem.startswith("mccormick")  # its sine leaves the minimum a local one

    def value(self, x: Tensor, coefficients: Any) -> Tensor:
        return TOYS[self.problem].curve(*x.unbind(-1))[0]

    def value_and_gradient(self, x: Tensor, coefficients: Any) -> tuple[Tensor, Tensor]:
        value, *slopes = TOYS[self.problem].curve(*x.unbind(-1))
        return value, torch.stack(slopes, -1)
