"""Episodes of a simulated task: what a policy sees, does and earns, for any batch of episodes at once.

A policy is a function ``act(seen, draws) -> action`` of what it sees, ``(*n, s)``, and of its own random
numbers of that step, so that it may be stochastic and still a pure function; ``*n`` are the episodes, for
example instances, policies and repetitions. All luck is drawn before: two policies can meet the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.oracles import inside_transform
from optenvs.core.struct import struct

from .tasks import States, Task

Act = Callable[[Tensor, Tensor | None], Tensor]


@struct
class Draws:
    """The luck of episodes.

    Attributes:
        start: where each begins, in units of the task's box of starts, ``(*n, c)``.
        pushes: what is added to the action of each step by the world, ``(*n, T)``; ``None`` for nothing.
        policy: the policy's own random numbers of each step, ``(*n, T, ...)``; ``None`` for none. Leading
            dimensions may be 1: then episodes share them.
    """

    start: Float[Tensor, "*n c"]
    pushes: Float[Tensor, "*m T"] | None = None
    policy: Tensor | None = None


@struct
class Episode:
    """Episodes of at most ``T`` steps.

    Attributes:
        states: what the policy saw before each step, and after the last, ``(*n, T + 1, s)``; after its end an
            episode stays where it ended.
        actions: what it did, before the task cut it to its limit; 0 after the end, ``(*n, T)``.
        rewards: 0 after the end, ``(*n, T)``.
        mask: whether the step was part of the episode, ``(*n, T)``.
    """

    states: Float[Tensor, "*n T1 s"]
    actions: Float[Tensor, "*n T"]
    rewards: Float[Tensor, "*n T"]
    mask: Bool[Tensor, "*n T"]

    @property
    def returns(self) -> Float[Tensor, "*n"]:
        """The sum of each episode's rewards."""
        return self.rewards.sum(-1)


def episodes(task: Task, act: Act, draws: Draws, length: int) -> Episode:
    """Play them; differentiable where the task's dynamics are.

    Args:
        task: the task.
        act: the policy; actions beyond the task's limit are cut to it.
        draws: the luck of each episode.
        length: T, steps of an episode at most.

    Raises:
        ValueError: ``length`` is less than 1, or draws have another form than the task and it ask for.
    """
    state, goes_on = _begin(task, draws, length)
    seen, actions, rewards, mask = [task.observe(state)], [], [], []
    for t in range(length):
        action, after, reward, over = _step(task, act, draws, t, state, seen[-1])
        state = tuple(torch.where(goes_on, new, old) for new, old in zip(after, state, strict=True))
        actions.append(torch.where(goes_on, action, 0))
        rewards.append(torch.where(goes_on, reward, 0))
        mask.append(goes_on)
        seen.append(task.observe(state))
        goes_on = goes_on & ~over
        if _all_over(goes_on):
            rest = length - 1 - t
            seen += rest * seen[-1:]
            for record in (actions, rewards, mask):
                record += rest * [torch.zeros_like(record[-1])]
            break
    return Episode(
        states=torch.stack(seen, -2),
        actions=torch.stack(actions, -1),
        rewards=torch.stack(rewards, -1),
        mask=torch.stack(mask, -1),
    )


def returns(task: Task, act: Act, draws: Draws, length: int) -> Float[Tensor, "*n"]:
    """The sum of each episode's rewards, without a record of the rest; see :func:`episodes`."""
    state, goes_on = _begin(task, draws, length)
    total = torch.zeros_like(state[0])
    for t in range(length):
        _, state, reward, over = _step(task, act, draws, t, state, task.observe(state))
        total = torch.where(goes_on, total + reward, total)
        goes_on = goes_on & ~over
        if _all_over(goes_on):
            break
    return total


def _all_over(goes_on: Bool[Tensor, "*n"]) -> bool:
    """Whether no episode goes on, where the host may look: the rest would be repetitions."""
    return goes_on.device.type == "cpu" and not inside_transform(goes_on) and not bool(goes_on.any())


def _begin(task: Task, draws: Draws, length: int) -> tuple[States, Bool[Tensor, "*n"]]:
    """The states in which episodes begin, and that all of them go on."""
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"length: expected a whole number >= 1, got {length!r}")
    shape, coordinates = draws.start.shape[:-1], len(task.start)
    if draws.start.shape[-1] != coordinates:
        raise ValueError(f"start: expected {coordinates} coordinates, got {tuple(draws.start.shape)}")
    for name in ("pushes", "policy"):
        given = getattr(draws, name)
        if given is not None and (given.ndim <= len(shape) or given.shape[len(shape)] < length):
            raise ValueError(f"{name}: expected {(*shape, length)}, or more steps, got {tuple(given.shape)}")
    state = tuple(low + (high - low) * draws.start[..., i] for i, (low, high) in enumerate(task.start))
    return state, torch.ones(shape, dtype=torch.bool, device=draws.start.device)


def _step(
    task: Task, act: Act, draws: Draws, t: int, state: States, seen: Tensor
) -> tuple[Tensor, States, Tensor, Tensor]:
    """The action of step ``t``, the next state, the reward, and whether that was the end."""
    time = len(draws.start.shape) - 1
    luck = None if draws.policy is None else draws.policy.select(time, t)
    push = 0.0 if draws.pushes is None else draws.pushes[..., t]
    action = act(seen, luck)
    return action, *task.step(state, action.clamp(-task.limit, task.limit), push)
