"""Learned policy gradient with tables (Oh et al. 2020, arXiv 2007.08794): a network says where to go.

From the last transition of a window to the first a recurrent network says pi-hat, what multiplies the slope
of log pi, and y-hat, what the critic's categories should be; the learner descends

    mean[ log pi(a_t | s_t) pi-hat_t ] + alpha_y mean[ KL( y(s_t) || y-hat_t ) ]

``timed``: TA-LPG (Jackson et al. 2024, eq. 9), which sees n / N and log N. Where a problem asks for targets,
it is told pi-hat and the logits of y-hat, and keeps the tables itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from optenvs.core.random import Keys
from optenvs.core.struct import replace
from optenvs.models import lpg
from optenvs.models.tabular.rules import LearnedGradient

from ..core import Observation
from ._learned import LearnedRule
from ._life import Living, begun, clock


@dataclass(frozen=True, eq=False)
class LPG(LearnedRule):
    """LPG; ``optenvs/Discovery-v0`` with ``rule="lpg"`` finds its weights.

    Args:
        categories: m, of the critic.
        embedding: hidden units of what reads the critic.
        hidden: units of the recurrent network.
        timed: whether it sees the time.
        raw_time: give it the number of updates and N in place of n / N and log N, as groove does.
        unit: what N is counted in where its logarithm is seen: ``interactions`` (the paper's) or ``updates``.
        alpha_y: the weight of the critic's part.
        actor_rate, critic_rate, clip: of the learner's steps, as groove has them; where a problem asks for
            targets they are its own, and so is the weight.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    categories: int = 8
    embedding: int = 16
    hidden: int = 256
    timed: bool = False
    raw_time: bool = False
    unit: str = "interactions"
    alpha_y: float = 0.5

    needs = ("policy|targets",)

    def make(self) -> LearnedGradient:
        net = lpg.LPG(self.categories, self.embedding, self.hidden, self.timed)
        return LearnedGradient(net, self.raw_time, self.unit, alpha_y=self.alpha_y)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Living:
        targets = getattr(problem, "query", None) == "targets"
        if targets and (count := observation["critic"].shape[-1]) != self.categories:
            raise ValueError(
                f"LPG: categories: expected {count}, those of the problem's critic, got {self.categories}"
            )
        return begun(self, problem, observation, keys, None if targets else self.categories)

    def act(self, state: Living, observation: Observation) -> tuple[Any, Living]:
        if state.learner is not None:
            return super().act(state, observation)
        rule, like = self.rule, observation["reward"]
        assert isinstance(rule, LearnedGradient)
        reward, over, chosen = (observation[name].flatten(1, 2) for name in ("reward", "over", "chosen"))
        critic, weights = observation["critic"].flatten(1, 2).mT, self.own("flat", like)
        said = rule.told(weights, reward, over, chosen, critic, like.shape[2], clock(state, like))
        assert said.wanted is not None
        target = said.wanted.clamp_min(torch.finfo(like.dtype).tiny).log().mT
        action = {"push": said.push, "target": target}
        action = {name: value.unflatten(1, (-1, like.shape[2])) for name, value in action.items()}
        return action, replace(state, done=state.done + 1)
