"""Hyper-parameters as actions: the two tasks by hand, what is billed and shown, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import agents
import optenvs
from optenvs.core import keys_from_seed
from optenvs.core.env import OptimizationEnv, State
from optenvs.envs.meta.dac.functions import KINDS, draw
from optenvs.envs.meta.dac.sgd import DacSgd
from optenvs.envs.meta.dac.toy_sgd import DacToySgd
from optenvs.envs.training.order import minibatch

KEYS = keys_from_seed(3, 2)
SMALL: dict[str, Any] = {"widths": (3,), "samples": 60, "batch_size": 8, "dtype": "float64"}


def sgd(**more: Any) -> DacSgd:
    env = optenvs.make("DacSgd", **(SMALL | more))
    assert isinstance(env, DacSgd)
    return env


def played(env: OptimizationEnv, actions: Tensor, keys: Tensor = KEYS) -> list[State]:
    """The states of an episode with these actions ``(T, c)``."""
    states = [env.reset(keys)]
    for action in actions:
        states.append(env.step(states[-1], action.expand(len(keys), -1)))
    return states


# Functions of one number -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_exact_and_the_infimum_is_known(kind: str) -> None:
    function = draw(kind, keys_from_seed(1, 50), torch.float64)
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64).expand(50, -1).clone().requires_grad_()
    value, slope = function.value_and_slope(x)
    torch.testing.assert_close(slope, torch.autograd.grad(value.sum(), x)[0], rtol=1e-9, atol=1e-9)
    least = value.amin(1, keepdim=True) - function.least
    assert bool((least >= -1e-12).all())
    if kind == "sigmoid":
        value, slope = function.value_and_slope(torch.full((50, 1), -100.0, dtype=torch.float64))
        assert bool((value < 1e-20).all()) and bool((slope > 0).all())
    else:
        assert bool((least < 1e-4).all())


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_of_the_toy_by_hand(kind: str) -> None:
    env = optenvs.make("DacToySgd", function=kind)
    assert isinstance(env, DacToySgd) and env.horizon == 10
    exponents = -1 - torch.rand(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    states = played(env, exponents)
    start = states[0]
    function, x = start.hidden.function, start.hidden.point
    assert x.shape == (2, 16) and bool((x.abs() <= 5).all()) and bool((start.hidden.velocity == 0).all())
    assert start.observation["remaining"].flatten().tolist() == [10.0, 10.0]
    v = torch.zeros_like(x)
    for k, (lr, momentum) in enumerate(10**exponents, start=1):
        slope = function.value_and_slope(x)[1]
        torch.testing.assert_close(states[k - 1].observation["gradient"], slope)
        v = momentum * v + lr * slope
        x = x - v
        here = states[k]
        assert k > 1 or not torch.equal(x, start.hidden.point), "the first action moves the points"
        torch.testing.assert_close(here.hidden.point, x)
        gap = function.value_and_slope(x)[0] - function.least
        torch.testing.assert_close(here.reward, -gap.log10().mean(1))
        assert here.observation["remaining"][0].item() == 10 - k
        assert here.observation["lr"][0].item() == pytest.approx(math.log10(lr))
        assert here.observation["momentum"][0].item() == pytest.approx(math.log10(momentum))
    assert bool(states[-1].truncated.all()) and not bool(states[-2].truncated.any())
    assert states[-1].calls["gradient"].tolist() == [11 * 16] * 2


def test_the_toy_is_solved_by_the_exact_step_and_its_bad_input_is_told() -> None:
    """A quadratic is at its minimum after one step of 1 / f''; the gap's logarithm stops at -16."""
    env = optenvs.make("DacToySgd", tolerance=1e-3)
    start = env.reset(KEYS)
    rate = (1 / (2 * start.hidden.function.numbers[:, :1])).log10()
    state = env.step(start, torch.cat((rate, torch.full_like(rate, -10.0)), 1))
    state = env.step(state, torch.cat((rate, torch.full_like(rate, -10.0)), 1))
    assert bool(state.terminated.all()) and state.reward.tolist() == pytest.approx([16.0, 16.0])
    for keywords, message in (
        ({"function": "cubic"}, "function: expected one of quadratic, polynomial, sigmoid, got 'cubic'"),
        ({"points": 0}, "points: expected a whole number >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            optenvs.make("DacToySgd", **keywords)


# Networks --------------------------------------------------------------------------------------


def gradients(env: DacSgd, x: Tensor, order: Tensor, query: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient and samples of the minibatch that is number ``query``."""
    number = torch.full((len(x),), query)
    index = env._places[0][minibatch(KEYS, order, number, 8)]
    part = env.inside.pool.at(KEYS, index)
    return *env.inside.objective.value_and_gradient(x, part), index


@pytest.mark.parametrize("interval", ["epoch", "batch"])
def test_an_action_is_adamws_of_torch(interval: str) -> None:
    env = sgd(interval=interval)
    assert env.lasts == (6 if interval == "epoch" else 1)
    assert env.bill == {"step": 1, "gradient": env.lasts, "samples": 8 * env.lasts}
    rates = torch.tensor([[0.05], [0.01], [0.0], [0.03]], dtype=torch.float64)
    states = played(env, rates)
    order = states[0].hidden.order
    x = nn.Parameter(states[0].hidden.point.clone())
    optimizer = torch.optim.AdamW([x], betas=(0.9, 0.999), weight_decay=0.01)
    for k, rate in enumerate(rates.flatten().tolist(), start=1):
        optimizer.param_groups[0]["lr"] = rate
        losses = []
        for turn in range(env.lasts):
            loss, x.grad, _ = gradients(env, x.detach(), order, k * env.lasts + turn)
            losses.append(loss)
            optimizer.step()
        torch.testing.assert_close(states[k].hidden.point, x.detach(), rtol=1e-8, atol=1e-10)
        shown = states[k].observation
        torch.testing.assert_close(shown["loss"].squeeze(-1), torch.stack(losses).mean(0))
        aside = env._places[1]
        held = env.inside.objective.model.apply(x.detach(), env.inside.pool.inputs[aside].unsqueeze(0))
        labels = env.inside.pool.targets[aside]
        expected = nn.functional.cross_entropy(held.mT, labels.expand(2, -1), reduction="none").mean(1)
        torch.testing.assert_close(shown["validation_loss"].squeeze(-1), expected)
        right = (held.argmax(-1) == labels).double().mean(1)
        torch.testing.assert_close(shown["accuracy"].squeeze(-1), right)


def test_a_steered_beta1_is_corrected_by_the_product_of_those_used() -> None:
    env = sgd(interval="batch", beta1=True)
    actions = torch.tensor([[0.05, 0.9], [0.02, 0.1], [0.05, 0.5], [0.01, 0.999]], dtype=torch.float64)
    states = played(env, actions)
    x, m, v = states[0].hidden.point, 0.0, 0.0
    product = 1.0
    for k, (lr, beta1) in enumerate(actions.tolist(), start=1):
        _, g, _ = gradients(env, x, states[0].hidden.order, k)
        m, v = beta1 * m + (1 - beta1) * g, 0.999 * v + 0.001 * g**2
        product *= beta1
        x = x * (1 - lr * 0.01) - lr * m / (1 - product) / ((v / (1 - 0.999**k)).sqrt() + 1e-8)
        torch.testing.assert_close(states[k].hidden.point, x, rtol=1e-8, atol=1e-10)


def test_validation_samples_are_met_by_no_minibatch_and_rows_are_runs() -> None:
    env = sgd()
    order, met = env.reset(KEYS).hidden.order, set()
    for query in range(40):
        met |= set(
            gradients(env, torch.zeros(2, env.inside.network.size).double(), order, query)[2]
            .flatten()
            .tolist()
        )
    aside = set(env._places[1].tolist())
    assert len(aside) == 12 and not met & aside and met | aside == set(range(60))
    rates = torch.tensor([[0.05], [0.02]], dtype=torch.float64)
    both, alone = played(env, rates)[-1], played(env, rates, KEYS[1:])[-1]
    torch.testing.assert_close(alone.hidden.point[0], both.hidden.point[1])


def test_the_reward_comes_at_the_end_and_a_crash_costs_a_hundred() -> None:
    env = sgd(budget=4)
    states = played(env, torch.full((3, 1), 0.02, dtype=torch.float64))
    assert [state.reward.abs().sum().item() for state in states[:-1]] == [0.0] * 3
    assert torch.equal(states[-1].reward, -states[-1].metrics["test_loss"])
    assert bool(states[-1].truncated.all()) and states[-1].metrics["crashed"].tolist() == [0.0, 0.0]
    wild = sgd(most=1e300, budget=9)
    rates = torch.tensor([[1e-2], [1e300], [1e300]], dtype=torch.float64)
    states = played(wild, rates)
    crashed = next(state for state in states if bool(state.truncated.any()))
    assert crashed.reward.tolist() == [-100.0, -100.0] == (-crashed.merit).tolist()
    assert crashed.metrics["crashed"].tolist() == [1.0, 1.0] and not bool(crashed.diverged.any())
    assert bool(crashed.hidden.point.isfinite().all())
    assert all(bool(value.isfinite().all()) for value in crashed.observation.values())
    assert bool((crashed.best < 10).all()), "a crash is no best, and hides none"


def test_a_good_rate_trains_and_none_does_not() -> None:
    env = optenvs.make("DacSgd", widths=(8,), samples=200, budget=9)
    ends = {}
    for rate in (0.0, 0.02):
        policy = agents.from_function(lambda seen, rate=rate: torch.full_like(seen["k"], rate))
        ends[rate] = optenvs.rollout(env, policy, batch=2).metrics["accuracy"][-1].min()
    assert ends[0.0] < 0.4 < 0.7 < ends[0.02]


def test_what_cannot_be_is_refused() -> None:
    for keywords, message in (
        ({"interval": "step"}, "interval: expected one of epoch, batch, got 'step'"),
        ({"validation": 1.0}, r"validation: expected a share in \(0, 1\), got 1.0"),
        (
            {"validation": 0.9},
            "validation: 0.9 of 60 samples sets 54 aside, and leaves 6 for minibatches of 8",
        ),
        ({"most": 0.0}, "most: expected a number > 0, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay: expected a number >= 0, got -1.0"),
        ({"batch_size": None}, "training: batch_size: expected a number of samples, got None"),
        ({"crash": math.inf}, "crash: expected a finite number, got inf"),
        ({"epochs": 3}, "training: epochs=3 of TrainDigits would have no effect"),
        ({"oracle": "minibatch"}, "training: oracle='minibatch' of TrainDigits would have no effect"),
    ):
        with pytest.raises(ValueError, match=message):
            sgd(**keywords)
    with pytest.raises(TypeError, match="training: expected an environment that trains a network, got 3"):
        DacSgd(training=3)  # type: ignore[arg-type]


def test_final_value_pays_at_the_end_of_any_episode() -> None:
    env = optenvs.make("Quadratic", dim=2, condition=1.0, reward="final_value", tolerance=1e-2, budget=20)
    run = optenvs.rollout(env, agents.SGD(lr=0.3), batch=8)
    ends = run.done.int().argmax(0)
    assert len(set(ends.tolist())) > 1, "rows end at different times"
    for row, end in enumerate(ends.tolist()):
        assert run.reward[end - 1, row] == -run.merit[end, row] != 0
    assert (run.reward != 0).sum() == 8
    with pytest.raises(
        ValueError, match="reward: final_value needs a merit at each query, which MetaTraining"
    ):
        optenvs.make("MetaTraining", reward="final_value")
