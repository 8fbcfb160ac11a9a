"""Learners that are brought up by a rule with weights."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from optenvs.core.random import Keys, keys_from_seed
from optenvs.models.tabular.rules import Optimiser, Rule

from ..core import Observation, require
from ..learned.base import LearnedAgent, Numbers
from ._life import Living, begun, older


@dataclass(frozen=True, eq=False)
class LearnedRule(LearnedAgent):
    """A learner brought up by a learned rule, whose weights are a vector as ``Discovery`` lays it out.

    Args:
        actor_rate: of the policy's steps.
        critic_rate: of the critic's steps.
        clip: the norm to which a gradient is clipped before.
    """

    actor_rate: float = 40.0
    critic_rate: float = 4.0
    clip: float = 0.5

    needs = ("policy",)

    def __post_init__(self) -> None:
        for name in ("actor_rate", "critic_rate", "clip"):
            require(self, name, getattr(self, name) > 0, "a number > 0")
        fresh = self.net is None
        super().__post_init__()
        if fresh:
            drawn = self.rule.draw(keys_from_seed(self.seed, 1), self.torch_dtype)
            with torch.no_grad():
                self.net.flat.copy_(drawn[0])

    @abc.abstractmethod
    def make(self) -> Rule:
        """The rule of these hyper-parameters."""

    @cached_property
    def rule(self) -> Rule:
        """The rule."""
        return self.make()

    @cached_property
    def optimiser(self) -> Optimiser:
        """Of the learner."""
        return Optimiser(self.actor_rate, self.critic_rate, self.clip)

    def build(self) -> Numbers:
        return Numbers(self.torch_dtype, {"flat": torch.zeros(self.rule.size)})

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Living:
        return begun(self, problem, observation, keys, self.rule.categories)

    def act(self, state: Living, observation: Observation) -> tuple[Any, Living]:
        weights = self.own("flat", observation["return"])
        return older(state, self.rule, weights, observation, self.optimiser)
