"""The classic loop gives what ``rollout`` gives."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import agents
import optenvs
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed

KEYWORDS: dict[str, Any] = {"dim": 3, "shift": 1.0, "dtype": "float64", "budget": 11, "tolerance": None}
EVERY = {
    "adam": agents.Adam(lr=0.1),
    "diffgrad": agents.DiffGrad(lr=0.1),
    "a torch optimizer": agents.from_torch(torch.optim.NAdam, lr=0.1),
    "a function": agents.from_function(lambda seen: 0.5 * seen["point"]),
}


def merits(agent: agents.Agent, key: int) -> list[float]:
    """The values that a rollout of ten steps meets on the instance ``key``."""
    run = optenvs.rollout(optenvs.make("Quadratic", **KEYWORDS), agent, keys=torch.tensor([key]))
    return run.merit[:, 0].tolist()


def play(env: gym.Env, policy: agents.binding.Policy, **options: Any) -> tuple[int, list[float]]:
    observation, info = env.reset(**options)
    policy.reset(observation, info)
    values, over = [observation["value"].item()], False
    while not over:
        action = policy(observation)
        assert isinstance(action, np.ndarray) and action in env.action_space
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        values.append(observation["value"].item())
    return info["key"], values


@pytest.mark.parametrize("name", EVERY)
def test_numpy_loop_is_the_rollout(name: str) -> None:
    env = gym.make("optenvs/Quadratic-v0", **KEYWORDS)
    policy = agents.bind(EVERY[name], env)
    key, values = play(env, policy, seed=7)
    assert key == keys_from_seed(7, 1).item()
    assert values == merits(EVERY[name], key)
    # and again, in the next episode
    key, values = play(env, policy)
    assert values == merits(EVERY[name], key)


def test_through_wrappers() -> None:
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("optenvs/Quadratic-v0", **KEYWORDS))
    key, values = play(env, agents.bind(agents.Adam(lr=0.1), env), seed=1)
    assert values == merits(agents.Adam(lr=0.1), key)


def test_an_array_that_is_filled_again_does_no_harm() -> None:
    env = gym.make("optenvs/Quadratic-v0", **KEYWORDS)
    policy = agents.bind(agents.DiffGrad(lr=0.1), env)
    observation, info = env.reset(seed=7)
    policy.reset(observation, info)
    buffer, values = {name: value.copy() for name, value in observation.items()}, []
    for _ in range(10):
        values.append(buffer["value"].item())
        observation, *_ = env.step(policy(buffer))
        for name, value in observation.items():
            buffer[name][...] = value
    assert values == merits(agents.DiffGrad(lr=0.1), info["key"])[:10]


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
@pytest.mark.parametrize("name", EVERY)
def test_vector_loop_is_a_rollout_an_episode(name: str, mode: str) -> None:
    # rows end at different times: some are solved, some spend their budget
    keywords = KEYWORDS | {"tolerance": 1.0, "budget": 8}
    env = gym.make_vec("optenvs/Quadratic-v0", num_envs=4, autoreset_mode=mode, **keywords)
    policy = agents.bind(EVERY[name], env)
    observation, info = env.reset(seed=3)
    policy.reset(observation, info)
    episodes: dict[int, list[float]] = {}
    for _ in range(30):
        for row, key in enumerate(info["key"].tolist()):
            values = episodes.setdefault(key, [])
            assert len(values) == int(observation["k"][row])
            values.append(observation["value"][row].item())
        action = policy(observation)
        assert isinstance(action, torch.Tensor)
        observation, *_, info = env.step(action)
    played = {key: values for key, values in episodes.items() if values[0] > 1.0}  # not over at its start
    assert len(played) > 5
    assert len({len(values) for values in played.values()}) > 1
    core = optenvs.make("Quadratic", **keywords)
    for key, values in played.items():
        expected = optenvs.rollout(core, EVERY[name], keys=torch.tensor([key])).merit[:, 0].tolist()
        assert np.allclose(values, expected[: len(values)], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("oracle", ["gradient", "hessian"])  # an action that is an array, and one of parts
def test_a_batch_in_numpy_is_that_in_tensors(oracle: str) -> None:
    agent = agents.Adam(lr=0.1) if oracle == "gradient" else agents.Newton()
    played = []
    for to in ("torch", "numpy"):
        env = gym.make_vec("optenvs/Rosenbrock-v0", 3, to=to, dim=2, oracle=oracle, budget=9)
        policy = agents.bind(agent, env)
        observation, info = env.reset(seed=3)
        policy.reset(observation, info)
        rows = []
        for _ in range(20):  # beyond the end of all episodes
            action = policy(observation)
            assert isinstance(action["point"] if oracle == "hessian" else action, type(observation["k"]))
            observation, reward, *_, info = env.step(action)
            rows.append(
                [observation["point"].tolist(), np.asarray(reward, np.float64).tolist(), info["key"].tolist()]
            )
        played.append(rows)
    assert played[0] == played[1]
    assert len({key for *_, keys in played[0] for key in keys}) > 3


def test_rows_reset_by_mask_begin_anew() -> None:
    env = gym.make_vec("optenvs/Quadratic-v0", num_envs=2, autoreset_mode="disabled", **KEYWORDS)
    policy = agents.bind(agents.Adam(lr=0.1), env)
    observation, info = env.reset(seed=3)
    policy.reset(observation, info)
    for _ in range(3):
        observation, *_ = env.step(policy(observation))
    observation, info = env.reset(options={"reset_mask": torch.tensor([True, False])})
    policy.reset(observation, info)
    assert policy.state.count[:, 0].tolist() == [0, 3]
    observation, *_ = env.step(policy(observation))
    for row, k in enumerate((1, 4)):
        found = observation["value"][row].item()
        assert found == pytest.approx(merits(agents.Adam(lr=0.1), int(info["key"][row]))[k], rel=1e-12)


def test_without_reset_it_begins_by_itself() -> None:
    env = gym.make("optenvs/Quadratic-v0", **KEYWORDS)
    policy = agents.bind(agents.Adam(lr=0.1), env)
    observation, info = env.reset(seed=1)
    values = []
    for _ in range(10):
        values.append(observation["value"].item())
        observation, *_ = env.step(policy(observation))
    assert values == merits(agents.Adam(lr=0.1), info["key"])[:10]
    with pytest.raises(RuntimeError, match="under way whose beginning it has not seen"):
        agents.bind(agents.Adam(), env)(observation)


def test_what_does_not_fit_says_why() -> None:
    env = gym.make("optenvs/Quadratic-v0", oracle="value")
    with pytest.raises(OracleMismatch, match="Adam needs the oracle.* gradient, but Quadratic answers value"):
        agents.bind(agents.Adam(), env)
    with pytest.raises(TypeError, match="env: expected an environment of optenvs.*got PendulumEnv"):
        agents.bind(agents.Adam(), gym.make("Pendulum-v1"))
    with pytest.raises(TypeError, match="use optenvs.rollout"):
        agents.bind(agents.Adam(), optenvs.make("Quadratic"))
    with pytest.raises(TypeError, match="agent: expected an object with init and act, got function"):
        agents.bind(lambda seen: seen["point"], env)
    flat = gym.wrappers.FlattenObservation(gym.make("optenvs/Quadratic-v0"))
    policy = agents.bind(agents.Adam(), flat)
    with pytest.raises(TypeError, match="got ndarray; a wrapper has changed it"):
        policy.reset(*flat.reset(seed=0))
