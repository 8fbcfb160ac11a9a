"""What the particle methods share: the table of a swarm, weights, consensus, the form of a query."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys, normal, permutation

from ..core import Agent, Observation, Schedule, by_row, clock, require

Number = float | Float[Tensor, "B"]
Scale = float | Float[Tensor, "B 1"]


def table(observation: Observation) -> tuple[Float[Tensor, "B N d"], Float[Tensor, "B N"]]:
    """Points and values of all particles that the agent sees; a value that is no number is infinite.

    In a multi-agent view an agent moves its own particle only and sees the others beside it.
    """
    points = observation.get("all_point", observation["point"])
    values = observation.get("all_value", observation["value"]).squeeze(-1)
    return points, torch.where(values == values, values, torch.inf)


def answer(points: Float[Tensor, "B N d"], recommendation: Float[Tensor, "B d"], team: bool) -> Action:
    """The query: with the recommendation where it is the agent's to give (``problem.recommend``)."""
    return {"query": points, "recommendation": recommendation} if team else points


def recommends(problem: Any) -> bool:
    """Whether a query states the team's recommendation."""
    return getattr(problem, "recommend", None) == "agent"


def excess(values: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """How much worse than the best: what the weights are made of, without underflow at large values."""
    low = values.amin(-1, keepdim=True)
    return torch.where(values == low, 0.0, values - low)  # also where all are infinite


def weights(values: Float[Tensor, "B N"], alpha: Scale) -> Float[Tensor, "B N"]:
    """``exp(-alpha E)``, normalised over the particles; one-hot at the best where ``alpha`` is huge."""
    return torch.softmax(-alpha * excess(values), -1)


def consensus(
    points: Float[Tensor, "B N d"], values: Float[Tensor, "B N"], alpha: Scale
) -> Float[Tensor, "B d"]:
    """The Gibbs-weighted mean x_alpha of the particles."""
    return (weights(values, alpha).unsqueeze(1) @ points).squeeze(1)


def best(points: Float[Tensor, "B N d"], values: Float[Tensor, "B N"]) -> Float[Tensor, "B d"]:
    """The point with the least value."""
    index = values.argmin(-1)[:, None, None].expand(-1, 1, points.shape[-1])
    return points.gather(1, index).squeeze(1)


def effective_alpha(
    values: Float[Tensor, "B N"], share: float, least: float, most: float, steps: int = 40
) -> Float[Tensor, "B 1"]:
    """The ``alpha`` at which (sum w)^2 / sum w^2 is ``share`` of the particles, by bisection of its log.

    Particles of infinite value (those that are not in a random batch) do not count. Where no ``alpha`` in
    ``[least, most]`` does it, the nearer end.
    """
    wanted = share * (values < torch.inf).sum(-1, keepdim=True)
    above = excess(values)
    low = torch.full_like(above[:, :1], math.log(least))
    high = torch.full_like(low, math.log(most))
    for _ in range(steps):
        middle = (low + high) / 2
        w = torch.exp(-middle.exp() * above)
        # the sample size falls as alpha grows
        larger = w.sum(-1, keepdim=True).square() > wanted * w.square().sum(-1, keepdim=True)
        low, high = torch.where(larger, middle, low), torch.where(larger, high, middle)
    return ((low + high) / 2).exp()


def random_batch(keys: Keys, count: Int64[Tensor, "B"], particles: int, size: int) -> Bool[Tensor, "B N"]:
    """Who is in batch number ``count``: a random permutation is cut into batches, used up, drawn anew.

    Where ``size`` does not divide the number of particles, the rest of a permutation is left out.
    """
    blocks = particles // size
    labels = permutation(keys, "batch", particles, counter=count // blocks)
    return labels // size == (count % blocks).unsqueeze(-1)


def scaled(field: str, value: Number, schedule: Schedule | None, observation: Observation) -> Scale:
    """A hyper-parameter now: a plain number where it is one, else ``(B, 1)``."""
    number: Any = by_row(field, value, observation["value"])
    if schedule is not None:
        number = number * schedule(*clock(observation))
    return number


def temperature(value: Number, schedule: Schedule | None, observation: Observation) -> Scale:
    """``alpha`` now, as :func:`scaled`, within limits in which its products with values are numbers.

    A schedule may grow without an end: 0 times infinity would be no number, and no weight.
    """
    number = scaled("alpha", value, schedule, observation)
    limits = torch.finfo(observation["value"].dtype)
    least, most = limits.tiny, math.sqrt(limits.max)
    return number.clamp(least, most) if isinstance(number, Tensor) else min(max(number, least), most)


def wide(value: Scale) -> float | Float[Tensor, "B 1 1"]:
    """A number of each instance, for all its particles."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value


def positive(agent: Agent, *fields: str) -> None:
    """Require each field to be a number > 0, or a tensor of such."""
    for field in fields:
        require(agent, field, torch.all(torch.as_tensor(getattr(agent, field)) > 0), "a number > 0")


def not_negative(agent: Agent, *fields: str) -> None:
    """Require each field to be a number >= 0, or a tensor of such."""
    for field in fields:
        require(agent, field, torch.all(torch.as_tensor(getattr(agent, field)) >= 0), "a number >= 0")


class Normals:
    """Where a particle method draws; a subclass that overrides :meth:`normals` runs on given numbers."""

    def normals(
        self, keys: Keys, stream: str, count: Int64[Tensor, "B"], like: Float[Tensor, "B *shape"]
    ) -> Float[Tensor, "B *shape"]:
        """Standard normal numbers of the shape and type of ``like``, new memory that may be written over.

        Args:
            keys: one an instance.
            stream: what they are for.
            count: the step.
            like: a tensor of that shape.
        """
        return normal(keys, stream, tuple(like.shape[1:]), count, like.dtype)
