"""Steps as actions: what is seen, and a policy of Stable-Baselines3 that learns to take them."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import PPO

import agents
import optenvs
from optenvs.core import OptimizationEnv, keys_from_seed
from optenvs.wrappers import Displacement, StepControl

QUADRATIC = optenvs.make("Quadratic", dim=3, budget=41, dtype="float64")
BOUNDED = optenvs.make("Rosenbrock", dim=3, budget=40, bounds="domain", dtype="float64")
CONTROLLED = [
    StepControl(QUADRATIC),
    StepControl(BOUNDED, history=4, limit=0.5),
    StepControl(optenvs.make("TrainDigits", samples=40, widths=(3,), batch_size=8), history=2, scale=0.1),
]


@pytest.mark.parametrize("env", CONTROLLED, ids=lambda env: env.name)
def test_checker_passes(env: OptimizationEnv) -> None:
    assert set(optenvs.check(env).skipped) <= {"oracle", "menu", "slopes"}


def test_the_features_are_the_past() -> None:
    env, keys = StepControl(BOUNDED, history=3, scale=0.2), keys_from_seed(3, 2)
    state, plain = env.reset(keys), Displacement(BOUNDED, scale=0.2).reset(keys)
    values, slopes = [], []
    for turn in range(6):
        values.append(plain.observation["value"])
        slopes.append(plain.observation["gradient"])
        assert set(state.observation) == {"features", "k", "N"}
        seen = state.observation["features"]
        assert seen.shape == (2, 3 + 9)
        for i in range(3):
            there = i < turn
            change = values[-1] - values[-2 - i] if there else torch.zeros(2, 1)
            torch.testing.assert_close(seen[:, i : i + 1], change, check_dtype=False)
            slope = slopes[-1 - i] if i <= turn else torch.zeros(2, 3)
            torch.testing.assert_close(seen[:, 3 + i :: 3], slope, check_dtype=False)
        action = torch.full((2, 3), (-1.0) ** turn).double() * torch.linspace(0.5, 4, 3).double()
        state = env.step(state, action)
        plain = Displacement(BOUNDED, scale=0.2).step(plain, action)
        assert torch.equal(state.merit, plain.merit)
        assert torch.equal(env.inner(state).observation["point"], plain.observation["point"])


def test_a_policy_of_stable_baselines_learns_to_step() -> None:
    """PPO, 5,120 steps: it comes nearer to the minimum than where it began, and than untrained."""
    inside = optenvs.make("Quadratic", dim=2, condition=1.0, reward="negative_value", budget=11)
    env = StepControl(inside, history=2, scale=0.5, limit=1.0)
    model = PPO(
        "MultiInputPolicy",
        optenvs.make_sb3(env, num_envs=64),
        n_steps=20,
        batch_size=320,
        n_epochs=6,
        learning_rate=3e-3,
        gamma=0.9,
        policy_kwargs={"net_arch": [16], "log_std_init": -1.0},
        seed=0,
        device="cpu",
    )
    untrained = optenvs.rollout(env, agents.from_sb3(model), batch=64, seed=9)
    model.learn(5_120)
    run = optenvs.rollout(env, agents.from_sb3(model), batch=64, seed=9)
    end, before = run.merit[-1].mean(), untrained.merit[-1].mean()
    assert end < 0.3 * run.merit[0].mean()
    assert end < 0.5 * before


def test_bad_input_is_told() -> None:
    for wrong in (0, True, 2.5):
        with pytest.raises(ValueError, match="history: expected a whole number >= 1, got"):
            StepControl(QUADRATIC, history=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="StepControl: Quadratic answers no 'gradient'"):
        StepControl(QUADRATIC.replace(oracle="value"))
