"""Learners whose policy and critic are tables: one column a state, and one for the time.

A policy's logits in state s at time t are W[:, s] + 0.001 t W[:, last], and so are the critic's: a linear
network without bias on the tabular observation, whose dense unit vectors are never made. Gradients by the
logits are written out, so that a population needs no graph; all of it is differentiable nonetheless. Tables
are zero at birth. Optimiser: gradients are clipped to a norm, of policy and critic apart, and then multiplied
by a rate.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import static, struct
from optenvs.dynamics import grid
from optenvs.dynamics.grid import ACTIONS, TIME, Level, Workers

TINY = 1e-8
"""What groove adds to a probability."""

Rate = float | Float[Tensor, "L"]


@struct
class Learner:
    """Tables of L learners, C 2^K + 1 columns each (states last: sums over a few outputs are fast that way).

    Attributes:
        actor: of the policy.
        critic: of m categories, or of one value.
    """

    actor: Float[Tensor, "*L 5 s"]
    critic: Float[Tensor, "*L m s"]


@struct
class Window:
    """What the E workers of a learner met in T steps, side by side: place ``t * E + e`` is worker e's step t.

    Attributes:
        state: the state's number before each step, and then that after the last, ``(L, (T + 1) E)``.
        time: 0.001 times the time, likewise.
        action: of each step, ``(L, T E)``.
        reward: of each step.
        over: 1 where the episode ended with the step, else 0; the next state is then of the next episode.
        workers: E.
    """

    state: Int64[Tensor, "L n1"]
    time: Float[Tensor, "L n1"]
    action: Int64[Tensor, "L n"]
    reward: Float[Tensor, "L n"]
    over: Float[Tensor, "L n"]
    workers: int = static()

    @property
    def count(self) -> int:
        """T E."""
        return self.action.shape[1]

    @property
    def before(self) -> tuple[Int64[Tensor, "L n"], Float[Tensor, "L n"]]:
        """State and time before each step."""
        return self.state[:, : self.count], self.time[:, : self.count]


def born(level: Level, categories: int) -> Learner:
    """Learners before their first update."""
    like, rows, states = level.reward, len(level.size), level.states + 1
    return Learner(
        actor=like.new_zeros(rows, ACTIONS, states), critic=like.new_zeros(rows, categories, states)
    )


def look(
    table: Float[Tensor, "L o s"], state: Int64[Tensor, "L n"], time: Float[Tensor, "L n"]
) -> Float[Tensor, "L o n"]:
    """What the table says in these states at these times."""
    found = table.gather(2, state.unsqueeze(1).expand(-1, table.shape[1], -1))
    return torch.addcmul(found, table[:, :, -1:], time.unsqueeze(1))


def gathered(
    table: Float[Tensor, "L o s"],
    state: Int64[Tensor, "L n"],
    time: Float[Tensor, "L n"],
    delta: Float[Tensor, "L o n"],
) -> Float[Tensor, "L o s"]:
    """The gradient by the table, where ``delta`` is that by what it said."""
    place = state.unsqueeze(1).expand_as(delta)
    slopes = torch.zeros_like(table[:, :, :-1]).scatter_add(2, place, delta)
    return torch.cat((slopes, (delta * time.unsqueeze(1)).sum(2, keepdim=True)), 2)


def descend(
    table: Float[Tensor, "L o s"],
    slope: Float[Tensor, "L o s"],
    rate: Rate,
    clip: float,
    alive: Bool[Tensor, "L"] | None = None,
) -> Float[Tensor, "L o s"]:
    """A step of gradient descent: the gradient is clipped to a norm, then multiplied by the rate.

    Who is not ``alive`` stays.
    """
    # a norm has no slope at 0
    square = slope.square().sum((1, 2))
    norm = torch.where(square > 0, square, 1.0).sqrt()
    factor = torch.where(norm > clip, clip / norm, 1.0) * rate
    moved = table - factor[:, None, None] * slope
    return moved if alive is None else torch.where(alive[:, None, None], moved, table)


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


def entropy(logits: Float[Tensor, "L o n"]) -> Float[Tensor, "L"]:
    """The mean entropy of the distributions, in nats."""
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean(1)
