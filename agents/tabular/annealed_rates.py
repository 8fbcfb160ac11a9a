"""Hand schedules of a reinforcement learner's rates: learning rates and entropy bonus as functions of n / N.

Where a problem asks, update by update, by how many decades a rule's rates are to differ from their usual
values, the answer is log10 of a factor. The linear decay of the learning rate over the lifetime is the usual
hand schedule; what is learned about time has to do better (Jackson et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import replace, static, struct

from ..core import Agent, Observation, Schedule
from ..schedules import Linear
from ._life import lifetime

LEAST, MOST = -2.0, 2.0
"""Decades that a rate may differ."""


@struct
class Course:
    """How far lives have come: updates so far and N, ``(B, 1)``; ``rates`` are what is asked, by name."""

    done: Int64[Tensor, "B 1"]
    whole: Int64[Tensor, "B 1"]
    rates: tuple[str, ...] = static()


@dataclass(frozen=True, eq=False)
class AnnealedRates(Agent):
    """Factors on the rates of a rule by hand, as functions of updates so far and N.

    A factor is kept within [0.01, 100], which is what can be asked.

    Args:
        actor_rate: on the policy's rate, see ``agents.schedules``; ``None`` leaves it.
        critic_rate: on the critic's.
        entropy: on the weight of the entropy bonus.
    """

    actor_rate: Schedule | None = Linear()  # noqa: RUF009  (frozen: nobody changes it)
    critic_rate: Schedule | None = None
    entropy: Schedule | None = None

    needs = ("rates",)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Course:
        rates = problem.rates
        for name in ("critic_rate", "entropy"):
            if getattr(self, name) is not None and name not in rates:
                raise ValueError(
                    f"AnnealedRates: {name}: the problem's rule has {', '.join(rates)}, expected None, got "
                    f"{getattr(self, name)!r}"
                )
        whole = lifetime(problem, observation).unsqueeze(-1)
        return Course(done=torch.zeros_like(whole), whole=whole, rates=rates)

    def act(self, state: Course, observation: Observation) -> tuple[Tensor, Course]:
        like = observation["return"]
        done, whole = state.done.to(like.dtype), state.whole.to(like.dtype)
        decades = []
        for name in state.rates:
            schedule = getattr(self, name)
            factor = torch.ones_like(done) if schedule is None else schedule(done, whole)
            decades.append(factor.log10().clamp(LEAST, MOST))
        return torch.cat(decades, -1), replace(state, done=state.done + 1)
