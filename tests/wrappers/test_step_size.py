"""Step-size control: the action is the learning rate of an optimizer inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecExtractDictObs

import agents
import optenvs
from optenvs.core import OptimizationEnv, keys_from_seed
from optenvs.faces.sb3 import SB3VecEnv
from optenvs.wrappers import StepSizeControl, TimeFeatures

QUADRATIC = optenvs.make("Quadratic", dim=4, budget=101)
DIGITS = optenvs.make("TrainDigits", samples=200, epochs=2)
MOMENTUM = agents.SGD(momentum=0.9)

CONTROLLED = [
    StepSizeControl(QUADRATIC, agents.SGD()),
    StepSizeControl(QUADRATIC, MOMENTUM, repeat=3),
    StepSizeControl(DIGITS, MOMENTUM, repeat=2),
    StepSizeControl(DIGITS, agents.SGD(), per_tensor=True),
    TimeFeatures(StepSizeControl(QUADRATIC, agents.SGD(nesterov=True, momentum=0.5))),
]


@pytest.mark.parametrize("env", CONTROLLED, ids=lambda env: env.name)
def test_checker_passes(env: OptimizationEnv) -> None:
    assert set(optenvs.check(env).skipped) == {"oracle", "menu", "slopes"}


class Constant:
    """One action for ever."""

    def __init__(self, action: list[float]) -> None:
        self.action = torch.tensor([action])

    def init(self, problem, observation, keys):
        return ()

    def act(self, state, observation):
        return self.action.expand(len(observation["k"]), -1), state


@pytest.mark.parametrize("repeat", [1, 3, 7])
def test_a_constant_action_is_the_optimizer_itself(repeat: int) -> None:
    lr = 10.0**-1.5  # the action 0 of a range from -4 to 1
    env = StepSizeControl(QUADRATIC, MOMENTUM, repeat=repeat)
    controlled = optenvs.rollout(env, Constant([0.0]), seed=2, batch=3)
    plain = optenvs.rollout(QUADRATIC, MOMENTUM.replace(lr=lr), seed=2, batch=3)
    steps = [min(repeat * k, 100) for k in range(env.horizon + 1)]
    torch.testing.assert_close(controlled.merit, plain.merit[steps], rtol=1e-4, atol=1e-9)
    assert controlled.calls["gradient"][:, 0].tolist() == [1 + step for step in steps]
    assert controlled.state.truncated.all() and not controlled.done[-2].any()
    torch.testing.assert_close(controlled.reward.sum(0), controlled.best[0] - controlled.best[-1])


@pytest.mark.parametrize("name", ["adabelief", "adagrad", "adam", "adamw", "diffgrad", "rmsprop", "sgd"])
def test_every_gradient_agent_takes_rates_of_tensors(name: str) -> None:
    agent = agents.make(name)
    env = StepSizeControl(DIGITS, agent, per_tensor=True, repeat=2)
    controlled = optenvs.rollout(env, Constant([0.0] * len(env.sizes)), seed=0, batch=2, steps=3)
    plain = optenvs.rollout(DIGITS, agent.replace(lr=10.0**-1.5), seed=0, batch=2, steps=6)
    torch.testing.assert_close(controlled.merit, plain.merit[::2], rtol=1e-4, atol=1e-6)


def test_a_rate_for_each_tensor_moves_only_that_tensor() -> None:
    env = StepSizeControl(DIGITS, agents.SGD(), per_tensor=True, low=-30.0, high=0.0)
    sizes = [slot.size for slot in DIGITS.network.layout]
    assert env.action_space.shape == (len(sizes),)
    state = env.reset(keys_from_seed(0, 2))
    before = state.hidden.inner.observation
    after = env.step(state, torch.tensor([[-1.0, 1.0, -1.0, -1.0]]).expand(2, -1)).hidden.inner.observation
    moved = (after["point"] - before["point"]).split(sizes, dim=1)
    assert [bool(part.abs().max() > 0) for part in moved] == [False, True, False, False]
    torch.testing.assert_close(moved[1], -before["gradient"].split(sizes, dim=1)[1])


def test_features_say_what_happened() -> None:
    env = StepSizeControl(QUADRATIC, agents.SGD(), low=-1.0, high=1.0)
    state = env.reset(keys_from_seed(0, 5))
    names = env.feature_names
    first = dict(zip(names, state.observation["features"].unbind(1), strict=True))
    for name in ("progress", "decrease", "time", "growth", "cosine", "action"):
        assert torch.equal(first[name], torch.zeros(5))
    inner = state.hidden.inner.observation
    after = env.step(state, torch.full((5, 1), -0.5))
    seen = dict(zip(names, after.observation["features"].unbind(1), strict=True))
    then = after.hidden.inner.observation
    cosine = torch.cosine_similarity(inner["gradient"], then["gradient"], dim=1)
    torch.testing.assert_close(seen["cosine"], cosine)
    ratio = (then["value"] / inner["value"]).log10().flatten() / 4
    torch.testing.assert_close(seen["progress"], ratio)
    assert torch.equal(seen["action"], torch.full((5,), -0.5))
    assert torch.equal(seen["time"], torch.full((5,), 1 / 100))
    root = then["gradient"].square().mean(1).sqrt()
    torch.testing.assert_close(seen["gradient"], root.log10() / 4)
    assert (seen["decrease"] > 0).all()


def test_evaluation_reaches_inside() -> None:
    env = StepSizeControl(DIGITS, agents.SGD(), repeat=6)
    assert (DIGITS.evaluations, env.evaluations) == (6, 1)
    run = optenvs.rollout(env, Constant([0.6]), seed=0, batch=2)
    accuracy = run.metrics["test_accuracy"]
    assert (accuracy[-1] > accuracy[0] + 0.2).all()
    inner = env.inner(run.state)
    torch.testing.assert_close(DIGITS.evaluate(inner).metrics["test_accuracy"], accuracy[-1])


@pytest.mark.parametrize("repeat", [1, 4])
def test_an_optimizer_that_leaves_the_box_earns_nothing_outside(repeat: int) -> None:
    core = optenvs.make("Rosenbrock", dim=2, bounds=(-2.0, 0.5), budget=801, start=(0.4, 0.16), tolerance=0.1)
    env = StepSizeControl(core, agents.SGD(), repeat=repeat)
    points = optenvs.rollout(core, agents.SGD(lr=1e-3), record=("point",)).recorded["point"][::repeat, 0]
    run = optenvs.rollout(env, Constant([-0.6]))  # the action of that rate
    outside = (points > 0.5).any(-1)
    assert outside[-1] and not outside[1], "the minimum, (1, 1), is outside"
    assert torch.equal(run.metrics["outside"][:, 0] > 0, outside)
    assert torch.equal(run.best[:, 0], torch.where(outside, torch.inf, run.merit[:, 0]).cummin(0).values)
    assert run.merit[-1] < 0.1 < run.best[-1] and not run.state.terminated
    assert (run.reward[outside[1:]] == 0).all()


def test_a_box_is_told_of_by_an_evaluation_too() -> None:
    core = optenvs.make("Rosenbrock", dim=2, bounds="domain", budget=9)
    env = StepSizeControl(core, agents.SGD())
    state = env.step(env.reset(keys_from_seed(0, 2)), torch.tensor([[-1.0], [-1.5]]))
    assert state.metrics["outside"].tolist() == [0, 1], "an action outside of its own bounds"
    assert env.evaluate(state).metrics["outside"].tolist() == [0, 1]


def test_divergence_ends_the_episode() -> None:
    env = StepSizeControl(optenvs.make("Rosenbrock", budget=60), agents.SGD(), high=1.0)
    run = optenvs.rollout(env, Constant([1.0]), seed=0, batch=4)
    assert run.diverged.all()
    assert (run.calls["gradient"][-1] < 60).all()


def test_stable_baselines_takes_the_features() -> None:
    env = StepSizeControl(QUADRATIC, MOMENTUM, repeat=50)
    vec = VecExtractDictObs(SB3VecEnv(env, 4), "features")
    vec.seed(0)
    observation = vec.reset()
    assert observation.shape == (4, len(env.feature_names)) and observation.dtype == np.float32
    for step in range(2):
        observation, _, done, infos = vec.step(np.zeros((4, 1), np.float32))
        assert np.isfinite(observation).all()
        assert done.all() == (step == 1)
    assert infos[0]["calls"]["gradient"] == 101


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepSizeControl(QUADRATIC, "sgd"), "agent: expected an optimizer with lr and schedule"),
        (
            lambda: StepSizeControl(QUADRATIC, agents.SGD(schedule=agents.schedules.Cosine())),
            "agent: SGD has a schedule already",
        ),
        (lambda: StepSizeControl(QUADRATIC, agents.SGD(), low=1.0, high=1.0), "expected low < high"),
        (lambda: StepSizeControl(QUADRATIC, agents.SGD(), repeat=0), "repeat: expected a whole number"),
        (lambda: StepSizeControl(QUADRATIC.replace(budget=None), agents.SGD()), "needs a budget"),
        (lambda: StepSizeControl(QUADRATIC, agents.SGD(), per_tensor=True), "no layout of several tensors"),
        (lambda: StepSizeControl(QUADRATIC.replace(oracle="value"), agents.SGD()), "answers no 'gradient'"),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_policy_of_stable_baselines_controls_a_rollout() -> None:
    env = StepSizeControl(optenvs.make("TrainDigits", samples=96, widths=(4,), epochs=1), agents.SGD())
    model = PPO("MultiInputPolicy", optenvs.make_sb3(env, num_envs=2), n_steps=2, batch_size=4, seed=0)
    run = optenvs.rollout(env, agents.from_sb3(model), batch=2)
    assert run.metrics["outside"].shape == run.merit.shape and run.done[-1].all()
