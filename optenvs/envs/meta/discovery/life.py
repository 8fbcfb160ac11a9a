"""Lives of learners: born on a level, updated N times by a rule, then judged by what they have become."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.oracles import inside_transform
from optenvs.core.random import Keys
from optenvs.core.struct import replace, rows, select, struct, tree_map
from optenvs.dynamics import grid
from optenvs.dynamics.grid import Level, Workers
from optenvs.models.tabular.rules import Clock, Optimiser, Rule, Said
from optenvs.models.tabular.tables import Learner, Window, entropy, look

from .learner import born, judge, play

_SHARE = 0.8
"""Of a batch eagerly on the CPU: when no more than these go on, the others leave it."""


@struct
class Life:
    """Lives under way, one a row.

    Attributes:
        learner: its tables.
        workers: where its workers stand.
        done: updates so far, ``(L,)``.
        whole: N.
    """

    learner: Learner
    workers: Workers
    done: Int64[Tensor, "*L"]
    whole: Int64[Tensor, "*L"]


def conceive(categories: int, level: Level, whole: Int64[Tensor, "L"], workers: int) -> Life:
    """Lives of N = ``whole`` updates at their beginning; ``categories`` are outputs of the critic."""
    return Life(
        learner=born(level, categories),
        workers=grid.begin(level, workers),
        done=torch.zeros_like(whole),
        whole=whole,
    )


def clock(life: Life, steps: int) -> Clock:
    """How far they have come; an update takes ``steps`` of each worker."""
    like = life.learner.actor
    done, whole = life.done.to(like.dtype), life.whole.to(like.dtype)
    each = torch.full_like(whole, steps * life.workers.cell.shape[1])
    return Clock(done=done, whole=whole, steps=each, alive=life.done < life.whole)


def grow(
    rule: Rule,
    weights: Float[Tensor, "R D"],
    level: Level,
    life: Life,
    keys: Keys,
    steps: int,
    optimiser: Optimiser,
) -> tuple[Life, Said, Window]:
    """One update of all lives but those at their end; what the rule said, and the window it was said of."""
    window, workers = play(level, life.learner.actor, life.workers, keys, life.done, steps)
    now = clock(life, steps)
    learner, said = rule.learn(weights, life.learner, window, now, keys, optimiser)
    return replace(life, learner=learner, workers=workers, done=life.done + now.alive), said, window


@struct
class Outcome:
    """What became of lives, ``(L,)`` each.

    Attributes:
        fitness: the mean return of the final policy's episodes; of a learner whose numbers have been lost,
            less than any return.
        steps: environment steps of the whole life and of the judgement.
        broken: whether the learner's numbers have been lost.
        push: the mean of abs(pi-hat) in the last update, or abs(A).
        entropy: of the final policy in the states of the last window.
        learner: at the end.
    """

    fitness: Float[Tensor, "L"]
    steps: Int64[Tensor, "L"]
    broken: Bool[Tensor, "L"]
    push: Float[Tensor, "L"]
    entropy: Float[Tensor, "L"]
    learner: Learner


@struct
class _Cohort:
    """Lives that go on, with all that is theirs.

    Attributes:
        weights: of each life's rule, ``(L, D)``, or of candidates.
        level, keys, life: of each.
        push, met: of its last update: the mean of abs(pi-hat), states and times.
    """

    weights: Float[Tensor, "R D"]
    level: Level
    keys: Keys
    life: Life
    push: Float[Tensor, "L"]
    met: tuple[Tensor, Tensor]


def live(
    rule: Rule,
    weights: Float[Tensor, "R D"],
    level: Level,
    whole: Int64[Tensor, "L"],
    keys: Keys,
    *,
    workers: int,
    steps: int,
    most: int,
    longest: int,
    optimiser: Optimiser,
) -> Outcome:
    """Whole lives, and their final policies judged by fresh episodes.

    Eagerly on the CPU those whose life is over leave the batch; elsewhere, where looking would wait or is
    refused, they are masked.

    Args:
        rule: the rule.
        weights: one set a candidate; ``L / R`` lives in a row have each.
        level: of each life.
        whole: N of each; updates beyond are masked.
        keys: of the luck of each.
        workers: E.
        steps: T of an update.
        most: the greatest N that there may be.
        longest: steps of the longest episode that there may be.
        optimiser: of the learners; its rates are numbers.
    """
    life = conceive(rule.categories, level, whole, workers)
    nothing = torch.zeros_like(level.reward[:, 0])
    met = torch.zeros(len(whole), steps * workers, dtype=torch.int64, device=whole.device)
    cohort = _Cohort(weights, level, keys, life, nothing, (met, met.to(nothing.dtype)))
    looks = whole.device.type == "cpu" and not inside_transform(whole)
    gone: list[_Cohort] = []
    left: list[Tensor] = []
    number = torch.arange(len(whole), device=whole.device)
    for _ in range(most):
        if looks:
            alive = cohort.life.done < cohort.life.whole
            count = int(alive.sum())
            if count == 0:
                break
            if count <= _SHARE * len(alive):
                own = _apart(cohort)
                gone.append(rows(own, ~alive))
                left.append(number[~alive])
                cohort, number = rows(own, alive), number[alive]
        cohort = _older(cohort, rule, steps, optimiser)
    if gone:
        order = torch.cat([*left, number]).argsort()
        cohort = tree_map(lambda *parts: torch.cat(parts)[order], *gone, _apart(cohort))
    return _judged(cohort, workers, steps, longest)


def _apart(cohort: _Cohort) -> _Cohort:
    """With weights for each life by itself."""
    weights, lives = cohort.weights, len(cohort.keys)
    if len(weights) == lives:
        return cohort
    return replace(cohort, weights=weights.repeat_interleave(lives // len(weights), 0))


def _older(cohort: _Cohort, rule: Rule, steps: int, optimiser: Optimiser) -> _Cohort:
    """All by one update."""
    now = cohort.life
    life, said, window = grow(rule, cohort.weights, cohort.level, now, cohort.keys, steps, optimiser)
    latest = said.push.abs().mean(1), window.before
    push, met = select(life.done > now.done, latest, (cohort.push, cohort.met))
    return replace(cohort, life=life, push=push, met=met)


def _judged(cohort: _Cohort, workers: int, steps: int, longest: int) -> Outcome:
    learner = cohort.life.learner
    earned, taken = judge(cohort.level, learner.actor, cohort.keys, workers, longest)
    broken = ~learner.actor.sum((1, 2)).isfinite()
    spread = entropy(look(learner.actor, *cohort.met))
    return Outcome(
        fitness=torch.where(broken, cohort.level.worst - 1, earned),
        steps=cohort.life.whole * (steps * workers) + taken,
        broken=broken,
        push=torch.where(broken, 0.0, cohort.push),
        entropy=torch.where(broken, 0.0, spread),
        learner=learner,
    )
