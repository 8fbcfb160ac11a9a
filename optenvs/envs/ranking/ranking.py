"""The ranking oracle of a landscape."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.inner import refuse_unused
from optenvs.core.random import Keys, normal
from optenvs.envs.landscapes.base import Landscape
from optenvs.envs.landscapes.classic import Rosenbrock

from .base import RankingOracle


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranking(RankingOracle):
    """Points on a landscape are ranked, its values hidden. Billed: the points shown, and the rankings.

    Args:
        objective: the function: a :class:`~optenvs.envs.landscapes.base.Landscape`, or in ``optenvs.make`` an
            id, whose keywords may then stand beside those of the oracle. Mistakes of ranking are the oracle's
            ``noise``; one of the landscape is refused, and so are oracle, budget, reward, tolerance, device
            and dtype of its own.
        start_std: standard deviation of a Gaussian start about 0, as in the paper; ``None`` for the
            landscape's own start.
        shown, ranked, recommend, noise, ...: see :class:`optenvs.envs.ranking.base.RankingOracle`.
    """

    objective: Landscape = dataclasses.field(
        default_factory=lambda: Rosenbrock(dim=10), metadata={"environment": True}
    )
    start_std: float | None = None
    tolerance: float | None = 1e-8

    def __post_init__(self) -> None:
        if not isinstance(self.objective, Landscape):
            raise TypeError(
                f"objective: expected a Landscape, got {self.objective!r}; optenvs.make takes an id"
            )
        if self.objective.noise:
            raise ValueError(
                f"objective: expected one without noise, got noise={self.objective.noise}; "
                "a ranking has its own, noise='thurstone' and others"
            )
        refuse_unused("objective", self.objective, self, {"oracle": "value"})
        if self.start_std is not None and self.objective.start is not None:
            raise ValueError("start_std: the objective has a start= of its own; expected one of them")
        if self.start_std is not None and not 0 <= self.start_std < float("inf"):
            raise ValueError(f"start_std: expected a number >= 0 or None, got {self.start_std!r}")
        _ = self.function
        super().__post_init__()

    @cached_property
    def function(self) -> Landscape:
        """The landscape on this device, in this precision, asked for values."""
        made = self.objective.replace(
            device=self.device, dtype=self.dtype, oracle="value", budget=None, reward="improvement"
        )
        assert isinstance(made, Landscape)
        return made

    @property
    def size(self) -> int:
        return self.objective.dim

    @property
    def vectorizable(self) -> bool:
        return self.function.vectorizable

    @property
    def bounded_below(self) -> bool:
        return self.function.bounded_below

    def point_space(self) -> spaces.Box:
        space = self.function.action_space
        assert isinstance(space, spaces.Box)
        return space

    def sample(self, keys: Keys) -> Instance:
        instance = self.function.sample(keys)
        start = instance.start
        assert isinstance(start, Tensor)  # the value oracle takes a point alone
        if self.start_std is not None:
            start = self.start_std * normal(keys, "ranking start", self.size, dtype=self.torch_dtype)
            if self.objective.bounds is not None:
                start = start.clamp(instance.problem.lower, instance.problem.upper)
        return Instance(
            problem=self.problem(instance.problem.lower, instance.problem.upper),
            hidden=self.memory(instance.hidden, start),
            start=self.first_query(start),
            floor=instance.floor,
        )

    def values(self, state: State, points: Float[Tensor, "B m d"]) -> Float[Tensor, "B m"]:
        return self.function.ask_swarm(state.hidden.oracle, points)[0]
