"""The sum of two optimizers: each has its memory, sees the same answers, and both steps are taken.

    x <- x + (a(x) - x) + (b(x) - x)

("SumLearnedOptimizer" of the library of Metz et al. 2022.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from optenvs.core.random import Keys, fold_in
from optenvs.core.struct import struct

from ..core import Observation
from ._parts import made_part, told_part
from .base import LearnedAgent

_PARTS = ("first", "second")


@struct
class SumState:
    """The memories of the two."""

    first: Any
    second: Any


@dataclass(frozen=True, eq=False)
class Sum(LearnedAgent):
    """Two agents whose steps are added: ``agents.Sum(first=agents.Adam(), second=agents.LOLv2())``.

    Args:
        first, second: agents that answer points, at least one of them learned; or names of agents, which
            then get ``seed`` and ``dtype``. What either needs is needed; their weights stand side by side.
        seed, dtype: see above.
        net, weights: of both, see :class:`agents.learned.base.LearnedAgent`.
    """

    first: Any = "learnable_adam"
    second: Any = "lolv2"

    def __post_init__(self) -> None:
        for name in _PARTS:
            object.__setattr__(self, name, made_part(self, name))
        if not any(isinstance(getattr(self, name), LearnedAgent) for name in _PARTS):
            raise ValueError("Sum: second: expected a learned agent where the first is none")
        if self.net is None:  # the weights of the parts, and no fresh ones
            object.__setattr__(self, "net", self.build())
        super().__post_init__()
        net: Any = self.net
        parts, start = [], 0
        for name in _PARTS:
            part = getattr(self, name)
            if isinstance(part, LearnedAgent):
                own = None if self.weights is None else self.weights[:, start : start + part.size]
                part, start = part.replace(net=net[name], weights=own), start + part.size
            parts.append(part)
        object.__setattr__(self, "parts", tuple(parts))

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What either needs."""
        return tuple(dict.fromkeys((*self.first.needs, *self.second.needs)))

    def settings(self) -> dict[str, Any]:
        told = super().settings()
        for name in _PARTS:
            told[name] = told_part(getattr(self, name))
        return told

    def build(self) -> nn.ModuleDict:
        parts = {name: getattr(self, name) for name in _PARTS}
        return nn.ModuleDict({name: p.net for name, p in parts.items() if isinstance(p, LearnedAgent)})

    def init(self, problem: Any, observation: Observation, keys: Keys) -> SumState:
        first, second = self.parts  # type: ignore[attr-defined]
        return SumState(
            first=first.init(problem, observation, keys),
            second=second.init(problem, observation, fold_in(keys, 1)),
        )

    def act(self, state: SumState, observation: Observation) -> tuple[Tensor, SumState]:
        one, other = self.parts  # type: ignore[attr-defined]
        reached, first = one.act(state.first, observation)
        beside, second = other.act(state.second, observation)
        return reached + (beside - observation["point"]), SumState(first=first, second=second)
