"""Temporally-aware discovery of reinforcement learning (Jackson et al., ICLR 2024): how rules are found."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
from optenvs.core.random import keys_from_seed
from optenvs.core.struct import static, struct
from optenvs.dynamics.grid_levels import LEVELS
from optenvs.envs.meta.discovery import life, surrogate
from optenvs.envs.meta.discovery.learner import play
from optenvs.models.lpg import LPG
from optenvs.models.tabular.rules import LearnedGradient, Optimiser

pytestmark = pytest.mark.paper
DOUBLE = torch.float64


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


# B7: evolution strategies ----------------------------------------------------------------------


@struct
class Swarm:
    """What an agent may know of a population's problem."""

    recommend: str = static(default="agent")


def answered(points: Tensor, value: Tensor, k: int) -> dict[str, Tensor]:
    time = torch.full((1, 1), float(k), dtype=DOUBLE)
    return {"point": points, "value": value.unsqueeze(-1), "k": time, "N": torch.full_like(time, 100.0)}


def test_b7_the_pair_rank_gradient_of_a_line() -> None:
    dim, pairs, std = 50, 4000, 0.1
    slope = normal(0, dim)
    slope = slope / slope.norm()
    agent = agents.make("open_es", lr=1.0, std=std, shaping="pair_rank", optimizer="sgd", momentum=0.0)
    start = torch.zeros(1, 2 * pairs, dim, dtype=DOUBLE)
    memory = agent.init(Swarm(), answered(start, start[..., 0], 0), keys_from_seed(3, 1))
    action, memory = agent.act(memory, answered(start, start[..., 0], 0))
    points = action["query"]
    assert (points[:, ::2] + points[:, 1::2]).abs().max() < 1e-12, "pairs are side by side"
    # the environment answers minus the fitness, which is a x
    action, _ = agent.act(memory, answered(points, -(points @ slope), 1))
    moved = action["recommendation"][0]
    expected = math.sqrt(2 / math.pi) / (2 * std)
    assert expected == pytest.approx(3.989, abs=1e-3)
    assert float(moved.norm()) == pytest.approx(expected, rel=0.05)
    assert float(moved @ slope / moved.norm()) > 0.97


def test_b7_one_ask_and_tell_is_evosaxs_formula() -> None:
    """grad = sum of z_i f_i / (P s) over antithetic z, minimised by plain descent."""
    count, dim, std, lr = 16, 5, 0.3, 0.7
    agent = agents.make("open_es", lr=lr, std=std, shaping="none", optimizer="sgd", momentum=0.0)
    start = normal(0, 1, 1, dim).expand(1, count, dim)
    memory = agent.init(Swarm(), answered(start, start[..., 0], 0), keys_from_seed(3, 1))
    action, memory = agent.act(memory, answered(start, start[..., 0], 0))
    points, value = action["query"], normal(1, 1, count)
    action, _ = agent.act(memory, answered(points, value, 1))
    z = (points - start[:, :1]) / std
    grad = (z * value.unsqueeze(-1)).sum(1) / (count * std)
    torch.testing.assert_close(action["recommendation"], start[:, 0] - lr * grad, rtol=0, atol=1e-12)


# B9: the meta-gradient -------------------------------------------------------------------------


class Kept:
    """Answers of a function: noted in order, then given again in that order, whatever is asked."""

    def __init__(self, function: Any) -> None:
        self.function, self.noted, self.place, self.noting = function, [], 0, True

    def __call__(self, *args: Any) -> Any:
        if self.noting:
            self.noted.append(self.function(*args))
            return self.noted[-1]
        self.place += 1
        return self.noted[(self.place - 1) % len(self.noted)]


@pytest.mark.parametrize("attached", [True, False])
@torch.no_grad()
def test_b9_the_meta_gradient_is_that_of_differences(attached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = LearnedGradient(LPG(4, 4, 8, timed=True), attached=attached)
    setting = surrogate.Setting(rule, LEVELS["tiny"], (10, 10), 4, 6, 3, Optimiser())
    learners = surrogate.begin(setting, keys_from_seed(0, 3), DOUBLE)
    weights = rule.draw(keys_from_seed(1, 1), DOUBLE)
    windows = Kept(play)  # actions are constants: those at the first weights
    for module in (life, surrogate):
        monkeypatch.setattr(module, "play", windows)
    views = Kept(lambda chosen, critic: (chosen.detach(), critic.detach()))
    ask = LPG.__call__

    def held(
        net: LPG, weights: Tensor, reward: Tensor, over: Tensor, chosen: Tensor, critic: Tensor, time: Any
    ):
        if not attached:  # what is cut in the gradient is constant in the differences
            chosen, critic = views(chosen, critic)
        return ask(net, weights, reward, over, chosen, critic, time)

    monkeypatch.setattr(LPG, "__call__", held)
    found = surrogate.ask(setting, learners, weights)
    assert not found.lost.any() and found.gradient.abs().max() > 1e-4
    windows.noting = views.noting = False

    def value(at: Tensor) -> float:
        return float(surrogate.ask(setting, learners, at).value)

    for seed in range(12):
        direction = normal(10 + seed, *weights.shape)
        direction = direction / direction.norm()
        difference = (value(weights + 1e-6 * direction) - value(weights - 1e-6 * direction)) / 2e-6
        assert float((found.gradient * direction).sum()) == pytest.approx(difference, abs=1e-5 * 1e-2)


# B8: a rule is learnt; the whole takes minutes, and its figures stand in the example -------------


@pytest.fixture(scope="module")
def example() -> Any:
    """The example as a module."""
    place = Path(__file__).parents[2] / "examples" / "discover_rule.py"
    spec = importlib.util.spec_from_file_location("discover_rule", place)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.ci
@pytest.mark.slow  # twenty thousand lives, twice
def test_b8_a_rule_is_learnt_in_a_minute_and_none_by_chance(example: Any) -> None:
    found = example.discover(example.environment(), 160, 2)
    assert found["held_out"] >= 0.45 and found["last"] > found["first"] + 0.1
    assert example.discover(example.environment(), 160, 0, control=True)["held_out"] < 0.3


def test_b8_the_example_runs_at_toy_size(example: Any, tmp_path: Path) -> None:
    small = {"particles": 4, "lifetime": (2, 3), "held_out_levels": 4, "held_out_lifetime": 3}
    plain = example.discover(example.environment(**small), 2, 0, out=tmp_path / "rule")
    chance = example.discover(example.environment(**small), 2, 0, control=True)
    assert plain.keys() == chance.keys() and plain["optimum"] == chance["optimum"] > 0
    assert plain["held_out"] != chance["held_out"], "winners by chance move the weights elsewhere"
    written = agents.LPG.load(tmp_path / "rule")
    with torch.no_grad():
        again = example.environment(**small).judged(written.flat[None])[0]
    assert float(again) == pytest.approx(plain["held_out"], abs=1e-6)
    assert 0 < example.share(written, "tiny", 3, levels=4) <= 1
