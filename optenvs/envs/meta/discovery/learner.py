"""Learners with tables in grid worlds: how they are born, what they play, and what they earn."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.dynamics import grid
from optenvs.dynamics.grid import ACTIONS, TIME, Level, Workers
from optenvs.models.tabular.tables import Learner, Window, look


def born(level: Level, categories: int) -> Learner:
    """Learners before their first update."""
    like, rows, states = level.reward, len(level.size), level.states + 1
    return Learner(
        actor=like.new_zeros(rows, ACTIONS, states), critic=like.new_zeros(rows, categories, states)
    )


def act(logits: Float[Tensor, "L 5 n"], luck: Float[Tensor, "L n"]) -> Int64[Tensor, "L n"]:
    """The action whose share of [0, 1) holds the luck."""
    shares = logits.softmax(1).cumsum(1)
    # the last share ends at 1 only to rounding
    return (luck.unsqueeze(1) >= shares[:, :-1]).sum(1)


def play(
    level: Level,
    actor: Float[Tensor, "L 5 s"],
    workers: Workers,
    keys: Keys,
    counter: Tensor | int,
    steps: int,
) -> tuple[Window, Workers]:
    """T steps of all workers, who begin again where an episode is over. Carries no gradient to the policy.

    Args:
        level: the levels.
        actor: the policies.
        workers: where they stand.
        keys: of the luck, one a learner.
        counter: of the luck: the update it is for.
        steps: T.
    """
    actor = actor.detach()
    luck = grid.draw_luck(keys, level, steps, workers.cell.shape[1], counter).by_step()
    fresh = grid.begin(level, workers.cell.shape[1])
    states, times, actions, rewards, overs = [], [], [], [], []
    for now in luck:
        states.append(grid.index(level, workers))
        times.append(TIME * workers.time.to(actor.dtype))
        action = act(look(actor, states[-1], times[-1]), now.choice)
        workers, step = grid.step(level, workers, action, now)
        workers = grid.renew(workers, step.over, fresh)
        actions.append(action)
        rewards.append(step.reward)
        overs.append(step.over)
    states.append(grid.index(level, workers))
    times.append(TIME * workers.time.to(actor.dtype))
    state, time, action, reward, over = (
        torch.cat(parts, 1) for parts in (states, times, actions, rewards, overs)
    )
    window = Window(
        state=state,
        time=time,
        action=action,
        reward=reward,
        over=over.to(actor.dtype),
        workers=workers.cell.shape[1],
    )
    return window, workers


def judge(
    level: Level, actor: Float[Tensor, "L 5 s"], keys: Keys, workers: int, steps: int
) -> tuple[Float[Tensor, "L"], Int64[Tensor, "L"]]:
    """The mean undiscounted return of whole episodes, one a worker, and how many steps they took in all.

    Args:
        level: the levels.
        actor: the policies; actions are drawn, not the likeliest.
        keys: of the luck.
        workers: how many.
        steps: of the longest episode that the levels allow.
    """
    everyone = grid.begin(level, workers)
    earned = level.reward.new_zeros(len(keys), workers)
    alive = torch.ones_like(earned, dtype=torch.bool)
    taken = torch.zeros_like(everyone.cell)
    for now in grid.draw_luck(keys, level, steps, workers, -1).by_step():
        logits = look(actor, grid.index(level, everyone), TIME * everyone.time.to(actor.dtype))
        everyone, step = grid.step(level, everyone, act(logits, now.choice), now)
        earned = torch.where(alive, earned + step.reward, earned)
        taken = taken + alive
        alive = alive & ~step.over
    return earned.mean(1), taken.sum(1)
