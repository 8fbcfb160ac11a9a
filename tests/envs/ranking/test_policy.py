"""Policies: a query's policies meet one episode, tasks of the host."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core.random import bits, keys_from_seed, normal
from optenvs.dynamics.host import HostTask
from optenvs.envs.ranking.policy import RankingPolicy


def ranked(**keywords: Any) -> RankingPolicy:
    made = optenvs.make("RankingPolicy", **keywords)
    assert isinstance(made, RankingPolicy)
    return made


@pytest.mark.parametrize("task", ["cartpole", "pendulum"])
def test_all_policies_of_a_query_meet_one_episode(task: str) -> None:
    env = ranked(task=task, disturbance=0.2, episode_length=30, shown=4)
    state = env.reset(keys_from_seed(0, 6))
    policy = normal(state.key, "w", env.size).unsqueeze(1)
    same = env.values(state, policy.expand(-1, 4, -1))
    assert torch.equal(same, same[:, :1].expand(-1, 4)), "one policy is luckier than its copies"
    again = env.values(state, policy.expand(-1, 4, -1))
    assert torch.equal(same, again)
    if task == "pendulum":  # another query and another instance are other episodes
        later = env.step(state, env.first_query(policy.squeeze(1)))
        assert (env.values(later, policy) != same[:, :1]).all()
        assert len(same[:, 0].unique()) == 6


def test_merit_is_of_episodes_that_never_change() -> None:
    env = ranked(task="pendulum", episode_length=20, shown=3)
    states = [env.reset(keys_from_seed(0, 2))]
    action = env.first_query(states[0].observation["point"][:, 0])
    for _ in range(2):
        states.append(env.step(states[-1], action))
    assert torch.equal(states[1].merit, states[0].merit)
    assert torch.equal(states[2].metrics["return"], -states[0].merit)
    assert not torch.equal(states[1].metrics["best_shown"], states[0].metrics["best_shown"])


def test_a_few_rankings_balance_the_pole() -> None:
    env = ranked(task="cartpole", episode_length=100, budget=None)
    run = optenvs.rollout(env, agents.ZORankSGD(mu=0.5), batch=8, steps=20)
    before, after = run.metrics["return"][0].median(), run.metrics["return"][-1].median()
    assert before < 60
    assert after == 100
    assert (run.metrics["gap"][-1] >= 0).all()
    solved = ranked(episode_length=100, tolerance=0.0, budget=None)
    assert optenvs.rollout(solved, agents.ZORankSGD(mu=0.5), batch=8, steps=30).state.terminated.any()


def test_a_task_of_the_host_is_gymnasiums() -> None:
    env = ranked(
        task="MountainCarContinuous-v0", episode_length=15, shown=3, episodes=2,
        dtype="float64", test_episodes=1,
    )  # fmt: skip
    assert env.size == 2
    assert not env.vectorizable
    keys = keys_from_seed(0, 2)
    state = env.reset(keys)
    policies = 20 * normal(keys, "w", (3, 2), dtype=torch.float64)
    found = env.values(state, policies)
    seeds = bits(keys, "episode", 2, state.k) & (2**31 - 1)
    single = gym.make("MountainCarContinuous-v0")
    for b in range(2):
        for m in range(3):
            total = 0.0
            for seed in seeds[b].tolist():
                seen, _ = single.reset(seed=seed)
                for _ in range(15):
                    action = np.clip(policies[b, m].numpy() @ seen, -1, 1).astype(np.float32)
                    seen, reward, over, _, _ = single.step(action[None])
                    total += float(reward)
                    assert not over
            assert float(found[b, m]) == pytest.approx(-total / 2, abs=1e-9)
    assert torch.equal(env.values(state, policies), found)


def test_an_episode_of_the_host_ends_where_the_task_ends() -> None:
    # full throttle along the speed climbs the hill before 200 steps, and then earns 100 once
    task = HostTask("MountainCarContinuous-v0")
    climbing = torch.tensor([[[[0.0, 1000.0]], [[0.0, 0.0]]]], dtype=torch.float64)
    found = task.returns(climbing, torch.tensor([[5]]), 400)[0]
    assert 80 < float(found[0]) < 100
    assert float(found[1]) == 0


@pytest.mark.parametrize(
    ("error", "message", "keywords"),
    [
        (ValueError, "task: expected cartpole, pendulum or a Gymnasium id, got 'pole'", {"task": "pole"}),
        (ValueError, "task: CartPole-v1 has the action space Discrete", {"task": "CartPole-v1"}),
        (ValueError, "episode_length: expected a whole number >= 1", {"episode_length": 0}),
        (ValueError, "episodes: expected a whole number >= 1", {"episodes": 1.5}),
        (ValueError, "test_episodes: expected a whole number >= 1", {"test_episodes": 0}),
        (ValueError, "start_std: expected a number >= 0", {"start_std": math.inf}),
        (ValueError, "disturbance: expected a number >= 0", {"disturbance": -1.0}),
        (
            ValueError,
            "disturbance: only acrobot, cartpole, pendulum",
            {"task": "MountainCarContinuous-v0", "disturbance": 1.0},
        ),
    ],
)
def test_it_says_what_is_wrong(error: type[Exception], message: str, keywords: dict[str, Any]) -> None:
    with pytest.raises(error, match=message):
        ranked(**keywords)


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise gym.error.DependencyNotInstalled(
            'MuJoCo is not installed, run `pip install "gymnasium[mujoco]"`'
        )

    monkeypatch.setattr(gym, "make", refuse)
    with pytest.raises(
        ModuleNotFoundError, match=r"task: Swimmer-v5 needs a package: MuJoCo.*gymnasium\[mujoco\]"
    ):
        ranked(task="Swimmer-v5")
