"""Rules with a drift: LPO, DPO, PPO, and A2C without one.

They estimate advantages by GAE, and descend in some passes over minibatches, A being normalised in each, on

    -mean( rho A - drift(rho, A) ) + c mean (v - target)^2 / 2 - entropy bonus

The gradient by the logits is written out: (drift' - A) rho (onehot - pi), and that of the entropy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys, bits
from optenvs.core.struct import struct
from optenvs.models.drift import Drift, Free

from .rules import Clock, Optimiser, Rule, Said, backwards
from .tables import TINY, Learner, Rate, Window, descend, gathered, look


@dataclass(frozen=True, eq=False)
class Drifting(Rule):
    """A rule with a drift.

    Args:
        drift: what is taken off.
        epochs: passes over a window.
        minibatches: that a pass is cut into.
        gamma, trace: of the advantages.
        entropy: the weight of the bonus: a number, or one a learner.
        value: the weight of the critic's part.
        anneal: the share of the bonus that is gone at the end of a life, linearly.
    """

    drift: Drift = field(default_factory=Free)
    epochs: int = 4
    minibatches: int = 1
    gamma: float = 0.99
    trace: float = 0.95
    entropy: Rate = 0.01
    value: float = 0.5
    anneal: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")

    @property
    def size(self) -> int:
        return self.drift.size

    def draw(self, keys: Keys, dtype: torch.dtype) -> Tensor:
        return self.drift.draw(keys, dtype)

    def learn(
        self,
        weights: Tensor,
        learner: Learner,
        window: Window,
        clock: Clock,
        keys: Keys,
        optimiser: Optimiser,
    ) -> tuple[Learner, Said]:
        samples = _Samples.of(self, learner, window)
        if window.count % self.minibatches:
            raise ValueError(f"minibatches: {window.count} transitions cannot be cut into {self.minibatches}")
        for epoch in range(self.epochs):
            parts = [samples]
            if self.minibatches > 1:
                words = bits(keys, f"grid minibatches {epoch}", window.count, clock.done.long())
                pieces = words.argsort(-1).split(window.count // self.minibatches, 1)
                parts = [samples.chosen(piece) for piece in pieces]
            for part in parts:
                learner = self._pass(weights, learner, part, clock, optimiser)
        return learner, Said(push=-samples.advantage)

    def _pass(
        self, weights: Tensor, learner: Learner, part: _Samples, clock: Clock, optimiser: Optimiser
    ) -> Learner:
        count = part.action.shape[1]
        logs = look(learner.actor, part.state, part.time).log_softmax(1)
        policy, place = logs.exp(), part.action.unsqueeze(1)
        ratio = (logs.gather(1, place).squeeze(1) - part.before).exp()
        advantage = standardised(part.advantage)
        slope = self._slope(weights, ratio, advantage, clock)
        taken = torch.zeros_like(policy).scatter(1, place, 1.0)
        delta = ((slope - advantage) * ratio).unsqueeze(1) * (taken - policy)
        spread = -(policy * logs).sum(1, keepdim=True)
        bonus = self.entropy * (1 - self.anneal * clock.share)
        delta = delta + bonus[:, None, None] * policy * (logs + spread)
        value = look(learner.critic, part.state, part.time)
        error = (self.value / count) * (value - part.target.unsqueeze(1))
        actor = gathered(learner.actor, part.state, part.time, delta / count)
        critic = gathered(learner.critic, part.state, part.time, error)
        return Learner(
            actor=descend(learner.actor, actor, optimiser.actor, optimiser.clip, clock.alive),
            critic=descend(learner.critic, critic, optimiser.critic, optimiser.clip, clock.alive),
        )

    def _slope(self, weights: Tensor, ratio: Tensor, advantage: Tensor, clock: Clock) -> Tensor:
        """That of the drift by the ratio."""
        given = [ratio, advantage]
        if self.drift.timed:
            given.append(clock.share.unsqueeze(1).expand_as(ratio))
        _, slope = self.drift(weights, *(value.reshape(len(weights), -1) for value in given))
        return slope.reshape(ratio.shape)


def standardised(value: Float[Tensor, "L n"]) -> Float[Tensor, "L n"]:
    """With mean 0 and standard deviation 1."""
    centred = value - value.mean(1, keepdim=True)
    square = centred.square().mean(1, keepdim=True)
    return centred / (torch.where(square > 0, square, 1.0).sqrt() + TINY)


def advantages(
    window: Window, value: Float[Tensor, "L n1"], gamma: float, trace: float
) -> Float[Tensor, "L n"]:
    """Generalised advantage estimates (Schulman et al. 2016)."""
    goes_on = 1 - window.over
    now, later = value[:, : window.count], value[:, window.workers :]
    surprise = window.reward + gamma * goes_on * later - now
    found: list[Tensor] = []
    after = torch.zeros_like(now[:, : window.workers])
    for more, on in backwards(window, surprise, goes_on):
        after = more + gamma * trace * on * after
        found.append(after)
    return torch.cat(found[::-1], 1)


@struct
class _Samples:
    """Transitions, with the logarithm of the probability that their action had."""

    state: Int64[Tensor, "L n"]
    time: Float[Tensor, "L n"]
    action: Int64[Tensor, "L n"]
    before: Float[Tensor, "L n"]
    advantage: Float[Tensor, "L n"]
    target: Float[Tensor, "L n"]

    @classmethod
    def of(cls, rule: Drifting, learner: Learner, window: Window) -> _Samples:
        state, time = window.before
        logs = look(learner.actor, state, time).log_softmax(1)
        value = look(learner.critic, window.state, window.time).squeeze(1).detach()
        found = advantages(window, value, rule.gamma, rule.trace)
        return cls(
            state=state,
            time=time,
            action=window.action,
            before=logs.gather(1, window.action.unsqueeze(1)).squeeze(1).detach(),
            advantage=found,
            target=found + value[:, : window.count],
        )

    def chosen(self, index: Int64[Tensor, "L m"]) -> _Samples:
        return _Samples(**{name: part.gather(1, index) for name, part in vars(self).items()})
