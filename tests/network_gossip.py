"""A small method for the tests: gradient steps, and means of two neighbours' iterates."""

from __future__ import annotations

import torch
from torch import Tensor

from optenvs.core.env import State
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import select
from optenvs.envs.network.base import Network


def act(core: Network, x: Tensor) -> dict[str, Tensor]:
    """All iterates as queries, messages and recommendations; in rounds all nodes compute and send."""
    message = x.unsqueeze(2).repeat(1, 1, core.traffic.channels, 1)
    action = {"query": x, "message": message, "recommendation": x}
    if core.clock == "rounds":
        ones = torch.ones_like(x[..., :1], dtype=torch.int64)
        action |= {"compute": ones, "send": ones}
    return action


def moved(x: Tensor, observation: dict[str, Tensor]) -> Tensor:
    """The iterates after an answer. The order of gradients and exchanges matters: both are non-linear."""
    if "answered" not in observation:
        return torch.sin(observation["mixed"][:, :, 0]) - 0.1 * observation["gradient"]
    answered = observation["answered"]
    descended = torch.sin(x - 0.2 * observation["gradient"])
    averaged = torch.cos(x) / 2 + observation["message"][:, :, 0] / 2
    return torch.where(answered == 1, descended, torch.where(answered == 2, averaged, x))


def episode(core: Network, batch: int = 3, seed: int = 0) -> tuple[list[State], Tensor]:
    """All states until everyone's time is up, and the last iterates. A finished row stays as it is."""
    keys = keys_from_seed(seed, batch)
    x = core.sample(keys).start["recommendation"]  # type: ignore[index]
    states = [core.reset(keys)]
    while not states[-1].done.all():
        assert len(states) < 20_000, "the episode does not end"
        state = states[-1]
        action = act(core, x)
        following = core.step(state, action)
        x = torch.where(state.done[:, None, None], x, moved(x, following.observation))
        states.append(select(state.done, state, following))
    return states, x
