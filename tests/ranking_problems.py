"""Small problems of orders, and what an agent asks of them."""

from __future__ import annotations

from typing import Any

import optenvs
from optenvs.core.env import OptimizationEnv, State
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys

KEYS = keys_from_seed(0, 4)


def ranking(**keywords: Any) -> OptimizationEnv:
    quadratic = {"objective": "Quadratic", "dim": 3, "condition": 2.0, "tolerance": None, "budget": None}
    return optenvs.make("Ranking", **(quadratic | {"dtype": "float64"} | keywords))


def talk(env: OptimizationEnv, agent: Any, steps: int) -> tuple[list[Any], list[State], list[Any]]:
    """Queries, the states that answer them, and the agent's memories; the first is that before any."""
    state = env.reset(KEYS)
    memory = agent.init(state.problem, state.observation, agent_keys(KEYS))
    queries, states, memories = [], [state], [memory]
    for _ in range(steps):
        query, memory = agent.act(memory, state.observation)
        state = env.step(state, query)
        queries.append(query)
        states.append(state)
        memories.append(memory)
    return queries, states, memories
