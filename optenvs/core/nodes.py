"""One of the agents of a problem as a program of its own: what a process needs to be it, and nothing else.

The tensor environment plays all agents at once and sees everything. A process that is one node of a network
has its own row of the problem, its own oracle, and the others' messages; :class:`Node` is that row. The
runner of :mod:`optenvs.processes` knows no more of a problem than this.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from .random import Keys

Kind = Literal["gradient", "message", "report"]


@dataclass(frozen=True)
class Event:
    """What is asked of a node: a point to compute at, a message for a neighbour, or its iterate.

    Attributes:
        kind: ``gradient``, ``message`` (which it swaps for that of ``peer``), or ``report``.
        peer: the neighbour that a message is for; the node itself otherwise.
        time: when, in the problem's units.
    """

    kind: Kind
    peer: int
    time: float


class Node(abc.ABC):
    """Agent ``index`` of an instance. Tensors have the leading dimensions of one instance and one agent.

    Attributes:
        index: which agent it is.
        key: the instance's key, ``(1,)``.
        problem: what it may know, as :meth:`optenvs.core.multi.MultiAgentEnv.local` gives it.
        start: its first iterate, ``(1, 1, d)``.
        channels: vectors in a message.
        rates: exchanges with each of its neighbours in a unit of time; empty where only :meth:`events` says
            when.
        bills: what its gradients and its exchanges are called in the ledger.
    """

    index: int
    key: Keys
    problem: Any
    start: Float[Tensor, "1 1 d"]
    channels: int
    rates: dict[int, float]
    bills: tuple[str, str]

    @abc.abstractmethod
    def events(self) -> list[Event]:
        """All that will be asked of it in the seeded episode, in order."""

    @abc.abstractmethod
    def gradient(self, query: Float[Tensor, "1 1 d"], computed: int) -> Float[Tensor, "1 1 d"]:
        """Its own oracle's answer, after ``computed`` answers before: the one that the episode gives."""

    @abc.abstractmethod
    def observation(
        self,
        point: Float[Tensor, "1 1 d"],
        asked: Event | None,
        elapsed: float,
        answered: Event | None = None,
        answer: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What an agent sees: the answer to one event, and what is asked of it next.

        Args:
            point: the last query.
            asked: the coming event, or ``None``.
            elapsed: the time since the last observation.
            answered: the event behind it, or ``None``.
            answer: the gradient ``(1, 1, d)``, or the neighbour's message ``(1, 1, channels, d)``.
        """
