"""What learners with tables share: a policy and a critic, brought up by a rule, update by update.

The agent is told a window of T steps of E workers with its present policy, makes an update of it, and asks
for the next window with the policy that it then has. Tables have a column for each state, and one that the
time multiplies, and are zero at first, see :mod:`optenvs.models.tabular.tables`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import replace, static, struct
from optenvs.dynamics.grid import ACTIONS
from optenvs.models.tabular.rules import Clock, Optimiser, Rule
from optenvs.models.tabular.tables import Learner, Window

from ..core import Agent, Observation, Schedule, by_row, require

Rate = float | Float[Tensor, "B"]


@struct
class Living:
    """Where a life stands.

    Attributes:
        learner: its tables; ``None`` where the environment keeps them.
        done: updates so far, ``(B,)``.
        whole: N, the updates of the life, ``(B,)``.
        key: of the agent's own draws.
        steps: environment steps of an update.
    """

    learner: Learner | None
    done: Int64[Tensor, "B"]
    whole: Int64[Tensor, "B"]
    key: Int64[Tensor, "B"]
    steps: int = static()


def begun(agent: Agent, problem: Any, observation: Observation, keys: Keys, categories: int | None) -> Living:
    """A life before its first update, with a critic of ``categories``; ``None`` where tables are not its own.

    Raises:
        TypeError: the problem is no learner's life.
    """
    missing = [name for name in ("query", "states", "steps") if not hasattr(problem, name)]
    if missing:
        raise TypeError(
            f"problem: {type(agent).__name__} lives a learner's life, expected one, got "
            f"{type(problem).__name__} without {', '.join(missing)}"
        )
    learner = None
    if categories is not None:
        like, rows = observation["return"], len(keys)
        learner = Learner(
            actor=like.new_zeros(rows, ACTIONS, problem.states),
            critic=like.new_zeros(rows, categories, problem.states),
        )
    whole = lifetime(problem, observation)
    return Living(learner=learner, done=torch.zeros_like(whole), whole=whole, key=keys, steps=problem.steps)


def lifetime(problem: Any, observation: Observation) -> Int64[Tensor, "B"]:
    """N, by the logarithm that is told, which is in environment steps."""
    return (observation["features"][:, 1].exp() / problem.steps).round().long()


def clock(life: Living, like: Tensor) -> Clock:
    """How far lives have come, in the precision of ``like``."""
    done, whole = life.done.to(like.dtype), life.whole.to(like.dtype)
    return Clock(
        done=done, whole=whole, steps=torch.full_like(whole, life.steps), alive=life.done < life.whole
    )


def window(observation: Observation) -> Window:
    """The window that an observation tells of."""
    return Window(
        state=observation["state"].flatten(1).long(),
        time=observation["time"].flatten(1),
        action=observation["done"].flatten(1).long(),
        reward=observation["reward"].flatten(1),
        over=observation["over"].flatten(1),
        workers=observation["reward"].shape[2],
    )


def older(
    life: Living, rule: Rule, weights: Float[Tensor, "R D"], observation: Observation, optimiser: Optimiser
) -> tuple[Float[Tensor, "B 5 s"], Living]:
    """The policy after one update by the rule, and the life then."""
    assert life.learner is not None
    now = clock(life, observation["reward"])
    learner, _ = rule.learn(weights, life.learner, window(observation), now, life.key, optimiser)
    return learner.actor, replace(life, learner=learner, done=life.done + 1)


@dataclass(frozen=True, eq=False)
class TabularLearner(Agent):
    """A learner that is brought up by a rule without weights.

    Args:
        actor_rate: of the policy's steps: a number, or a tensor ``(B,)`` with one an instance.
        clip: the norm to which a gradient is clipped before.
        schedule: a factor on the rates as a function of updates so far and N, see ``agents.schedules``.
    """

    actor_rate: Rate = 40.0
    clip: float = 0.5
    schedule: Schedule | None = None

    needs = ("policy",)

    def __post_init__(self) -> None:
        for name in ("actor_rate", "clip", "critic_rate"):
            value = getattr(self, name, 1.0)
            require(self, name, bool((torch.as_tensor(value) > 0).all()), "a number > 0")
        _ = self.rule

    @abc.abstractmethod
    def make(self) -> Rule:
        """The rule of these hyper-parameters."""

    @cached_property
    def rule(self) -> Rule:
        """The rule."""
        return self.make()

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Living:
        return begun(self, problem, observation, keys, self.rule.categories)

    def act(self, state: Living, observation: Observation) -> tuple[Tensor, Living]:
        like = observation["return"]
        rates = [self.actor_rate, getattr(self, "critic_rate", 1.0)]
        if self.schedule is not None:
            now = (state.done.to(like).unsqueeze(-1), state.whole.to(like).unsqueeze(-1))
            factor = self.schedule(*now)
            rates = [(by_row("actor_rate", rate, like) * factor).squeeze(-1) for rate in rates]
        else:
            rates = [rate.to(like) if isinstance(rate, Tensor) else rate for rate in rates]
        nothing = like.new_zeros(len(like), 0)
        return older(state, self.rule, nothing, observation, Optimiser(rates[0], rates[1], self.clip))


@dataclass(frozen=True, eq=False)
class TabularActorCritic(TabularLearner):
    """One whose critic estimates returns, for advantages by GAE (0.99, 0.95) that are normalised.

    Args:
        critic_rate: of the critic's steps, as ``actor_rate``.
        entropy: the weight of the entropy bonus.
        anneal: the share of the bonus that is gone at the end of the life, linearly.
    """

    critic_rate: Rate = 4.0
    entropy: float = 0.01
    anneal: float = 0.0

    def __post_init__(self) -> None:
        require(self, "entropy", self.entropy >= 0, "a number >= 0")
        require(self, "anneal", 0 <= self.anneal <= 1, "a number in [0, 1]")
        super().__post_init__()
