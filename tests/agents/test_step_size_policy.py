"""The policy that chooses learning rates: an optimizer that does what the wrapper shows and takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.wrappers import StepSizeControl

SETTINGS: dict[str, Any] = {"low": -2.5, "high": 0.5, "repeat": 3}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_it_is_the_policy_within_the_wrapper(optimizer: str) -> None:
    core = optenvs.make("TrainDigits", samples=64, widths=(4,), batch_size=8, budget=12)
    inside = agents.make(optimizer)
    env = StepSizeControl(core, inside, **SETTINGS)
    policy = agents.StepSizePolicy(optimizer=inside, seed=3, hidden=(8,), **SETTINGS)
    outside = agents.from_function(lambda seen: policy.run(seen["features"]).clamp(-1, 1))
    keys = keys_from_seed(4, 3)
    with torch.no_grad():
        expected = optenvs.rollout(env, outside, keys=keys)
        found = optenvs.rollout(core, policy, keys=keys)
    # the last action is cut short by the budget: 11 steps are 3 + 3 + 3 + 2
    ends = [0, 3, 6, 9, 11]
    torch.testing.assert_close(found.metrics["loss"][ends], expected.metrics["loss"], rtol=1e-4, atol=1e-5)
    assert expected.metrics["loss"][-1].ne(expected.metrics["loss"][0]).all()
    taken = expected.state.hidden.action
    torch.testing.assert_close(found.agent_state.action, taken, rtol=1e-4, atol=1e-5)
    assert len(set(taken.flatten().tolist())) == 3


def test_rows_at_different_steps_choose_in_their_own_time() -> None:
    env = optenvs.make("Quadratic", dim=3, budget=20, tolerance=None)
    policy = agents.StepSizePolicy(repeat=2)
    state = env.reset(keys_from_seed(0, 2))
    memory = policy.init(state.problem, state.observation, state.key)
    seen = state.observation | {"k": torch.tensor([[1.0], [2.0]])}
    _, after = policy.act(memory, seen)
    assert after.action[0] == 0 and after.action[1] != 0


def test_the_network_of_a_trained_model() -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.torch_layers import FlattenExtractor

    core = optenvs.make("Quadratic", dim=3, budget=9, tolerance=None)
    env = StepSizeControl(core, agents.SGD(), low=-2.0, high=0.0)
    net = {"net_arch": [6, 5], "features_extractor_class": FlattenExtractor}

    class Seen:
        """Of the model only the policy is read."""

    def model(env: StepSizeControl, **more: Any) -> Any:
        from gymnasium import spaces

        from optenvs.faces.sb3 import SB3VecEnv

        made = SB3VecEnv(env, 2)
        features = made.observation_space["features"]
        shown = Seen()
        dummy = PPO.policy_aliases["MlpPolicy"]
        keywords: Any = {**net, **more}
        shown.policy = dummy(  # type: ignore[attr-defined]
            features, spaces.Box(-1, 1, env.action_space.shape), lambda _: 1e-3, **keywords
        )
        return shown

    trained = model(env)
    policy = agents.StepSizePolicy.from_sb3(trained, low=-2.0, high=0.0)
    assert policy.hidden == (6, 5)
    seen = torch.linspace(-1, 1, 16).reshape(2, 8)
    expected, _ = trained.policy.predict(seen.numpy(), deterministic=True)
    with torch.no_grad():
        torch.testing.assert_close(policy.run(seen).clamp(-1, 1), torch.from_numpy(expected))
    with pytest.raises(ValueError, match="expected a policy with tanh from 8 features to one rate.*ReLU"):
        agents.StepSizePolicy.from_sb3(model(env, activation_fn=torch.nn.ReLU))
    digits = optenvs.make("TrainDigits", samples=64, widths=(4,), batch_size=8)
    each = StepSizeControl(digits, agents.SGD(), per_tensor=True)
    with pytest.raises(ValueError, match=r"from 8 features to one rate, got layers .*\(6, 20\)"):
        agents.StepSizePolicy.from_sb3(model(each))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"optimizer": "lolv2"}, "optimizer: expected an agent with lr and schedule, and no schedule yet"),
        ({"optimizer": agents.SGD(schedule=agents.schedules.Cosine())}, "and no schedule yet, got SGD"),
        ({"repeat": 0}, "repeat: expected a whole number >= 1, got 0"),
        ({"hidden": ()}, "hidden: expected whole numbers >= 1"),
        ({"low": 2.0}, "high: expected a number > low = 2.0, got 1.0"),
    ],
)
def test_bad_input_is_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        agents.StepSizePolicy(**keywords)


def test_it_is_saved_with_its_optimizer(tmp_path: Any) -> None:
    policy = agents.StepSizePolicy(optimizer=agents.SGD(momentum=0.5), hidden=(3,), repeat=2)
    policy.save(tmp_path / "policy.safetensors")
    found = agents.make("step_size_policy", pretrained=tmp_path / "policy.safetensors")
    assert found.optimizer.momentum == 0.5 and found.hidden == (3,) and found.repeat == 2
    assert torch.equal(found.flat, policy.flat)
