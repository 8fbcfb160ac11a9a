"""The meta-gradient: what a few updates do for the learners' next steps, by their recorded graph.

Jackson et al. 2024 as in groove. P learners of a point live side by side; one whose life is over is replaced
by a new one on a new level. A query updates all of them K times (the windows are constants), lets the updated
policies take T more steps, and answers

    L = -mean[ log pi_K A ] + mean over the updates of
        [ -0.05 H(pi) + 0.005 mean pi-hat^2 - 0.001 H(y) + 0.001 mean |y-hat|^2 ]

and its gradient by the weights. A is estimated by GAE (0.99, 0.95) from a value function of the learner's
own, which is trained on the windows and on those steps, and normalised. (In the published code that value
function is never trained: its loss does not depend on the parameters that it is differentiated by.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.oracles import value_gradient_and_rest
from optenvs.core.random import ManyKeys, fold_in
from optenvs.core.struct import replace, select, struct
from optenvs.dynamics.grid import Level
from optenvs.dynamics.grid_levels import Levels, log_integer
from optenvs.envs.meta.outer import Judged
from optenvs.models.tabular.drifting import advantages, standardised
from optenvs.models.tabular.rules import Optimiser, Rule, Said
from optenvs.models.tabular.tables import TINY, Window, descend, entropy, gathered, look

from .learner import play
from .life import Life, conceive, grow

GAMMA, TRACE = 0.99, 0.95
POLICY_ENTROPY, PUSH_SQUARE, CRITIC_ENTROPY, TARGET_SQUARE = 0.05, 0.005, 0.001, 0.001
WORST = 100.0
"""What a loss that is no number counts as."""


class Setting(NamedTuple):
    """What all queries share: see :class:`~optenvs.envs.meta.discovery.discovery.Discovery`."""

    rule: Rule
    levels: Levels
    lifetime: tuple[int, int]
    workers: int
    steps: int
    updates: int
    optimiser: Optimiser


@struct
class Learners:
    """Learners under way, one a row.

    Attributes:
        keys: of each, before its number is folded in.
        episode: its number.
        level, life: its own.
        value: the table of its value function.
    """

    keys: ManyKeys
    episode: Int64[Tensor, "*L"]
    level: Level
    life: Life
    value: Float[Tensor, "*L 1 s"]

    @property
    def own(self) -> ManyKeys:
        """The key of each present life."""
        return fold_in(self.keys, self.episode)

    @property
    def over(self) -> Bool[Tensor, "L"]:
        """Whose life is over, or whose numbers have been lost."""
        lost = ~self.life.learner.actor.sum((1, 2)).isfinite()
        return (self.life.done >= self.life.whole) | lost


@struct
class Memory(Judged):
    """What is kept from query to query.

    Attributes:
        learners: of ``oracle="gradient"``, ``(B, P, ...)``.
    """

    learners: Learners | None = None


@struct
class Found:
    """The answer, ``(B,)`` each but for the gradient.

    Attributes:
        value: L, the mean over learners; one that is no number counts as :data:`WORST`.
        gradient: the mean of theirs; one that is no number counts as 0.
        lost: the share of these.
        reward: the mean reward of the steps after the updates.
        push, entropy: of the updates: the mean of abs(pi-hat), and the entropy of the policies.
        learners: where they stand then.
    """

    value: Float[Tensor, "B"]
    gradient: Float[Tensor, "B D"]
    lost: Float[Tensor, "B"]
    reward: Float[Tensor, "B"]
    push: Float[Tensor, "B"]
    entropy: Float[Tensor, "B"]
    learners: Learners


def begin(setting: Setting, keys: ManyKeys, dtype: torch.dtype) -> Learners:
    """The first lives."""
    return _born(setting, keys, torch.zeros_like(keys), dtype)


def _born(setting: Setting, keys: ManyKeys, episode: Tensor, dtype: torch.dtype) -> Learners:
    own = fold_in(keys, episode)
    level = setting.levels.draw(own, dtype)
    whole = log_integer(own, "lifetime", setting.lifetime)
    life = conceive(setting.rule.categories, level, whole, setting.workers)
    value = level.reward.new_zeros(len(own), 1, level.states + 1)
    return Learners(keys=keys, episode=episode, level=level, life=life, value=value)


def renewed(setting: Setting, learners: Learners) -> tuple[Learners, Bool[Tensor, "L"]]:
    """New lives in the place of those that are over, and in which rows."""
    over = learners.over
    fresh = _born(setting, learners.keys, learners.episode + 1, learners.value.dtype)
    return select(over, fresh, learners), over


def ask(setting: Setting, learners: Learners, weights: Float[Tensor, "B D"]) -> Found:
    """The loss of the weights of each instance on its ``L / B`` learners, and the gradient."""
    batch, rows = len(weights), len(learners.keys)
    each = weights.unsqueeze(1).expand(-1, rows // batch, -1).flatten(0, 1)

    def loss(weights: Tensor) -> tuple[Tensor, Any]:
        return _loss(setting, learners, weights)

    value, slopes, (after, reward, push, spread) = value_gradient_and_rest(loss, each)
    known = (slopes.abs() < torch.inf).all(-1) & (value.abs() < torch.inf)
    slopes = torch.where(known.unsqueeze(-1), slopes, 0.0)

    def mean(of: Tensor) -> Tensor:
        return of.unflatten(0, (batch, -1)).mean(1)

    return Found(
        value=mean(torch.where(known, value, WORST)),
        gradient=mean(slopes),
        lost=mean((~known).to(value.dtype)),
        reward=mean(reward),
        push=mean(torch.where(known, push, 0.0)),
        entropy=mean(torch.where(known, spread, 0.0)),
        learners=after,
    )


def _loss(
    setting: Setting, learners: Learners, weights: Float[Tensor, "L D"]
) -> tuple[Float[Tensor, "L"], tuple[Learners, Tensor, Tensor, Tensor]]:
    level, life, value, own = learners.level, learners.life, learners.value, learners.own
    extras, pushes, spreads = [], [], []
    for _ in range(setting.updates):
        life, said, window = grow(setting.rule, weights, level, life, own, setting.steps, setting.optimiser)
        value, _ = _valued(value, window, setting.optimiser)
        extra, spread = _extra(life, said, window)
        extras.append(extra)
        pushes.append(said.push.abs().mean(1))
        spreads.append(spread)
    # the streams of luck of the updates have the counters 0, 1, ...; -1 is that of judgements
    window, workers = play(level, life.learner.actor, life.workers, own, -2 - life.done, setting.steps)
    value, advantage = _valued(value, window, setting.optimiser)
    shares = look(life.learner.actor, *window.before).softmax(1)
    logs = (shares.gather(1, window.action.unsqueeze(1)).squeeze(1) + TINY).log()
    loss = -(logs * standardised(advantage)).mean(1) + torch.stack(extras).mean(0)
    after = replace(learners, life=replace(life, workers=workers), value=value)
    push, spread = torch.stack(pushes).mean(0), torch.stack(spreads).mean(0)
    return loss, (after, window.reward.mean(1), push, spread)


def _extra(life: Life, said: Said, window: Window) -> tuple[Float[Tensor, "L"], Float[Tensor, "L"]]:
    """What is added to the loss for an update, and the policy's entropy."""
    spread = entropy(look(life.learner.actor, *window.before))
    extra = PUSH_SQUARE * said.push.square().mean(1) - POLICY_ENTROPY * spread
    if said.wanted is not None:
        critic = entropy(look(life.learner.critic, *window.before))
        extra = extra - CRITIC_ENTROPY * critic
        extra = extra + TARGET_SQUARE * said.wanted.square().sum(1).mean(1)
    return extra, spread


def _valued(
    table: Float[Tensor, "L 1 s"], window: Window, optimiser: Optimiser
) -> tuple[Float[Tensor, "L 1 s"], Float[Tensor, "L n"]]:
    """The value function after a step on the window, and the advantages by the one before; constants."""
    value = look(table, window.state, window.time).squeeze(1)
    found = advantages(window, value, GAMMA, TRACE)
    # the targets are the values and the advantages: the gradient of the mean square is of the latter
    slope = gathered(table, *window.before, (-2 / window.count) * found.unsqueeze(1))
    return descend(table, slope, optimiser.critic, optimiser.clip), found
