"""Barycenter: the mixture, the known optimum, the gradients, the constraints, a classifier of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from optenvs import data
from optenvs.core.random import keys_from_seed
from optenvs.data import CorruptData
from optenvs.data.weights import load_weights
from optenvs.envs.surrogate.barycenter import SHAPES, Barycenter, classify

KEYS = keys_from_seed(5, 4)


def reach(env: Barycenter, point: torch.Tensor) -> Any:
    return env.step(env.reset(KEYS), point.expand(len(KEYS), -1))


def test_the_classifier_reads_digits() -> None:
    digits = data.load("mnist")
    weights = {name: tensor.double() for name, tensor in load_weights("barycenter").items()}
    logits = classify(weights, torch.tensor(digits.test_x, dtype=torch.float64))
    right = (logits.argmax(-1) == torch.tensor(digits.test_y)).double().mean()
    assert right > 0.95


def test_outputs_are_the_classifier_on_the_mixture() -> None:
    env = Barycenter(images=3, white_box=True)
    state = reach(env, torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64))
    share = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64).exp()
    share = share / share.sum()
    mixed = (share[:, None] * state.problem.weights.images).sum(1)
    weights = {name: tensor.double() for name, tensor in load_weights("barycenter").items()}
    expected = classify(weights, mixed.view(-1, 1, 28, 28)).softmax(-1)
    assert torch.allclose(state.observation["outputs"][:, :10], expected, atol=1e-12)


def test_images_of_an_instance_are_different_and_the_first_is_the_target() -> None:
    env = Barycenter(images=20)
    draw = env.draw(keys_from_seed(0, 30))
    distance = torch.cdist(draw.data.images, draw.data.images)
    assert (distance + 10 * torch.eye(20) > 1).all()
    assert torch.equal(draw.aim, env.task.probabilities(draw.data.images[:, 0]))
    assert torch.allclose(draw.aim.sum(-1), torch.ones(30, dtype=torch.float64))
    # smoothed classes: the target is told apart, and its probabilities are not saturated
    assert 0.5 < draw.aim.max(-1).values.median() < 0.99


def test_a_shuffled_target_is_any_of_the_images() -> None:
    env, plain = Barycenter(images=4, shuffled=True), Barycenter(images=4)
    keys = keys_from_seed(0, 60)
    draw = env.draw(keys)
    assert torch.equal(draw.data.images, plain.draw(keys).data.images)
    each = env.task.probabilities(draw.data.images)
    place = (each - draw.aim.unsqueeze(1)).abs().amax(-1).argmin(-1)
    assert torch.equal(each[torch.arange(60), place], draw.aim)
    assert (torch.bincount(place, minlength=4) > 5).all()
    corner = torch.full((60, 4), -10.0, dtype=torch.float64).scatter(1, place.unsqueeze(1), 10.0)
    assert (env.step(env.reset(keys), corner).merit < 1e-14).all()
    with pytest.raises(ValueError, match="shuffled: the target of each instance"):
        _ = env.optimum
    with pytest.raises(TypeError, match="shuffled: expected True or False, got 1"):
        Barycenter(shuffled=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
def test_the_known_optimum(formulation: str) -> None:
    env = Barycenter(formulation=formulation, tolerance=1e-12)
    start = env.reset(KEYS)
    assert (start.merit > 1e-3).all() and not start.terminated.any()
    state = env.step(start, env.optimum.expand(len(KEYS), -1))
    assert (state.merit >= 0).all() and (state.merit < 1e-14).all()
    assert state.terminated.all()
    assert torch.equal(state.metrics["gap"], state.merit)
    # another image alone is no optimum
    other = env.step(start, env.optimum.roll(1).expand(len(KEYS), -1))
    assert (other.merit > 1e-6).all()


def test_the_start_is_the_plain_mean_within_the_box() -> None:
    env = Barycenter(images=5, formulation="constraints")
    state = env.reset(KEYS)
    assert torch.equal(state.observation["point"], torch.zeros(4, 5, dtype=torch.float64))
    assert torch.equal(state.observation["constraints"], torch.full((4, 5), -100.0, dtype=torch.float64))
    assert (state.metrics["feasible"] == 1).all()
    assert env.action_space.low.min() == -10 and env.action_space.high.max() == 10


def test_outside_of_the_box_the_penalty_counts() -> None:
    env = Barycenter(images=3)
    point = torch.tensor([11.0, 0.0, 0.0], dtype=torch.float64)
    value = reach(env, point).observation["value"]
    outputs = reach(env, point).observation["outputs"]
    assert torch.equal(outputs[:, 10:], torch.tensor([[21.0, 0.0, 0.0]]).double().expand(4, -1))
    f = -(outputs[:, :10] - env.draw(KEYS).aim).square().sum(-1)
    assert torch.allclose(value[:, 0], 21.0**2 - f)


@pytest.mark.parametrize("formulation", ["penalty", "constraints"])
def test_the_product_is_the_slope(formulation: str) -> None:
    """J' grad f against central differences of the value."""
    env = Barycenter(images=4, points=1, oracle="vjp", formulation=formulation)
    state = env.reset(KEYS)
    low, high = (-3.0, 3.0) if formulation == "constraints" else (8.0, 12.0)
    base = torch.linspace(low, high, 16, dtype=torch.float64).view(4, 4)
    ask = {
        "points": base.unsqueeze(1),
        "count": torch.ones(4, 1, dtype=torch.int64),
        "threshold": torch.full((4, 1), -1e30, dtype=torch.float64),
        "allowance": torch.zeros(4, 1, dtype=torch.float64),
        "base": base,
        "cotangent": torch.zeros(4, env.output_count, dtype=torch.float64),
    }
    here = env.step(state, ask)
    along = state.problem.slope(here.observation["outputs"].squeeze(1))
    product = env.step(state, ask | {"cotangent": along}).observation["vjp"]

    def value(x: torch.Tensor) -> torch.Tensor:
        return env.step(state, ask | {"points": x.unsqueeze(1)}).observation["value"].squeeze(1)

    for i, shift in enumerate(1e-6 * torch.eye(4, dtype=torch.float64)):
        difference = (value(base + shift) - value(base - shift)) / 2e-6
        assert torch.allclose(-product[:, i], difference, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("images", [1, 1001, 2.0, True])
def test_a_wrong_number_of_images(images: Any) -> None:
    with pytest.raises(ValueError, match=r"images: expected a whole number in 2 \.\. 1000"):
        Barycenter(images=images)


def test_a_classifier_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in SHAPES}, file)
    state = Barycenter(weights=str(file)).reset(KEYS)
    assert torch.allclose(state.observation["outputs"][:, :10], torch.full((4, 10), 0.1).double())
    save_file({name: torch.zeros(3, *shape[1:]) for name, shape in SHAPES}, tmp_path / "wrong.safetensors")
    with pytest.raises(
        CorruptData, match=r"expected conv\.0\.weight of shape \(8, 1, 5, 5\).*got \(3, 1, 5, 5\)"
    ):
        Barycenter(weights=str(tmp_path / "wrong.safetensors"))
