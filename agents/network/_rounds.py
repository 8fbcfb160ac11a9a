"""What a synchronous network asks of a node in a round, as the agents say it.

All nodes take the same turns. An agent counts its actions in ``count``: action 0 follows the gradients at the
start, before anything was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..core import Agent, Observation, each_row, require

Point = Float[Tensor, "B N d"]
Constant = Float[Tensor, "B 1 1"]
"""A number of the instance, shaped to multiply the nodes' points."""
Turn = Bool[Tensor, "B 1 1"]


@dataclass(frozen=True, eq=False)
class StepAgent(Agent):
    """An agent with a step size and no other constant.

    Args:
        lr: the step size, a number or a tensor ``(B,)``; None for ``portion`` / L.
    """

    lr: float | Float[Tensor, "B"] | None = None

    needs: ClassVar[tuple[str, ...]] = ("gradient", "gossip")
    portion: ClassVar[float]

    def __post_init__(self) -> None:
        if self.lr is not None:
            lr = torch.as_tensor(self.lr)
            require(self, "lr", ((lr > 0) & lr.isfinite()).all(), "a finite number > 0, or None")

    def step_size(self, problem: Any, point: Point) -> Constant:
        """The step size of each instance."""
        return each_row("lr", self.portion / problem.L if self.lr is None else self.lr, point)


def constant(value: Float[Tensor, "B"], like: Point) -> Constant:
    """A number of the instance in the precision of the points."""
    return value.to(like).view(-1, 1, 1)


def no_action(point: Point) -> Int64[Tensor, "B 1 1"]:
    """The count of an agent that has not acted."""
    return torch.zeros(len(point), 1, 1, dtype=torch.int64, device=point.device)


def check_room(observation: Observation, count: int) -> None:
    """Refuse a network in which a message holds fewer vectors than an agent sends at once."""
    room = observation["total"].shape[2]
    if room < count:
        raise ValueError(f"channels: expected at least {count}, which the agent sends at once, got {room}")


def say(
    observation: Observation,
    query: Point,
    vectors: Float[Tensor, "B N v d"],
    compute: Turn,
    send: Turn,
    recommendation: Point | None = None,
) -> dict[str, Tensor]:
    """An action of all nodes: where to compute, what to send, the iterate.

    Args:
        observation: the last answer; it has room for as many vectors as a message may hold.
        query: the point at which to compute.
        vectors: what a node sends.
        compute: whether it computes.
        send: whether it sends.
        recommendation: the iterate; ``query`` if None.
    """
    room, count = observation["total"].shape[2], vectors.shape[2]
    each = torch.ones_like(query[..., :1], dtype=torch.int64)
    return {
        "query": query,
        "message": torch.nn.functional.pad(vectors, (0, 0, 0, room - count)),
        "recommendation": query if recommendation is None else recommendation,
        "compute": compute * each,
        "send": send * (count * each),
    }


def condition(problem: Any) -> Float[Tensor, "B"]:
    """The worst ratio of the extreme positive eigenvalues of a Laplacian, float64; 1 for a single node."""
    largest, smallest = problem.largest.double(), problem.smallest.double()
    return torch.where(smallest > 0, largest / smallest, 1.0)
