"""What an environment is made of: an instance, the answer to a query, and an episode whole."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .configuration import Configuration
from .ledger import Ledger
from .random import Keys
from .struct import replace, static, struct

Action = Tensor | dict[str, Tensor]


@struct
class Instance:
    """What a key stands for: the problem, its hidden truth, and the first query.

    Attributes:
        problem: what the agent may know, a struct of tensors with leading dimension ``B``.
        hidden: what it may not (the optimum, held-out data) and the environment's own memory.
        start: the first query, of the form of an action; ``reset`` asks and bills it.
        floor: a lower bound of the merit, ``(B,)``, or ``None`` where none is known.
    """

    problem: Any
    hidden: Any
    start: Action
    floor: Float[Tensor, "B"] | None = None


@struct
class Answer:
    """What the oracle says to one query, and what the environment notes about it.

    Attributes:
        observation: the answer, a dict of tensors with leading dimension ``B``.
        merit: what is minimised, at the recommendation, unbilled and without noise, ``(B,)``.
        metrics: the truth for plots, a dict of tensors ``(B,)``.
        solved: whether the recommendation is within the tolerance, ``(B,)``; ``None`` for never.
        hidden: the environment's next memory; ``None`` leaves it.
        calls: the bill where it differs from :attr:`OptimizationEnv.bill`: by oracle kind, or ``(B, kinds)``.
        ended: whether the episode is over for another reason than solution or budget (the environment's own
            clock has run out), ``(B,)``; such an episode is truncated. ``None`` for never.
        outside: whether the recommendation is outside of its bounds, ``(B,)``, and earns no credit; ``None``
            where the action itself tells.
        infeasible: whether the merit is no number because the point is not allowed, ``(B,)``: such a row
            earns no credit and goes on. ``None``: a merit that is no finite number has diverged.
    """

    observation: dict[str, Tensor]
    merit: Float[Tensor, "B"]
    metrics: dict[str, Tensor]
    solved: Bool[Tensor, "B"] | None = None
    hidden: Any = None
    calls: dict[str, Any] | Tensor | None = None
    ended: Bool[Tensor, "B"] | None = None
    outside: Bool[Tensor, "B"] | None = None
    infeasible: Bool[Tensor, "B"] | None = None


@struct
class State:
    """An episode of ``B`` instances, whole: what a step needs, what the faces show.

    Attributes:
        key: one 64-bit key an instance; all randomness of the episode comes from it.
        k: queries answered since ``reset``; the first query, which ``reset`` asks, is number 0.
        problem, hidden: see :class:`Instance`.
        observation: the last answer, with ``k``, the horizon ``N``, and ``spent`` where cost varies, each
            ``(B, 1)``.
        reward, terminated, truncated: of the last query; the latter two also mark a finished episode.
        diverged: whether the merit is no finite number; such an episode is truncated.
        calls: the oracle ledger.
        metrics: the truth at the last recommendation; never shown to an agent.
        merit, best: the merit now and the best so far (the worst possible until one is finite).
        floor: see :class:`Instance`.
        origin: the configuration of the environment that began it, see :mod:`optenvs.core.configuration`.
    """

    key: Keys
    k: Int64[Tensor, "B"]
    problem: Any
    hidden: Any
    observation: dict[str, Tensor]
    reward: Float[Tensor, "B"]
    terminated: Bool[Tensor, "B"]
    truncated: Bool[Tensor, "B"]
    diverged: Bool[Tensor, "B"]
    calls: Ledger
    metrics: dict[str, Tensor]
    merit: Float[Tensor, "B"]
    best: Float[Tensor, "B"]
    floor: Float[Tensor, "B"] | None
    origin: Configuration = static(default=())

    @property
    def done(self) -> Bool[Tensor, "B"]:
        """Whether the episode is over, for either reason."""
        return self.terminated | self.truncated


def stopped(state: State) -> State:
    """The same episodes, over: nothing is asked, billed or rewarded."""
    return replace(state, reward=torch.zeros_like(state.reward), truncated=torch.ones_like(state.truncated))
