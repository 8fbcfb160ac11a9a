"""The plain environment of grid worlds: Gymnasium's checker, the vector, Stable-Baselines3, bad input."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import A2C

import optenvs
from optenvs.envs.meta.discovery.grid_world import GridWorld, GridWorldVector

ID = "optenvs/GridWorld-v0"


@pytest.mark.parametrize("keywords", [{}, {"view": "one_hot", "level": "tiny"}, {"level": "rand_sparse"}])
def test_gymnasiums_checker_passes(keywords: dict) -> None:
    check_env(gym.make(ID, **keywords).unwrapped)


def test_it_is_no_oracle() -> None:
    assert ID in optenvs.list_envs(plain=True) and ID not in optenvs.list_envs()
    for ask in (optenvs.make, optenvs.make_sb3):
        with pytest.raises(TypeError, match=r"plain environment.*gymnasium.make"):
            ask(ID)
    with pytest.raises(TypeError, match="plain environment"):
        optenvs.make("Particles", landscape="GridWorld")


@pytest.mark.parametrize("level", ["tiny", "rand_sparse"])
def test_a_row_of_the_vector_is_an_episode_of_its_own(level: str) -> None:
    many = gym.make_vec(ID, num_envs=3, level=level)
    seen, info = many.reset(seed=5)
    alone = [GridWorld(level) for _ in range(3)]
    over = [False] * 3
    for i, env in enumerate(alone):
        shown, _ = env.reset(options={"instance": int(info["key"][i])})
        assert np.array_equal(shown, seen[i])
    ended = 0
    for t in range(70):
        moves = np.random.default_rng(t).integers(0, 5, 3)
        seen, reward, terminated, truncated, info = many.step(moves)
        for i, env in enumerate(alone):
            if over[i]:  # the step of the vector has begun the next episode
                shown, _ = env.reset(options={"instance": int(info["key"][i])})
                gain, ends, late = 0.0, False, False
            else:
                shown, gain, ends, late, _ = env.step(moves[i])
            assert np.array_equal(shown, seen[i])
            assert (gain, ends, late) == (reward[i], terminated[i], truncated[i])
            over[i] = ends or late
            ended += over[i]
    assert ended > 3


def test_same_step_and_disabled_autoreset() -> None:
    env = GridWorldVector(4, {"base": "tiny", "max_steps": (2, 2)}, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    env.step(np.zeros(4, int))
    seen, _, terminated, truncated, info = env.step(np.zeros(4, int))
    assert (terminated | truncated).any() and (info["final_obs"][:, -1] > 0).any()
    assert (seen[terminated | truncated, -1] == 0).all()
    env = GridWorldVector(2, {"base": "tiny", "max_steps": (1, 1)}, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.zeros(2, int))
    with pytest.raises(gym.error.ResetNeeded, match="reset_mask"):
        env.step(np.zeros(2, int))
    seen, _ = env.reset(options={"reset_mask": np.ones(2, bool)})
    assert (seen[:, -1] == 0).all()
    env.step(np.zeros(2, int))


def test_one_level_for_all_episodes() -> None:
    env = GridWorld("small", level_seed=3, render_mode="ansi")
    env.reset(seed=0)
    first = env.render()
    env.reset(seed=1)
    assert env.render() == first
    assert env.optimum() > 0
    other = GridWorld("small", render_mode="ansi")
    other.reset(seed=0)
    assert other.render() != first


def test_stable_baselines_trains_on_it() -> None:
    model = A2C("MlpPolicy", gym.make(ID, level="tiny", level_seed=0), n_steps=8, seed=0)
    assert model.learn(32).num_timesteps == 32


def test_it_draws() -> None:
    env = gym.make(ID, render_mode="rgb_array", level="small")
    env.reset(seed=0)
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and len(np.unique(picture)) > 5
    many = gym.make_vec(ID, num_envs=2, render_mode="rgb_array")
    many.reset(seed=0)
    assert len(many.render()) == 2


def test_bad_input_is_named() -> None:
    for keywords, named in (
        ({"view": "pixels"}, "view: expected"),
        ({"level": "tny"}, "did you mean 'tiny'"),
        ({"level": "rand_small", "view": "one_hot"}, "roam"),
        ({"level_seed": -1}, "seed: expected"),
        ({"render_mode": "human"}, "render_mode"),
    ):
        with pytest.raises(ValueError, match=named):
            GridWorld(**keywords)
    env = GridWorld("tiny")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="0 to 4"):
        env.step(5)
    many = GridWorldVector(2, "tiny")
    with pytest.raises(gym.error.ResetNeeded):
        many.step(np.zeros(2, int))
    many.reset(seed=0)
    for moves in (np.zeros(3, int), np.zeros(2), np.array([0, 7])):
        with pytest.raises(gym.error.InvalidAction, match="2 whole numbers"):
            many.step(moves)
    rolling = GridWorld("rand_small")
    rolling.reset(seed=0)
    with pytest.raises(ValueError, match="roam"):
        rolling.optimum()


def test_some_rows_begin_from_a_seed_of_their_own() -> None:
    def keys(env: GridWorldVector, **asked: Any) -> list[int]:
        return env.reset(**asked)[1]["key"].tolist()

    env, wanted = GridWorldVector(2, "tiny"), GridWorldVector(2, "tiny")
    before, seeded = keys(env, seed=3), keys(wanted, seed=[7, 8])
    mask = {"reset_mask": np.array([True, False])}
    assert keys(env, seed=[7, 8], options=mask) == [seeded[0], before[1]]
    assert keys(env, options=mask) == [keys(wanted, options=mask)[0], before[1]]
    for bad in (np.array([True]), np.array([0.5, 0.0]), np.ones((2, 1), bool)):
        with pytest.raises(ValueError, match="reset_mask: expected 2 booleans, got"):
            env.reset(options={"reset_mask": bad})


@pytest.mark.parametrize("seed", [[1, 2], np.int64(3), 3])
def test_what_follows_a_seed_follows_from_it(seed: Any) -> None:
    found = []
    for _ in range(2):
        env = GridWorldVector(2, "tiny")
        env.reset(seed=seed)
        found.append(env.reset()[1]["key"].tolist())
    assert found[0] == found[1]
