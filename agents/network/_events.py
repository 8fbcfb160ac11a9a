"""What an asynchronous network asks of a node and tells it, as the agents read it.

An observation answers the event before (``answered``) and announces the next (``event``); where the two come
in turns of their own, the fields of the other are zero, and zero stands for nothing in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from ..core import Agent, Observation

GRADIENT, EXCHANGE, REPORT = 1, 2, 3
"""A gradient is computed, messages are exchanged, all nodes publish their iterates of one time."""


@dataclass(frozen=True, eq=False)
class AsynchronousAgent(Agent):
    """An agent whose nodes compute and exchange at times of their own.

    The iterate that a node publishes is the one behind its last event; at a report, that of the time of the
    report.
    """

    needs: ClassVar[tuple[str, ...]] = ("gradient", "exchange")


def answer_to(observation: Observation, kind: int) -> Bool[Tensor, "B N 1"]:
    """Which nodes hear the answer to an event of this kind."""
    return observation["answered"] == kind


def announced(observation: Observation, kind: int) -> Bool[Tensor, "B N 1"]:
    """Which nodes are asked for an event of this kind."""
    return observation["event"] == kind


def query(
    observation: Observation, point: Tensor, message: Tensor, before: Tensor, now: Tensor
) -> dict[str, Tensor]:
    """An action: the point to compute at, one vector to send, and the iterate of the time that is asked for.

    Args:
        observation: what announces the event.
        point: where a gradient is computed, ``(B, N, d)``.
        message: what a neighbour hears, ``(B, N, d)``.
        before: the iterates behind the last events, ``(B, N, d)``.
        now: the iterates at the time of the coming event, ``(B, N, d)``.
    """
    published = torch.where(announced(observation, REPORT), now, before)
    return {"query": point, "message": message.unsqueeze(2), "recommendation": published}
