"""OPEN: its inputs, its step as a formula, its noise, and what stands in place of what a problem lacks."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.learned.open_rl import FEATURES, activity, layers_of
from optenvs.core import keys_from_seed
from optenvs.core.features import DECAYS
from optenvs.models.base import Slot

LAYOUT = (
    Slot("actor.hidden.weight", (2, 3)),
    Slot("actor.hidden.bias", (2,)),
    Slot("actor.output.weight", (1, 2)),
    Slot("critic.weight", (1, 2)),
)
SIZES = (6, 2, 2, 2)
PROBLEM = SimpleNamespace(model=SimpleNamespace(layout=LAYOUT))
KEYS = keys_from_seed(4, 2)


def seen(k: float = 0.0, steps: float = 9.0, **more: Tensor) -> dict[str, Tensor]:
    point = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(2, 12)
    time = {"k": torch.full((2, 1), k).double(), "N": torch.full((2, 1), steps).double()}
    return {"point": point, "gradient": (3 * point + 1).cos()} | time | more


def made(**settings: Any) -> agents.OPEN:
    agent = agents.OPEN(**({"dtype": "float64", "step_multiplier": 0.1, "exp_multiplier": 0.3} | settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in agent.parameters():
            value += 0.2 * torch.randn(value.shape, dtype=value.dtype, generator=generator)
    return agent


def by_hand(agent: agents.OPEN, f: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The network by torch's own modules: their GRU counts the gate the same way, with two biases."""
    own = dict(agent.net.named_parameters())
    cell = torch.nn.GRUCell(FEATURES, agent.memory, dtype=torch.float64)
    zero = torch.zeros(2 * agent.memory, dtype=torch.float64)
    cell.load_state_dict(
        {
            "weight_ih": own["enter.weight"],
            "weight_hh": own["numbers.carry"],
            "bias_ih": own["enter.bias"],
            "bias_hh": torch.cat((zero, own["numbers.new_bias"])),
        }
    )
    h = cell(f, h)
    y = h
    for i in range(2):
        y = torch.nn.functional.linear(y, own[f"layers.{i}.weight"], own[f"layers.{i}.bias"])
        scale, shift = own[f"numbers.scale{i}"], own[f"numbers.shift{i}"]
        y = torch.relu(torch.nn.functional.layer_norm(y, (agent.hidden,), scale, shift, 1e-6))
    return torch.nn.functional.linear(y, own["out.weight"], own["out.bias"]), h


def test_two_steps_are_the_published_formula() -> None:
    agent = made(noise=False, activity="none")
    assert agent.size == agents.OPEN().size == 1211 and FEATURES == 19
    state, momenta, h = agent.init(PROBLEM, seen(), KEYS), torch.zeros(12, 6).double(), torch.zeros(12, 8)
    h = h.double()
    for k in range(2):
        here = seen(k)
        action, state = agent.act(state, here)
        x, g = here["point"][1], here["gradient"][1]
        columns = []
        for i, decay in enumerate(DECAYS):
            momenta[:, i] = decay * momenta[:, i] + (1 - decay) * g
        columns = [x, *momenta.sign().T, *(momenta.abs() + 1e-13).log().T, g.sign(), (g.abs() + 1e-13).log()]
        told, first = torch.stack(columns, -1), 0
        for size in SIZES:
            part = told[first : first + size]
            told[first : first + size] = part / (1e-5 + part.square().mean(0)).sqrt()
            first += size
        depth = torch.tensor([0.0] * 8 + [0.5] * 2 + [1.0] * 2)
        rest = [torch.full((12,), k / 8), depth, torch.zeros(12), torch.ones(12)]
        answer, h = by_hand(agent, torch.cat((told, torch.stack(rest, -1)), -1), h)
        step = 0.1 * answer[:, 0] * (0.3 * answer[:, 1]).exp()
        torch.testing.assert_close(action[1], x - (step - step.mean()), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(state.carry[1], h, rtol=1e-9, atol=1e-12)


def test_the_shares_of_time_layers_and_passes() -> None:
    """4 passes through each batch in 2 parts: 80 queries are 10 batches."""
    agent = made(epochs=4, minibatches=2)
    state = agent.init(PROBLEM, seen(), KEYS)
    assert state.layers == (0, 0, 1, 2)
    for k, trained, passed in ((0, 0, 0), (7, 0, 1), (8, 1 / 9, 0), (13, 1 / 9, 2 / 3), (79, 1, 1)):
        shares = agent.shares(state, seen(k, 80.0))[0]
        assert shares[0, 0].item() == pytest.approx(trained)
        assert shares[0, 2].item() == pytest.approx(passed)
    assert shares[:, 1].tolist() == [0.0] * 8 + [0.5] * 2 + [1.0] * 2
    unknown = agent.shares(state, seen(5, math.inf))
    assert unknown[:, :, 0].eq(0).all()
    one = agents.OPEN(dtype="float64")
    alone = one.init(None, seen(), KEYS)
    assert one.shares(alone, seen(3, 1.0))[..., 1:3].eq(0).all()
    assert layers_of(["weight", "bias"]) == (0, 0)
    assert layers_of(["a.b.x", "a.b.y", "a.c.x", "a.b.x"]) == (0, 0, 1, 2)


def test_a_dead_unit_is_dormant_and_a_layer_is_active_on_average() -> None:
    agent = made()
    state = agent.init(PROBLEM, seen(), KEYS)
    gradient = torch.tensor([[0.0] * 3 + [1.0, -2.0, 3.0] + [0.0, 6.0] + [0.0, 0.0] + [5.0, 1.0]]).double()
    found = activity(gradient, state)[0]
    # the hidden layer's second unit has gradients of 1, 2, 3, 6, its first one none
    torch.testing.assert_close(found[:8], torch.tensor([0.0] * 3 + [2.0] * 3 + [0.0, 2.0]).double())
    assert found[8:].tolist() == pytest.approx([1.0] * 4), "a layer of one unit, also without any gradient"
    shares = agent.shares(state, seen())
    told = torch.rand(2, 12, dtype=torch.float64)
    assert torch.equal(agent.shares(state, seen(activity=told))[..., 3], told)
    assert not torch.equal(shares[..., 3], told)


def test_noise_comes_to_the_tensors_that_are_named() -> None:
    quiet, first = made(noise=False, centred=False), seen(3)
    settled, _ = quiet.act(quiet.init(PROBLEM, first, KEYS), first)
    actor = made(noise=("actor",), centred=False)
    moved, _ = actor.act(actor.init(PROBLEM, first, KEYS), first)
    assert bool((moved[:, :10] != settled[:, :10]).all())
    assert torch.equal(moved[:, 10:], settled[:, 10:])
    later, _ = actor.act(actor.init(PROBLEM, first, KEYS), seen(4))
    assert not torch.equal(later - settled, moved - settled), "drawn anew at each step"
    everywhere = made()
    action, _ = everywhere.act(everywhere.init(PROBLEM, first, KEYS), first)
    torch.testing.assert_close(action.mean(1), first["point"].mean(1))


@pytest.mark.parametrize(
    "rule", [{"name": "open", "memory": 2, "hidden": 2}, {"name": "li_malik", "hidden": 2, "history": 2}]
)
@pytest.mark.parametrize("estimator", ["full_es", "pes"])
def test_evolution_strategies_train_it(rule: dict[str, Any], estimator: str) -> None:
    """Meta-training takes the rule by its name; luck is of the episode, so that both of a pair share it."""
    options = {"window": 2} if estimator == "pes" else {}
    env = optenvs.make(
        "MetaTraining",
        tasks="Quadratic",
        dim=2,
        rule=rule,
        estimator=estimator,
        particles=4,
        length=4,
        **options,
    )
    run = optenvs.rollout(env, agents.SGD(lr=0.1), batch=2, steps=2, record=("gradient",))
    slopes = run.recorded["gradient"]
    assert bool(slopes.isfinite().all()) and bool((slopes != 0).any())
    again = optenvs.rollout(env, agents.SGD(lr=0.1), batch=2, steps=2, record=("gradient",))
    assert torch.equal(again.recorded["gradient"], slopes)


def test_it_trains_a_network_unrolled_and_bad_input_is_told() -> None:
    env = optenvs.make("TrainDigits", widths=(3,), samples=40, batch_size=8, dtype="float64")
    agent = made(step_multiplier=0.01)
    run = optenvs.unroll(env, agent, batch=2, steps=4)
    slopes = torch.autograd.grad(run.merit[1:].mean(), list(agent.parameters()))
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    assert all(bool((slope != 0).any()) for slope in slopes)
    for wrong, message in (
        ({"memory": 0}, "OPEN: memory: expected a whole number >= 1, got 0"),
        ({"epochs": 0}, "OPEN: epochs: expected a whole number >= 1, got 0"),
        ({"activity": "output"}, "OPEN: activity: expected 'gradient' or 'none', got 'output'"),
        ({"noise": "actor"}, "OPEN: noise: expected True, False or names of tensors, got 'actor'"),
    ):
        with pytest.raises(ValueError, match=message):
            agents.OPEN(**wrong)
    with pytest.raises(ValueError, match="noise: expected names or beginnings of hidden1.weight, .*'critic'"):
        optenvs.rollout(env, made(noise=("critic",)), steps=1)
