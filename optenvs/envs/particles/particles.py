"""Particles on a landscape: the environment of consensus-based optimization and its relatives.

Riedl, Klock, Geldhauser, Fornasier, "Gradient is All You Need?", 2023 (arXiv 2306.09778).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Instance, State
from optenvs.core.inner import refuse_unused
from optenvs.core.random import Keys, normal, uniform
from optenvs.core.struct import static, struct
from optenvs.envs.landscapes.base import Landscape
from optenvs.envs.landscapes.canyon import GrandCanyon

from .base import Reply, Swarm

ORACLES = ("value", "gradient")
NEAR = 0.25
"""How near to a known minimum a particle has found it (Bungert, Roith, Wacker 2022)."""


@struct
class Problem:
    """What an agent may know: the box in which the landscape's features lie, and who recommends.

    Attributes:
        lower, upper: the ends of the box.
        recommend: ``agent`` where a query is a dict with a ``recommendation``.
    """

    lower: Float[Tensor, "B d"]
    upper: Float[Tensor, "B d"]
    recommend: str = static()


@dataclass(frozen=True, eq=False, kw_only=True)
class Particles(Swarm):
    """N particles on a landscape. One query: N points. Billed: a value (and gradient) for each that moved.

    Metrics: ``value``, ``gap`` and ``distance`` at the recommendation, ``best_particle`` (least value now),
    ``best_ever``, ``variance`` (mean squared distance to the swarm's mean), ``mean_square_distance`` (to the
    optimum: the papers' V), ``minima_found`` where several minima are known (those with a particle within
    0.25). A particle whose value is no number does not count.

    Args:
        landscape: the function: a :class:`~optenvs.envs.landscapes.base.Landscape`, or in ``optenvs.make`` an
            id, whose keywords may then stand beside those of the swarm. Its ``noise`` is in the answers; its
            ``bounds`` are those of the points. Oracle, budget, reward, tolerance, device, dtype and start are
            the swarm's: others of the landscape are refused.
        oracle: ``value``, or ``gradient`` (with the value).
        start_mean: the mean of the particles' Gaussian start, a number or ``dim`` of them; ``None`` for a
            start uniform in the landscape's domain.
        start_std: its standard deviation (1 by default); 0 begins with all particles in one point.
        particles, recommend, sees: see :class:`~optenvs.envs.particles.base.Swarm`.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`.
    """

    landscape: Landscape = dataclasses.field(default_factory=GrandCanyon, metadata={"environment": True})
    oracle: str = "value"
    start_mean: float | tuple[float, ...] | None = None
    start_std: float | None = None
    tolerance: float | None = 1e-8

    meanings: ClassVar[dict[str, str]] = {
        "variance": "the mean squared distance of the particles from their mean",
        "mean_square_distance": "the mean squared distance of the particles from the solution",
        "minima_found": "how many of the known minima have a particle near them",
    }

    def __post_init__(self) -> None:
        if not isinstance(self.landscape, Landscape):
            raise TypeError(
                f"landscape: expected a Landscape, got {self.landscape!r}; optenvs.make takes an id"
            )
        if self.oracle not in ORACLES:
            raise ValueError(f"oracle: expected {' or '.join(ORACLES)}, got {self.oracle!r}")
        if self.start_mean is None and self.start_std is not None:
            raise ValueError("start_std: expected a start_mean with it")
        if self.start_mean is not None:
            mean = self.start_mean if isinstance(self.start_mean, tuple | list) else (self.start_mean,)
            if len(mean) not in (1, self.landscape.dim) or not all(map(math.isfinite, mean)):
                raise ValueError(
                    f"start_mean: expected a number or {self.landscape.dim} of them, got {self.start_mean!r}"
                )
        if self.start_std is not None and not 0 <= self.start_std < float("inf"):
            raise ValueError(f"start_std: expected a number >= 0, got {self.start_std!r}")
        refuse_unused("landscape", self.landscape, self, {"oracle": self.oracle})
        if self.landscape.start is not None:
            raise ValueError(
                f"start: {self.landscape.start!r} of the landscape would have no effect; a swarm begins "
                "about start_mean, with start_std"
            )
        _ = self.function  # what the landscape refuses is an error now, not at the first reset
        super().__post_init__()

    @cached_property
    def function(self) -> Landscape:
        """The landscape on this device, in this precision, answering what is asked here."""
        made = self.landscape.replace(
            device=self.device, dtype=self.dtype, oracle=self.oracle, budget=None, reward="improvement"
        )
        assert isinstance(made, Landscape)
        return made

    @property
    def size(self) -> int:
        return self.landscape.dim

    @property
    def differentiable(self) -> bool:
        return self.function.differentiable

    @property
    def vectorizable(self) -> bool:
        return self.function.vectorizable

    @property
    def bounded_below(self) -> bool:
        return self.function.bounded_below

    @property
    def fixed_cost(self) -> bool:
        return self.landscape.noise > 0  # every answer is a new one then

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("value", "swarm") if self.oracle == "value" else ("value", "gradient", "swarm")

    @property
    def price(self) -> dict[str, int]:
        return dict.fromkeys(ORACLES[: ORACLES.index(self.oracle) + 1], 1)

    def agent_action_fields(self) -> spaces.Box:
        fields = self.function.action_space
        assert isinstance(fields, spaces.Box)
        return fields

    def sample(self, keys: Keys) -> Instance:
        instance = self.function.sample(keys)
        lower, upper = instance.problem.lower, instance.problem.upper
        shape, dtype = (self.particles, self.size), self.torch_dtype
        if self.start_mean is None:
            unit = uniform(keys, "particles", shape, dtype=dtype)
            points = lower.unsqueeze(1) + (upper - lower).unsqueeze(1) * unit
        else:
            mean = torch.tensor(self.start_mean, dtype=dtype, device=keys.device)
            std = 1.0 if self.start_std is None else self.start_std
            points = mean + std * normal(keys, "particles", shape, dtype=dtype)
            if self.landscape.bounds is not None:
                points = points.clamp(lower.unsqueeze(1), upper.unsqueeze(1))
        return Instance(
            problem=Problem(lower=lower, upper=upper, recommend=self.recommend),
            hidden=self.empty_memory(instance.hidden, points, {}),
            start=self.first_query(points),
            floor=instance.floor,
        )

    def repeated(self, state: State) -> bool:
        return not self.landscape.noise

    def ask(self, state: State, points: Tensor) -> Reply:
        exact, gradient = self.function.ask_swarm(state.hidden.oracle, points, self.oracle == "gradient")
        noise = self.landscape.noise
        if not noise:
            return Reply(exact, exact, gradient)

        def noisy(name: str, exact: Tensor) -> Tensor:
            drawn = normal(state.key, f"noise {name}", tuple(exact.shape[1:]), state.k, exact.dtype)
            return exact + noise * drawn

        return Reply(noisy("value", exact), exact, None if gradient is None else noisy("gradient", gradient))

    def judge(self, state: State, point: Tensor) -> Tensor:
        return self.function.ask_swarm(state.hidden.oracle, point.unsqueeze(1))[0].squeeze(1)

    def measure(
        self, state: State, points: Tensor, recommendation: Tensor, merit: Tensor
    ) -> dict[str, Tensor]:
        hidden = state.hidden.oracle
        mean = points.mean(1)
        variance = (points - mean.unsqueeze(1)).square().sum((1, 2)) / self.particles
        metrics = {"variance": variance}
        if hidden.optimum is not None:
            metrics["distance"] = torch.linalg.vector_norm(recommendation - hidden.optimum, dim=-1)
            # mean |X - x*|^2 by parts, without a second pass over all particles
            metrics["mean_square_distance"] = variance + (mean - hidden.optimum).square().sum(-1)
        minima = self.function.known_minima()
        if minima is not None:
            unmoved = self.function.unmove_swarm(hidden, points)
            offset = unmoved.unsqueeze(2) - minima  # (B, N, minima, d)
            near = (torch.linalg.vector_norm(offset, dim=-1) < NEAR).any(1)
            metrics["minima_found"] = near.sum(-1).to(points.dtype)
        return metrics
