"""Policy search in tasks of Gymnasium's, on the host."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core.random import bits, keys_from_seed, normal
from optenvs.core.struct import rows
from optenvs.envs.policy.search import PolicySearch

SMALL: dict[str, Any] = {"episode_length": 6, "widths": (3,), "test_episodes": 1, "budget": None}


def search(task: str = "MountainCarContinuous-v0", **changes: Any) -> PolicySearch:
    return optenvs.make("PolicySearch", task=task, **(SMALL | changes))  # type: ignore[return-value]


def test_trajectories_are_gymnasiums() -> None:
    env, keys = search(std=0.5), keys_from_seed(0, 2)
    process = env.process
    _, x = process.draw(keys, torch.float64)
    played = process.play(None, x, keys, "test", None, 2)
    assert played.mask.all() and played.transitions.tolist() == [12, 12]
    single = gym.make("MountainCarContinuous-v0")
    seeds = bits(keys, "test start", 2, None) & (2**31 - 1)
    for b in range(2):
        for n in range(2):
            seen, _ = single.reset(seed=int(seeds[b, n]))
            for t in range(6):
                assert np.allclose(seen, played.states[b, n, t])
                done = played.actions[b, n, t].numpy().clip(-1, 1).astype(np.float32)
                seen, reward, *_ = single.step(done)
                assert float(played.rewards[b, n, t]) == pytest.approx(float(reward))
    likely = process.policy.log_prob(x, played.states.flatten(1, 2), played.actions.flatten(1, 2))
    assert likely.isfinite().all() and float(played.actions.std()) > 0.2


def test_rows_are_single_runs_and_nothing_is_kept() -> None:
    env = search()
    agent = agents.make("n_pg_igt", lr=0.3)
    many = optenvs.rollout(env, agent, batch=2, steps=2)
    alone = optenvs.rollout(env, agent, keys=keys_from_seed(0, 2)[1:], steps=2)
    torch.testing.assert_close(rows(many.state, slice(1, 2)).observation, alone.state.observation)
    assert many.state.calls["transitions"].tolist() == [3 * 2 * 6] * 2
    assert (many.metrics["mean_return"][0] == -many.merit[0]).all() and env.bounded_below is False
    assert env.on_host and optenvs.check(env, batch=2, steps=2).ok


def test_an_episode_that_ends_is_masked() -> None:
    # with full throttle along the speed the hill is climbed before 200 steps
    env = search(episode_length=200, widths=(1,), std=1e-3)
    keys = keys_from_seed(0, 1)
    x = torch.tensor([[0.0, 1e4, 0.0, 1e4, 0.0]], dtype=torch.float64)
    played = env.process.play(None, x, keys, "test", None, 2)
    steps = played.mask.sum(-1)[0]
    assert (steps < 150).all() and (played.returns[0] > 80).all()
    assert not played.rewards[~played.mask].any() and not played.states[~played.mask].any()


def test_it_says_what_is_wrong_or_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="task: CartPole-v1 has the action space Discrete"):
        search("CartPole-v1")
    with pytest.raises(ValueError, match="task: expected .* Gymnasium id, got 'Nowhere-v3'"):
        search("Nowhere-v3")
    with pytest.raises(ValueError, match="tolerance: no return is known to be the best"):
        search(tolerance=0.1)
    with pytest.raises(ValueError, match="explore: the task MountainCarContinuous-v0 has none"):
        search(explore=0.1)
    with pytest.raises(ValueError, match="std: expected a number > 0, got 0"):
        search(std=0)
    with pytest.raises(TypeError, match="compile|host"):
        optenvs.rollout(search(), agents.make("vanilla_pg"), batch=1, steps=3, compile=1)

    def refuse(name: str) -> None:
        raise gym.error.DependencyNotInstalled(
            'MuJoCo is not installed, run `pip install "gymnasium[mujoco]"`'
        )

    monkeypatch.setattr(gym, "make", refuse)
    with pytest.raises(ModuleNotFoundError, match=r"HalfCheetah-v5 needs a package: MuJoCo.*\[mujoco\]"):
        search("HalfCheetah-v5")


def test_mujoco_is_among_them() -> None:
    pytest.importorskip("mujoco", reason="MuJoCo is an extra")
    env, keys = search("HalfCheetah-v5"), keys_from_seed(0, 2)
    state = env.reset(keys)
    x = state.observation["x"]
    assert x.shape[1] == (17 * 3 + 3) + (3 * 6 + 6) + 6
    moved = x + 0.1 * normal(keys, "way", x.shape[1], dtype=torch.float64)
    offer = env.card.offer
    told = [
        env.step(state, offer.query({"policy_gradient": True}, x=moved, second=moved, recommendation=moved))
        for _ in range(2)
    ]
    assert torch.equal(*(one.observation["policy_gradient"] for one in told))
    assert told[0].observation["policy_gradient"].abs().max() > 0
    assert told[0].calls["transitions"].tolist() == [24, 24]
