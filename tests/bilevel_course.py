"""Thousands of queries of a problem of two levels in a short time: answers without bill and metrics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optenvs.core.menu import ANSWERED, WANT, Query
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.envs.bilevel.base import Bilevel


@torch.no_grad()
def course(env: Bilevel, agent: Any, steps: int, batch: int = 1) -> Any:
    """The agent's memory after so many queries, on the instances of a rollout of seed 0."""
    keys = keys_from_seed(0, batch)
    state = env.reset(keys)
    seen: dict[str, Tensor] = dict(state.observation)
    memory = agent.init(state.problem, seen, agent_keys(keys))
    for _ in range(steps + 1):  # the last answer is read by the next act
        action, memory = agent.act(memory, seen)
        query = Query({name: action[name] for name in env.card.places})
        wanted = action[WANT].any(0).tolist()
        query.kinds = frozenset(kind for kind, some in zip(env.card.kinds, wanted, strict=True) if some)
        answers = {kind: env.card.kinds[kind].fn(state, query) for kind in query.kinds}
        seen = seen | query.places | answers | {ANSWERED: action[WANT]}
    return memory
