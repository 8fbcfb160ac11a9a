"""The Gymnasium face."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save
from optenvs.faces.single import FaceState, GymEnv

UNBOUNDED = "infinity. This is probably|infinity is not|action space.*symmetric and normalized"


def made(name: str = "Quadratic", **keywords: Any) -> GymEnv:
    return GymEnv(optenvs.make(name, **keywords))


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


# the contract tests have every id, without bounds and pictures
@pytest.mark.parametrize("oracle", ["gradient", "hvp", "hessian"])
@pytest.mark.parametrize("name", ["optenvs/GrandCanyon-v0", "optenvs/LogSumExp-v0", "optenvs/Rosenbrock-v0"])
def test_gymnasiums_checker(name: str, oracle: str) -> None:
    env = gym.make(name, oracle=oracle, bounds="domain", render_mode="rgb_array").unwrapped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f".*({UNBOUNDED})")
        check_env(env)


def test_make_passes_keywords() -> None:
    env = gym.make("optenvs/Quadratic-v0", dim=3, oracle="value", dtype="float64", budget=5)
    assert env.action_space.shape == (3,)
    assert env.action_space.dtype == np.float64
    assert set(env.observation_space) == {"point", "value", "k", "N"}
    assert env.unwrapped.core.budget == 5


def test_make_by_module_needs_no_import() -> None:
    assert isinstance(gym.make("optenvs:optenvs/Beale-v0").unwrapped, GymEnv)


def test_it_is_the_core_in_numpy() -> None:
    env = made("Rosenbrock", noise=0.1)
    shown, info = env.reset(seed=5)
    state = env.core.reset(keys_from_seed(5, 1))
    for t in range(4):
        for name, value in state.observation.items():
            assert np.array_equal(shown[name], value[0].numpy()), name
        assert info["calls"] == {"gradient": t + 1, "value": t + 1}
        assert info["metrics"]["gap"] == float(state.metrics["gap"])
        action = shown["point"] - np.float32(1e-4) * shown["gradient"]
        shown, reward, terminated, truncated, info = env.step(action)
        state = env.core.step(state, torch.from_numpy(action[None]))
        assert reward == float(state.reward)
        assert isinstance(reward, float)
        assert terminated is False
        assert truncated is False


def test_observations_belong_to_the_caller() -> None:
    env = made()
    shown, _ = env.reset(seed=0)
    shown["point"][:] = 7
    assert not np.array_equal(env.state.observation["point"][0].numpy(), shown["point"])
    action = np.zeros(10, np.float32)
    env.step(action)
    action[:] = 9
    assert (env.state.observation["point"] == 0).all()


def test_rewards_telescope_and_the_end_is_told() -> None:
    env = made(budget=6, tolerance=None)
    shown, info = env.reset(seed=1)
    first, total, steps = info["metrics"]["value"], 0.0, 0
    truncated = False
    while not truncated:
        shown, reward, terminated, truncated, info = env.step(shown["point"] * np.float32(0.9))
        total, steps = total + reward, steps + 1
        assert not terminated
    assert steps == 5 == env.core.horizon
    assert info["calls"]["gradient"] == 6
    assert total == pytest.approx(first - info["metrics"]["value"], rel=1e-5)


def test_solved_is_terminated() -> None:
    env = made("Rosenbrock", budget=None)
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(np.ones(2, np.float32))
    assert terminated is True
    assert truncated is False
    assert info["metrics"]["gap"] == 0


def test_an_instance_solved_at_its_start_takes_one_step_to_say_so() -> None:
    env = made("Rosenbrock", start=(1.0, 1.0))
    env.reset(seed=0)
    assert bool(env.state.terminated)
    _, reward, terminated, _, _ = env.step(np.ones(2, np.float32))
    assert terminated is True
    assert reward == 0
    with pytest.raises(ResetNeeded):
        env.step(np.ones(2, np.float32))


def test_a_step_after_the_end_needs_a_reset() -> None:
    env = made("Rosenbrock")
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
    before = env.get_state()
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(np.ones(2, np.float32))
    assert env.get_state() is before
    env.reset()
    env.step(np.zeros(2, np.float32))


BAD = {
    "shape": np.zeros(3, np.float32),
    "NaN": np.array([np.nan, 0.0]),
    "infinite": np.array([0.0, -np.inf]),
    "outside": np.array([0.0, 99.0]),
    "text": "go",
    "nothing": None,
    "dict": {"point": np.zeros(2)},
    "complex": np.zeros(2, complex),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_action_leaves_the_episode_as_it_was(bad: str) -> None:
    env = made("Rosenbrock", bounds=(-2.0, 2.0))
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(InvalidAction):
        env.step(BAD[bad])
    assert env.get_state() is before
    assert int(env.state.calls["gradient"]) == 1


def test_seeds_name_instances() -> None:
    one, other = made("LeastSquares"), made("LeastSquares")
    first = one.reset(seed=3)
    assert same(first[0], other.reset(seed=3)[0])
    assert not same(first[0], one.reset(seed=4)[0])
    again = one.reset(seed=3)
    assert same(first[0], again[0])
    assert first[1]["key"] == int(keys_from_seed(3, 1))


def test_later_episodes_follow_from_the_seed() -> None:
    one, other = made("LeastSquares"), made("LeastSquares")
    starts = []
    for env in (one, other):
        env.reset(seed=3)
        starts.append([env.reset()[0], env.reset()[0]])
    assert same(starts[0][0], starts[1][0])
    assert same(starts[0][1], starts[1][1])
    assert not same(starts[0][0], starts[0][1])


def test_an_unseeded_environment_draws_its_seed() -> None:
    one, other = made("LeastSquares"), made("LeastSquares")
    assert not same(one.reset()[0], other.reset()[0])


def test_an_instance_is_met_again_by_its_key() -> None:
    env = made("LeastSquares")
    env.reset(seed=1)
    shown, info = env.reset()
    assert same(made("LeastSquares").reset(options={"instance": info["key"]})[0], shown)
    with pytest.raises(ValueError, match="instance: expected a whole number of 64 bits"):
        env.reset(options={"instance": 1.5})


def test_fork_bit_for_bit(tmp_path: Any) -> None:
    env, fork = made("Rastrigin", noise=0.3, dim=3), made("Rastrigin", noise=0.3, dim=3)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(12, 3)).astype(np.float32)
    for action in actions[:5]:
        env.step(action)
    fork.set_state(load(save(tmp_path / "face", env.get_state())))
    middle = env.get_state()
    paths = [[one.step(a) for a in actions[5:]] + [one.reset()] for one in (env, fork)]
    env.set_state(middle)
    paths.append([env.step(a) for a in actions[5:]] + [env.reset()])
    for path in paths[1:]:
        for one, other in zip(paths[0], path, strict=True):
            assert same(one[0], other[0])
            assert one[1] == other[1]
            assert one[-1] == other[-1]


def test_set_state_refuses_something_else() -> None:
    env = made()
    with pytest.raises(ValueError, match="set_state: expected what get_state of a single"):
        env.set_state("here")  # type: ignore[arg-type]
    batch = env.core.reset(keys_from_seed(0, 2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="of a single environment"):
        env.set_state(FaceState(state=batch, episodes=env.get_state().episodes))


def test_divergence_ends_the_episode_without_a_bad_number() -> None:
    env = made("Quadratic")
    start, _ = env.reset(seed=0)
    shown, reward, terminated, truncated, info = env.step(np.full(10, 1e30, np.float32))
    assert truncated is True
    assert terminated is False
    assert info["diverged"] is True
    assert reward == 0
    assert same(shown, start)
    assert info["calls"]["gradient"] == 2, "the query was asked, and is billed"


def test_pictures() -> None:
    env = gym.make("optenvs/Rosenbrock-v0", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.zeros(2, np.float32))
    after = env.render()
    assert before.dtype == np.uint8
    assert before.shape == after.shape
    assert before.ndim == 3
    assert before.shape[2] == 3
    assert not np.array_equal(before, after)


def test_without_a_mode_render_warns_and_draws_nothing() -> None:
    env = made()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render"):
        assert env.render() is None


def test_gymnasiums_wrappers() -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.TimeLimit(made(), 3))
    shown, _ = env.reset(seed=0)
    for _ in range(3):
        shown, _, _, truncated, info = env.step(shown["point"] / 2)
    assert truncated
    assert info["episode"]["l"] == 3
