"""What a policy earns in a grid world, exactly, and the most that any can: by dynamic programming.

    V_t(cell, there) = max_a [ r + (1 - p) sum over there' of P(there' | there, hit) V_t+1(cell', there') ]

with V = 0 at ``max_steps``, objects that return independently of each other, and p the probability of an end.
What is hit depends on the cell that is reached and on what is there alone, so that one sweep over
C 2^K states serves all actions. Levels whose objects roam have more states than that, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .grid import ACTIONS, TIME, Level

NOT_SOLVABLE = 1e-6
"""An optimum below this is that of a level on which nothing can be earned."""


class Model:
    """What the sweeps of some levels have in common.

    Raises:
        ValueError: objects of the levels roam.
    """

    def __init__(self, level: Level) -> None:
        if level.arrival is None:
            raise ValueError("level: expected one whose objects have fixed cells, these roam")
        self.level = level
        rows, room, masks = len(level.size), level.room, 1 << level.slots
        self.shape = rows, masks, room
        self.reward = level.arrival.reward.view(self.shape)
        self.goes_on = 1 - level.arrival.ends.view(self.shape)
        cell = torch.arange(room, device=level.size.device)
        self._at = level.cells.unsqueeze(2) == cell  # (L, K, C)
        # the cells that an action leads to, for all masks: (L, M, C * 5)
        self._target = level.target.unsqueeze(1).expand(-1, masks, -1)

    def arrival(self, value: Float[Tensor, "L M C"]) -> Float[Tensor, "L M C"]:
        """What it is worth to reach a cell while these objects are there, ``value`` being that of later."""
        rows, _, room = self.shape
        later = value
        for i in range(self.level.slots):
            absent, there = later.reshape(rows, -1, 2, 1 << i, room).unbind(2)
            returns = torch.lerp(absent, there, self.level.p_respawn[:, i].reshape(-1, 1, 1, 1))
            stays = torch.where(self._at[:, i, None, None], absent, there)
            later = torch.stack((returns, stays), 2)
        return self.reward + self.goes_on * later.reshape(self.shape)

    def actions(self, worth: Float[Tensor, "L M C"]) -> Float[Tensor, "L M C 5"]:
        """What each action is worth where arrivals are worth this."""
        return worth.gather(2, self._target).unflatten(2, (self.shape[2], ACTIONS))

    def first(self, value: Float[Tensor, "L M C"]) -> Float[Tensor, "L"]:
        """That of the start: all objects that are used are there."""
        place = self.level.start + self.level.everything * self.shape[2]
        return value.flatten(1).gather(1, place.unsqueeze(1)).squeeze(1)


def _sweep(
    level: Level, steps: int, choose: Callable[[Model, Tensor, Tensor], Tensor]
) -> tuple[Model, Float[Tensor, "L M C"]]:
    """The value with all steps left; ``choose(model, actions, time)``: of states, of those of actions."""
    model = Model(level)
    value = torch.zeros_like(model.reward)
    for left in range(1, steps + 1):
        alive = (left <= level.max_steps)[:, None, None]
        time = (level.max_steps - left).clamp_min(0)
        chosen = choose(model, model.actions(model.arrival(value)), time)
        value = torch.where(alive, chosen, value)
    return model, value


def optimum(level: Level, steps: int) -> Float[Tensor, "L"]:
    """The greatest expected return of an episode.

    Args:
        level: the levels.
        steps: of the longest episode among them (:attr:`~optenvs.dynamics.grid_levels.Levels.longest`).
    """
    model, value = _sweep(level, steps, lambda model, actions, time: actions.amax(3))
    return model.first(value)


def best_policy(level: Level, steps: int) -> Int64[Tensor, "L T M C"]:
    """The best action by time, objects there (bit by bit) and cell; 0 where the episode is over by then."""
    chosen: list[Tensor] = []

    def choose(model: Model, actions: Tensor, time: Tensor) -> Tensor:
        value, index = actions.max(3)
        chosen.append(index)
        return value

    _sweep(level, steps, choose)
    by_left = torch.stack(chosen, 1)  # (L, T, M, C), the last step first
    time = torch.arange(steps, device=level.size.device)
    left = level.max_steps.unsqueeze(1) - 1 - time
    place = left.clamp_min(0)[:, :, None, None].expand_as(by_left)
    return torch.where((left >= 0)[:, :, None, None], by_left.gather(1, place), 0)


def policy_value(level: Level, table: Float[Tensor, "L 5 s"], steps: int) -> Float[Tensor, "L"]:
    """The expected return of the policy whose logits are ``table``, the time's column last.

    Differentiable in the table.
    """
    shape = (len(level.size), ACTIONS, 1 << level.slots, level.room)
    logits = table[:, :, :-1].reshape(shape)
    drift = TIME * table[:, :, -1].reshape(-1, ACTIONS, 1, 1)

    def choose(model: Model, actions: Tensor, time: Tensor) -> Tensor:
        shares = (logits + drift * time.reshape(-1, 1, 1, 1)).softmax(1)
        return (shares * actions.movedim(3, 1)).sum(1)

    model, value = _sweep(level, steps, choose)
    return model.first(value)


def normalised(value: Float[Tensor, "L"], best: Float[Tensor, "L"]) -> Float[Tensor, "L"]:
    """The share of the optimum; where there is nothing to earn 1 and what was earned, so 1 for no loss."""
    solvable = best > NOT_SOLVABLE
    return torch.where(solvable, value / torch.where(solvable, best, 1.0), 1 + value)
