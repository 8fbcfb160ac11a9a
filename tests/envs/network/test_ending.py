"""The end of an asynchronous episode."""

from __future__ import annotations

import torch

import agents
from optenvs.core.random import keys_from_seed
from optenvs.envs.network.quadratic import NetworkQuadratic


def test_an_episode_that_is_over_stays_over() -> None:
    """Rows end at different steps; those that are over are asked on, and nothing happens in them."""
    env = NetworkQuadratic(nodes=4, t_max=3.0)
    keys = keys_from_seed(0, 8)
    state, agent = env.reset(keys), agents.make("dadao")
    memory = agent.init(state.problem, state.observation, keys)
    ended_at = torch.zeros(8, dtype=torch.int64)
    while not bool(state.done.all()):
        before = state
        action, memory = agent.act(memory, state.observation)
        state = env.step(state, action)
        assert not (before.done & ~state.done).any()
        still = before.done
        assert torch.equal(state.calls.counts[still], before.calls.counts[still])
        assert torch.equal(state.merit[still], before.merit[still])
        assert not state.observation["event"][still].any()
        ended_at += ~state.done
    assert len(set(ended_at.tolist())) > 1
    assert (state.metrics["time"] == env.t_max).all()
