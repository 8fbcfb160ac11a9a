"""What searches of a population share: fitnesses shaped, and a centre that an optimizer moves."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, normal
from optenvs.core.struct import replace, select, static, struct

from ..core import GradientAgent, Observation, require
from ..gradient.adam import Adam
from ..gradient.sgd import SGD
from ..particles._consensus import answer, recommends

OPTIMIZERS = ("adam", "sgd")


@struct
class Centre:
    """The memory of a search about a centre.

    Attributes:
        keys, count: of the random draws, and queries so far, ``(B,)``.
        point: the centre, which is recommended.
        std: the standard deviations, ``(B, 1)`` or ``(B, d)``.
        optimizer: the memory of what moves the centre.
        team: whether a query states the recommendation.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    point: Float[Tensor, "B d"]
    std: Float[Tensor, "B s"]
    optimizer: Any
    team: bool = static()


def unshaped(values: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
    """The values as they are; what is no number is as bad as the worst that is."""
    finite = values.abs() < torch.inf
    worst = torch.where(finite, values, -torch.inf).amax(-1, keepdim=True)
    return torch.where(finite, values, torch.where(worst > -torch.inf, worst, 0.0))


def pair_rank(values: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
    """1/2 for the worse of a pair (members 2j and 2j + 1), -1/2 for the better, 0 for both of equals."""
    first, second = _ordered(values).unflatten(-1, (-1, 2)).unbind(-1)
    sign = (first > second).to(values.dtype) - (first < second).to(values.dtype)
    return torch.stack((sign, -sign), -1).flatten(-2) / 2


def centred_rank(values: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
    """Places in the order, from -1/2 (the best) to 1/2; equals share the mean of theirs."""
    ordered = _ordered(values)
    one, other = ordered.unsqueeze(-1), ordered.unsqueeze(-2)
    place = (one > other).to(values.dtype).sum(-1) + ((one == other).to(values.dtype).sum(-1) - 1) / 2
    return place / (values.shape[-1] - 1) - 0.5


def z_score(values: Float[Tensor, "B m"]) -> Float[Tensor, "B m"]:
    """Values less their mean, divided by their deviation; 0 where all are equal."""
    known = unshaped(values)
    offset = known - known.mean(-1, keepdim=True)
    deviation = offset.square().mean(-1, keepdim=True).sqrt()
    return torch.where(deviation > 0, offset / torch.where(deviation > 0, deviation, 1.0), 0.0)


def _ordered(values: Tensor) -> Tensor:
    """What is no number behind all that is, so that it is never the better one."""
    return torch.where(values == values, values, torch.inf)


SHAPINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": unshaped,
    "pair_rank": pair_rank,
    "centred_rank": centred_rank,
    "z_score": z_score,
}
"""What takes the place of the values, by name; less stays better."""


@dataclass(frozen=True, eq=False)
class CentreSearch(GradientAgent):
    """Antithetic pairs about a centre that an optimizer moves along an estimate of the slope.

    Args:
        lr: the learning rate of the centre: a number, or a tensor ``(B,)`` with one for each instance.
        std: the (first) standard deviation of the points about the centre, likewise.
        shaping: what takes the place of the values: ``centred_rank``, ``pair_rank`` (the better of a pair),
            ``z_score``, or ``none`` for themselves.
        optimizer: ``adam`` or ``sgd``.
        momentum: of the optimizer; Adam's first decay.
        weight_decay: of the optimizer, as an L2 penalty.
        schedule: a factor of ``(k, N)`` on ``lr``, see ``agents.schedules``.

    Raises:
        ValueError: a query of an odd number of points.
    """

    lr: float | Float[Tensor, "B"] = 0.03
    std: float | Float[Tensor, "B"] = 0.03
    shaping: str = "centred_rank"
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0

    needs = ("value", "swarm")
    together = True

    @abc.abstractmethod
    def deviation(self, observation: Observation, point: Tensor) -> Float[Tensor, "B s"]:
        """The standard deviations before the first population; ``s`` is 1 or ``d``."""

    @abc.abstractmethod
    def estimate(
        self, state: Centre, observation: Observation, noise: Tensor, weights: Tensor
    ) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B s"]]:
        """The slope at the centre, and the next standard deviations.

        Args:
            state: the memory.
            observation: the answer.
            noise: of each pair, ``(B, p, d)``.
            weights: the shaped values of its members, ``(B, p, 2)``; less is better.
        """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "std", torch.all(torch.as_tensor(self.std) > 0), "a number > 0")
        for name, known in (("shaping", tuple(SHAPINGS)), ("optimizer", OPTIMIZERS)):
            require(self, name, getattr(self, name) in known, f"one of {', '.join(known)}")
        _ = self._mover  # whose constructor checks momentum and weight decay

    @property
    def _mover(self) -> Adam | SGD:
        common: Any = {"lr": self.lr, "weight_decay": self.weight_decay, "schedule": self.schedule}
        if self.optimizer == "adam":
            require(self, "momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
            return Adam(betas=(self.momentum, 0.999), **common)
        return SGD(momentum=self.momentum, **common)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Centre:
        points = observation["point"]
        if points.shape[1] % 2:
            raise ValueError(
                f"{type(self).__name__}: expected an even number of points a query, for pairs, got "
                f"{points.shape[1]}"
            )
        centre = points.mean(1)
        return Centre(
            keys=keys,
            count=torch.zeros_like(keys),
            point=centre,
            std=self.deviation(observation, centre),
            optimizer=self._mover.init(problem, _beside(observation, centre, centre), keys),
            team=recommends(problem),
        )

    def act(self, state: Centre, observation: Observation) -> tuple[Action, Centre]:
        points = observation["point"]
        weights = SHAPINGS[self.shaping](observation["value"].squeeze(-1)).unflatten(-1, (-1, 2))
        first, second = points.unflatten(1, (-1, 2)).unbind(2)
        slope, std = self.estimate(state, observation, (first - second) / 2, weights)
        moved = self._mover.act(state.optimizer, _beside(observation, state.point, slope))
        # the first answer is to the environment's own query
        own = state.count > 0
        (centre, memory), std = select(own, (moved, std), ((state.point, state.optimizer), state.std))
        drawn = normal(state.keys, "perturbation", tuple(first.shape[1:]), state.count, points.dtype)
        noise, middle = std.unsqueeze(1) * drawn, centre.unsqueeze(1)
        query = torch.stack((middle + noise, middle - noise), 2).flatten(1, 2)
        after = replace(state, count=state.count + 1, point=centre, std=std, optimizer=memory)
        return answer(query, centre, state.team), after


def _beside(observation: Observation, point: Tensor, gradient: Tensor) -> Observation:
    """What the optimizer of the centre is shown."""
    time = {name: observation[name] for name in ("k", "N", "spent") if name in observation}
    return {"point": point, "gradient": gradient} | time
