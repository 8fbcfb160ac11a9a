"""The tasks of policy search step by step: the same dynamics, a plain environment, models that learn."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import A2C, DQN, PPO
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed, uniform
from optenvs.envs.policy.sb3 import WalkersVecEnv, search_by_sb3
from optenvs.envs.policy.search import PolicySearch
from optenvs.envs.policy.walk import PolicyTask, Walkers

TASKS: dict[str, dict[str, Any]] = {
    "gauss_bandit": {},
    "lqr": {"episode_length": 6, "dim": 3, "actions": 2},
    "tabular": {"episode_length": 6, "explore": 0.1, "start_std": 1.0},
    "cartpole": {"episode_length": 12, "widths": (3,), "test_episodes": 2},
    "acrobot": {"episode_length": 6, "widths": (3,), "test_episodes": 2},
    "pendulum": {"episode_length": 6, "widths": (3,), "test_episodes": 2},
}


def search(task: str, **changes: Any) -> PolicySearch:
    return optenvs.make("PolicySearch", task=task, **(TASKS[task] | changes))  # type: ignore[return-value]


@pytest.mark.parametrize("task", TASKS)
def test_steps_are_those_of_trajectories(task: str) -> None:
    """What trajectories did, done step by step, is seen and earned as there."""
    env, keys, count = search(task), keys_from_seed(0, 2), 3
    process, H = env.process, env.process.episode_length
    world, x = process.draw(keys, torch.float64)
    played = process.play(world, x, keys, "test", None, count)
    luck = uniform(keys, "test", (H, 2, count), None, torch.float64)[:, :, 1]
    standing = process.begin(world, keys, "test", None, count, torch.float64)
    if task == "tabular":  # the first luck is that of the start
        standing = (process._first(world, luck[:, 0]),)  # type: ignore[attr-defined]
    over = torch.zeros(2, count, dtype=torch.bool)
    for t in range(H):
        on = played.mask[:, :, t]
        assert torch.equal(on, ~over)
        seen = process.seen(standing).to(torch.float64)
        torch.testing.assert_close(seen[on], played.states[:, :, t][on], rtol=1e-12, atol=1e-12)
        after = luck[:, min(t + 1, H - 1)]
        standing, reward, ended = process.step(world, standing, played.actions[:, :, t], after)
        torch.testing.assert_close(reward[on], played.rewards[:, :, t][on], rtol=1e-12, atol=1e-12)
        over = over | ended


@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is -?infinity")
@pytest.mark.parametrize("task", ["tabular", "cartpole"])
def test_it_is_a_gymnasium_environment(task: str) -> None:
    check_env(PolicyTask(search(task)), skip_render_check=True)


def test_episodes_follow_from_the_seed() -> None:
    env = PolicyTask(search("cartpole"), instance=4)

    def firsts(seed: int | None) -> list[np.ndarray]:
        return [env.reset(seed=seed)[0], env.reset()[0]]

    one, again, other = firsts(1), firsts(1), firsts(2)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], one[1]) and not np.array_equal(one[0], other[0])
    seen, earned, cut = one[0], 0.0, False
    env.reset(seed=1)
    while not cut:
        seen, reward, ended, cut, _ = env.step(int(seen[2] > 0))
        earned += reward
        if ended:
            break
    assert earned == pytest.approx(12 / 12 if cut else earned)
    with pytest.raises(gym.error.ResetNeeded, match="the episode is over"):
        env.step(0)
    env.reset()
    for wrong in (2, 0.5, [0, 1]):
        with pytest.raises(gym.error.InvalidAction, match="action: expected 1 of Discrete"):
            env.step(wrong)


def test_walkers_end_and_begin_by_themselves() -> None:
    group = Walkers(search("cartpole"), 5, 3)
    env = WalkersVecEnv(group)
    first = env.reset()
    assert np.array_equal(env.reset(), first)
    cut, ended = 0, 0
    for _ in range(40):
        seen, reward, done, infos = env.step(np.array([0, 1, 1]))
        assert np.allclose(reward, 1 / 12)
        for i in np.flatnonzero(done):
            cut += infos[i]["TimeLimit.truncated"]
            ended += not infos[i]["TimeLimit.truncated"]
            assert not np.array_equal(infos[i]["terminal_observation"], seen[i])
    assert ended > 5 and cut == 0 and len(group.episode.unique()) == 3


@pytest.mark.parametrize("task", ["tabular", "pendulum", "lqr"])
def test_a_models_actor_is_the_searchs_policy(task: str) -> None:
    env = search(task)
    model = search_by_sb3(env, A2C, transitions=20, seed=1).model
    policy, x = env.process.policy, model.policy.x.detach()
    group = Walkers(env, 3, 5)
    group.begin()
    seen = torch.from_numpy(group.seen())
    draws = torch.full((1, 5, *policy.draws), 0.3)
    action = policy.act(x[None], seen[None], draws)[0]
    _, told, entropy = model.policy.evaluate_actions(seen, action)
    expected: tuple[Tensor, Tensor] = (
        policy.log_prob(x[None], seen[None], action[None])[0],
        policy.entropy(x[None], seen[None])[0],
    )
    torch.testing.assert_close(told, expected[0])
    torch.testing.assert_close(entropy, expected[1])
    assert x.shape == (policy.size,)


def test_a_model_is_billed_and_judged_as_agents_are() -> None:
    env = search("gauss_bandit")
    course = search_by_sb3(env, PPO, transitions=330, seed=1, n_steps=8, batch_size=32, learning_rate=0.03)
    assert course.transitions.tolist() == [32 * i for i in range(11)], "330 pay ten rollouts"
    assert course.trajectories[0] >= 4 and course.trajectories[-1] >= 320
    start = env.reset(keys_from_seed(1, 1))
    assert float(course.merit[0]) == pytest.approx(float(start.merit))
    assert not course.points[0].any() and float(course.merit[-1]) < 0.8 * float(course.merit[0])
    same = search_by_sb3(
        env, PPO, transitions=330, seed=1, at=(0, 100, 330), n_steps=8, batch_size=32, learning_rate=0.03
    )
    assert same.transitions.tolist() == [0, 96, 320]
    assert torch.equal(same.merit, course.merit[[0, 3, 10]])
    neural = search("cartpole")
    run = search_by_sb3(neural, A2C, transitions=40, seed=1, at=(0, 40))
    assert float(run.merit[0]) == pytest.approx(float(neural.reset(keys_from_seed(1, 1)).merit), abs=1e-4)


def test_trust_regions_are_among_them() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = search("tabular")
    course = search_by_sb3(env, contrib.TRPO, transitions=512, seed=1, n_steps=32, batch_size=128)
    assert course.transitions.tolist() == [0, 128, 256, 384, 512]
    assert float(course.merit[-1]) < float(course.merit[0])


def test_what_does_not_fit_is_named() -> None:
    env = search("gauss_bandit")
    with pytest.raises(ValueError, match="transitions: 10 do not pay a rollout, n_steps . walkers = 20"):
        search_by_sb3(env, A2C, transitions=10)
    with pytest.raises(ValueError, match="at: expected numbers up to transitions, 40"):
        search_by_sb3(env, A2C, transitions=40, at=(50,))
    with pytest.raises(TypeError, match="algorithm: expected one of on-policy algorithms, PPO say, got DQN"):
        search_by_sb3(search("cartpole"), DQN, transitions=40)
    with pytest.raises(TypeError, match="n_stepz"):
        search_by_sb3(env, A2C, transitions=40, n_stepz=3)
    with pytest.raises(ValueError, match="task: MountainCarContinuous-v0 is Gymnasium's own"):
        Walkers(PolicySearch(task="MountainCarContinuous-v0", test_episodes=1), 0, 2)
