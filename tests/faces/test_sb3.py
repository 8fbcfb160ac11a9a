"""The Stable-Baselines3 face: its protocol, and short trainings."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import optenvs
from optenvs.core.errors import UnknownKeyword
from optenvs.core.random import keys_from_seed
from optenvs.faces.sb3 import SB3VecEnv
from optenvs.faces.vector import TorchVectorEnv
from optenvs.wrappers import Displacement

LANDSCAPES = optenvs.list_envs("landscapes")
PROBLEM: dict[str, Any] = {"dim": 2, "spectrum": "random", "tolerance": 0.03, "budget": 6}
PROBLEM["bounds"] = (-4.0, 4.0)


def made(rows: int = 4, **keywords: Any) -> SB3VecEnv:
    return optenvs.make_sb3("Quadratic", rows, **(PROBLEM | keywords))


def actions(rows: int = 4, steps: int = 15) -> np.ndarray:
    return (0.7 * np.random.default_rng(0).normal(size=(steps, rows, 2))).astype(np.float32)


def test_it_is_the_vector_face_in_the_same_step_mode() -> None:
    env = made()
    batch = TorchVectorEnv(optenvs.make("Quadratic", **PROBLEM), 4, autoreset_mode="same_step")
    env.seed(3)
    shown, expected = env.reset(), batch.reset(seed=3)[0]
    solved = limited = 0
    for action in actions():
        for name, value in expected.items():
            assert np.array_equal(shown[name], value.numpy())
        shown, reward, done, infos = env.step(action)
        expected, gain, terminated, truncated, info = batch.step(action)
        assert np.array_equal(reward, gain.numpy())
        assert np.array_equal(done, (terminated | truncated).numpy())
        for i in np.flatnonzero(done):
            for name, value in info["final_obs"].items():
                assert np.array_equal(infos[i]["terminal_observation"][name], value[i].numpy())
            # SB3 bootstraps the value of an episode that was cut off, not of one that was solved
            assert infos[i]["TimeLimit.truncated"] == bool(truncated[i] & ~terminated[i])
            assert infos[i]["calls"]["gradient"] == int(info["final_info"]["calls"]["gradient"][i])
            solved += bool(terminated[i])
            limited += infos[i]["TimeLimit.truncated"]
        for i in np.flatnonzero(~done):
            assert infos[i] == {"key": int(info["key"][i])}
    assert solved > 2
    assert limited > 2


def test_solved_with_the_last_call_is_no_cut_off() -> None:
    env = made(1, budget=2, tolerance=1e-3)
    env.seed(0)
    env.reset()
    _, _, done, infos = env.step(np.zeros((1, 2), np.float32))
    assert done.all()
    assert infos[0]["TimeLimit.truncated"] is False


def test_seeds_name_instances_at_every_batch_size() -> None:
    many, few = made(4), made(2)
    for env in (many, few):
        env.seed(7)
        env.reset()
    assert torch.equal(many.batch.state.key[:2], few.batch.state.key)
    assert torch.equal(many.batch.state.key, keys_from_seed(7, 4))
    many.reset()
    assert not torch.equal(many.batch.state.key, keys_from_seed(7, 4)), "a seed serves one reset"


def test_instances_by_option() -> None:
    env = made(2)
    env.set_options({"instance": 42})
    env.reset()
    assert env.batch.state.key.tolist() == [42, 42]
    assert env.reset_infos == [{"key": 42}, {"key": 42}]


def test_options_are_row_by_row() -> None:
    env = made(3)
    env.set_options([{"instance": 5}, {}, {"instance": 6}])
    env.seed(1)
    env.reset()
    own = int(keys_from_seed(1, 3)[1])
    assert env.batch.state.key.tolist() == [5, own, 6]
    assert env.reset_infos == [{"key": 5}, {"key": own}, {"key": 6}]
    env.reset()
    assert not {5, own, 6} & {*env.batch.state.key.tolist()}, "options serve one reset"
    with pytest.raises(ValueError, match="options: expected a dict or 3 of them, got 2"):
        env.set_options([{}, {}])


def test_infos_name_the_instances_of_each_episode() -> None:
    env = made(4)
    env.seed(3)
    env.reset()
    running = env.batch.state.key.tolist()
    ended = 0
    for action in actions():
        _, _, done, infos = env.step(action)
        assert [info["key"] for info in infos] == running, "an info speaks of the episode that was asked"
        now = env.batch.state.key.tolist()
        assert [one != other for one, other in zip(running, now, strict=True)] == done.tolist()
        assert env.reset_infos == [{"key": key} for key in now], "reset_infos speak of those that run"
        running, ended = now, ended + int(done.sum())
    assert ended > 5


def test_observations_belong_to_the_caller() -> None:
    env = made()
    env.seed(0)
    shown = env.reset()
    shown["point"][:] = 99
    assert (env.batch.state.observation["point"] < 90).all()


def test_what_sb3_cannot_take_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Stable-Baselines3 takes one Box of actions, Quadratic has .*Dict"):
        optenvs.make_sb3("Quadratic", oracle="hvp")
    with pytest.raises(TypeError, match=r"finite actions only, Quadratic has .*bounds='domain'"):
        optenvs.make_sb3("Quadratic", bounds=None)
    with pytest.raises(AttributeError, match="budget: environments are immutable"):
        made().set_attr("budget", 3)


def test_the_way_to_finite_actions_is_the_one_that_works() -> None:
    for core in (optenvs.make("Biodiesel"), optenvs.make("TrainBreastCancer")):
        with pytest.raises(
            TypeError, match=r"it has no bounds=; optenvs.wrappers.Displacement\(env, limit=1.0\)"
        ):
            optenvs.make_sb3(core)
        env = optenvs.make_sb3(Displacement(core, limit=1.0), 2)
        env.reset()
        env.step(np.zeros((2, *env.action_space.shape), env.action_space.dtype))
    with pytest.raises(UnknownKeyword, match=r"'bounds': it has no search domain .*Displacement"):
        optenvs.make_sb3("Biodiesel", bounds="domain")
    with pytest.raises(TypeError, match="no keyword of it makes one of them"):
        optenvs.make_sb3("NetworkQuadratic")
    with pytest.raises(TypeError, match="such as oracle='gradient'"):
        optenvs.make_sb3("LogSumExp")


def one_point(name: str) -> dict[str, str]:
    """What makes a query of a landscape one point, where by default it is more."""
    return {} if isinstance(optenvs.make(name).action_space, spaces.Box) else {"oracle": "gradient"}


@pytest.mark.parametrize("name", LANDSCAPES)
def test_one_keyword_gives_finite_actions_everywhere(name: str) -> None:
    for env in (
        gym.make(name, bounds="domain", **one_point(name)),
        gym.make_vec(name, 2, bounds="domain", **one_point(name)),
        optenvs.make_sb3(name, 2, bounds="domain", **one_point(name)),
    ):
        space = getattr(env, "single_action_space", env.action_space)
        assert space.is_bounded()


def test_the_protocol_of_vec_env() -> None:
    env = made(3)
    assert env.get_attr("num_envs", [0, 2]) == [3, 3]
    assert env.get_attr("render_mode") == [None] * 3
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    env.seed(0)
    env.reset()
    assert len(env.env_method("get_state", indices=[1])) == 1
    env.close()


def test_pictures() -> None:
    env = optenvs.make_sb3("Beale", 2, render_mode="rgb_array")
    env.seed(0)
    env.reset()
    picture = env.render()
    assert picture is not None
    assert picture.dtype == np.uint8
    one, other = env.get_images()
    assert picture.shape[0] * picture.shape[1] == 2 * one.shape[0] * one.shape[1], "side by side"
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", LANDSCAPES)
def test_ppo_trains_on_every_landscape(name: str) -> None:
    env = VecMonitor(optenvs.make_sb3(name, 4, budget=17, **one_point(name)))
    model = PPO("MultiInputPolicy", VecNormalize(env), n_steps=32, batch_size=64, n_epochs=1, seed=0)
    model.learn(128)
    assert model.num_timesteps == 128
    ends = list(model.ep_info_buffer)
    assert len(ends) >= 8
    assert all(np.isfinite(end["r"]) and end["l"] <= 16 for end in ends)
    for weights in model.policy.parameters():
        assert weights.isfinite().all()


def test_ppo_learns_to_ask_the_optimum() -> None:
    # the optimum is the same point for all instances: a policy that ignores its input can find it
    problem = {"dim": 1, "bounds": (-2.0, 2.0), "budget": 5, "tolerance": None}
    env = optenvs.make_sb3("Quadratic", 16, reward="negative_value", **problem)
    model = PPO(
        "MultiInputPolicy", env, n_steps=32, batch_size=128, n_epochs=6, learning_rate=3e-3, gamma=0.5,
        seed=0, policy_kwargs={"net_arch": [16], "log_std_init": -0.5},
    )  # fmt: skip

    def score() -> float:
        env.seed(1)
        shown, total = env.reset(), 0.0
        for _ in range(4):
            shown, reward, *_ = env.step(model.predict(shown, deterministic=True)[0])
            total += float(reward.mean())
        return total

    # an untrained policy asks near 0 by its initialisation; push it away, so that there is something to learn
    with torch.no_grad():
        model.policy.action_net.bias.fill_(1.0)
    before = score()
    model.learn(8_000)
    after = score()
    assert before < -1.0
    assert after > 0.25 * before


def test_sac_trains() -> None:
    env = made(2, budget=9)
    model = SAC(
        "MultiInputPolicy", env, learning_starts=20, batch_size=16, buffer_size=200, seed=0,
        policy_kwargs={"net_arch": [16]},
    )  # fmt: skip
    model.learn(60)
    assert model.num_timesteps == 60
    for weights in model.policy.parameters():
        assert weights.isfinite().all()
