"""Rules of reinforcement learning that state targets, and what all rules have in common.

A rule says what a learner makes of a window, and of how far its life has come. Rules that state targets
(learned policy gradient, and REINFORCE by hand) are followed by one step of descent on

    mean[ log(pi(a_t | s_t) + 1e-8) pi-hat_t ] + alpha_y mean[ KL( y(s_t) || y-hat_t ) ]

with pi-hat and y-hat constant (Jackson et al. 2024 as in groove). The gradient by the logits is written out:
pi-hat (onehot - pi), and y (log y - log y-hat - KL).
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct
from optenvs.models.lpg import LPG

from .tables import TINY, Learner, Rate, Window, descend, gathered, look

UNITS = ("interactions", "updates")
"""What N may be counted in."""


@struct
class Clock:
    """How far lives have come.

    Attributes:
        done: updates so far, ``(L,)``.
        whole: N, the updates of the life.
        steps: environment steps of an update.
        alive: whether the life goes on; the others learn nothing.
    """

    done: Float[Tensor, "L"]
    whole: Float[Tensor, "L"]
    steps: Float[Tensor, "L"]
    alive: Bool[Tensor, "L"]

    @property
    def share(self) -> Float[Tensor, "L"]:
        """N / N."""
        return self.done / self.whole


@dataclass(frozen=True, eq=False)
class Optimiser:
    """How a learner descends: groove's for tables.

    Args:
        actor, critic: the rates of policy and critic: numbers, or one a learner.
        clip: the norm to which each gradient is clipped before.
    """

    actor: Rate = 40.0
    critic: Rate = 4.0
    clip: float = 0.5


@struct
class Said:
    """What a rule said of a window.

    Attributes:
        push: pi-hat, what multiplies the slope of log pi in the loss; minus A of rules with a drift.
        wanted: y-hat, or ``None``.
    """

    push: Float[Tensor, "L n"]
    wanted: Float[Tensor, "L m n"] | None = None


@dataclass(frozen=True)
class Rule(abc.ABC):
    """A rule without weights; one that has none to learn has ``size`` 0."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """D, the number of weights."""

    @property
    def categories(self) -> int:
        """Outputs of the critic."""
        return 1

    @abc.abstractmethod
    def draw(self, keys: Keys, dtype: torch.dtype) -> Float[Tensor, "R D"]:
        """Weights to begin with."""

    @abc.abstractmethod
    def learn(
        self,
        weights: Float[Tensor, "R D"],
        learner: Learner,
        window: Window,
        clock: Clock,
        keys: Keys,
        optimiser: Optimiser,
    ) -> tuple[Learner, Said]:
        """The learners after one update, and what was said.

        Args:
            weights: one set a candidate; ``L / R`` learners in a row have each.
            learner: the learners.
            window: what they met.
            clock: how far they are.
            keys: for the order of minibatches.
            optimiser: of the learners.
        """


class View:
    """What a learner thinks of its window: the policy's shares, that of the action taken, the critic."""

    def __init__(self, learner: Learner, window: Window) -> None:
        logits = look(learner.actor, *window.before)
        place = window.action.unsqueeze(1)
        self.policy = logits.softmax(1)
        self.taken = torch.zeros_like(logits).scatter(1, place, 1.0)
        self.chosen = self.policy.gather(1, place).squeeze(1) + TINY
        self._learner, self._window = learner, window

    @cached_property
    def critic(self) -> Float[Tensor, "L m n1"]:
        """y: the softmax of what the critic's table says."""
        return look(self._learner.critic, self._window.state, self._window.time).softmax(1)


def follow(
    learner: Learner,
    window: Window,
    view: View,
    said: Said,
    alive: Bool[Tensor, "L"] | None,
    optimiser: Optimiser,
    alpha_y: float,
) -> Learner:
    """One step towards the targets, which are constant for the learner; differentiable in both."""
    count, (state, time) = window.count, window.before
    # the slope of log(pi + 1e-8) is pi / (pi + 1e-8) of that of log pi
    weight = said.push * (1 - TINY / view.chosen) / count
    slope = gathered(learner.actor, state, time, weight.unsqueeze(1) * (view.taken - view.policy))
    actor = descend(learner.actor, slope, optimiser.actor, optimiser.clip, alive)
    critic = learner.critic
    if said.wanted is not None:
        y = view.critic[..., :count]
        away = (y + TINY).log() - (said.wanted + TINY).log()
        delta = (alpha_y / count) * y * (away - (y * away).sum(1, keepdim=True))
        slope = gathered(critic, state, time, delta)
        critic = descend(critic, slope, optimiser.critic, optimiser.clip, alive)
    return Learner(actor=actor, critic=critic)


@dataclass(frozen=True)
class Targets(Rule):
    """A rule that states pi-hat and y-hat.

    Args:
        alpha_y: the weight of the critic's part.
    """

    alpha_y: float = field(default=0.5, kw_only=True)

    @abc.abstractmethod
    def targets(
        self,
        weights: Float[Tensor, "R D"],
        window: Window,
        view: View,
        clock: Clock,
    ) -> Said:
        """pi-hat, and y-hat; without the latter the critic stays."""

    def learn(
        self,
        weights: Tensor,
        learner: Learner,
        window: Window,
        clock: Clock,
        keys: Keys,
        optimiser: Optimiser,
    ) -> tuple[Learner, Said]:
        view = View(learner, window)
        said = self.targets(weights, window, view, clock)
        return follow(learner, window, view, said, clock.alive, optimiser, self.alpha_y), said


@dataclass(frozen=True)
class LearnedGradient(Targets):
    """LPG, and where its network is ``timed`` TA-LPG.

    Args:
        net: the architecture.
        raw_time: give it the number of updates and N, as groove does, in place of n / N and log N.
        unit: what N is counted in where its logarithm is seen: ``interactions`` with the world, as the paper
            has it, or ``updates``, whose logarithms are smaller by that of T E.
        attached: let slopes by the weights pass through what the network sees of the learner, which depends
            on earlier updates; groove cuts them there.
    """

    net: LPG = field(default_factory=LPG)
    raw_time: bool = False
    unit: str = "interactions"
    attached: bool = False

    def __post_init__(self) -> None:
        if self.raw_time and not self.net.timed:
            raise ValueError("raw_time: expected a rule that sees the time")
        if self.unit not in UNITS:
            raise ValueError(f"unit: expected {' or '.join(UNITS)}, got {self.unit!r}")

    @property
    def size(self) -> int:
        return self.net.size

    @property
    def categories(self) -> int:
        return self.net.categories

    def draw(self, keys: Keys, dtype: torch.dtype) -> Tensor:
        return self.net.draw(keys, dtype)

    def targets(self, weights: Tensor, window: Window, view: View, clock: Clock) -> Said:
        chosen, critic = view.chosen, view.critic
        if not self.attached:
            chosen, critic = chosen.detach(), critic.detach()
        return self.told(weights, window.reward, window.over, chosen, critic, window.workers, clock)

    def told(
        self,
        weights: Float[Tensor, "R D"],
        reward: Float[Tensor, "L n"],
        over: Float[Tensor, "L n"],
        chosen: Float[Tensor, "L n"],
        critic: Float[Tensor, "L m n1"],
        workers: int,
        clock: Clock,
    ) -> Said:
        """What the network says of transitions, from what it sees of them.

        Args:
            weights: one set a candidate; ``L / R`` learners in a row have each.
            reward: of each transition.
            over: 1 where the episode ended with it.
            chosen: the probability that the action had.
            critic: y before each step, and after the last.
            workers: E, whose steps lie side by side.
            clock: how far the learners are.
        """
        rows, categories = len(reward), self.categories
        lives = rows // len(weights)

        def together(value: Tensor) -> Tensor:
            """``(L, T E)`` as ``(R, T, lives E)``."""
            return value.unflatten(1, (-1, workers)).unflatten(0, (-1, lives)).transpose(1, 2).flatten(2)

        said = critic.transpose(1, 2).unflatten(1, (-1, workers)).unflatten(0, (-1, lives))
        said = said.transpose(1, 2).flatten(2, 3)  # (R, T + 1, lives E, m)
        reward, over, chosen = (together(value) for value in (reward, over, chosen))
        push, wanted = self.net(weights, reward, over, chosen, said, self._time(clock, lives, workers))
        push = push.unflatten(2, (lives, workers)).transpose(1, 2).reshape(rows, -1)
        wanted = wanted.unflatten(2, (lives, workers)).transpose(1, 2).reshape(rows, -1, categories)
        return Said(push=push, wanted=wanted.transpose(1, 2))

    def _time(self, clock: Clock, lives: int, workers: int) -> Float[Tensor, "R n 2"] | None:
        """What the network sees of the time."""
        if not self.net.timed:
            return None
        whole = clock.whole * clock.steps if self.unit == "interactions" else clock.whole
        seen = (clock.share, whole.log())
        both = torch.stack((clock.done, clock.whole) if self.raw_time else seen, -1)
        return both.unsqueeze(1).expand(-1, workers, -1).unflatten(0, (-1, lives)).flatten(1, 2)


@dataclass(frozen=True)
class Reinforce(Targets):
    """REINFORCE: pi-hat is minus the return to the end of the episode or of the window, without a baseline.

    Args:
        gamma: the discount.
    """

    gamma: float = 1.0

    @property
    def size(self) -> int:
        return 0

    def draw(self, keys: Keys, dtype: torch.dtype) -> Tensor:
        return torch.zeros(len(keys), 0, dtype=dtype, device=keys.device)

    def targets(self, weights: Tensor, window: Window, view: View, clock: Clock) -> Said:
        returns: list[Tensor] = []
        total = torch.zeros_like(window.reward[:, : window.workers])
        for reward, over in backwards(window, window.reward, window.over):
            total = reward + self.gamma * (1 - over) * total
            returns.append(total)
        return Said(push=-torch.cat(returns[::-1], 1))


def backwards(window: Window, *values: Float[Tensor, "L n"]) -> Iterator[tuple[Tensor, ...]]:
    """Values by step, ``(L, E)`` each, from the last."""
    return zip(*(value.split(window.workers, 1)[::-1] for value in values), strict=True)
