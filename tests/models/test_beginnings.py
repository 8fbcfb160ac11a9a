"""How weights begin, which of them are trained, and features that are drawn and stay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from optenvs.core import keys_from_seed
from optenvs.core.oracles import hvp
from optenvs.models import CNN, MLP, Model, RandomFeatures, cross_entropy, loss_and_gradient, make_model

KEYS = keys_from_seed(0, 3)
DOUBLE = torch.float64


def test_normal_weights_and_no_biases() -> None:
    model = MLP((100,), 10, (200,), init="normal", gain=math.sqrt(2), norm="layer")
    p = model.unflatten(model.draw(KEYS, DOUBLE))
    for name, fan_in in (("hidden1", 100), ("output", 200)):
        weight = p[f"{name}.weight"].flatten()
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        assert (weight.abs() > 2.5 * weight.std()).double().mean().item() == pytest.approx(0.0124, abs=0.006)
        assert p[f"{name}.bias"].abs().max() == 0
    assert (p["norm1.scale"] == 1).all() and (p["norm1.shift"] == 0).all()
    assert not torch.equal(p["output.weight"][0], p["output.weight"][1])


def test_gain_multiplies_the_uniform_beginning_too() -> None:
    one, three = (MLP((5,), 3, (4,), gain=g).draw(KEYS, DOUBLE) for g in (1.0, 3.0))
    torch.testing.assert_close(three, 3 * one)


def test_a_key_names_its_weights_at_every_batch_size() -> None:
    model = MLP((5,), 3, (4,), init="normal")
    torch.testing.assert_close(model.draw(KEYS[1:2], DOUBLE), model.draw(KEYS, DOUBLE)[1:2])


def frozen_and_whole(model: Model, names: tuple[str, ...]) -> tuple[Model, Tensor, Tensor, Tensor, Tensor]:
    """A model with frozen slots, its two vectors, and the flat vector of the same without frozen ones."""
    from dataclasses import replace

    held = replace(model, frozen=names)
    point, fixed = held.draw(KEYS, DOUBLE), held.draw_fixed(KEYS, DOUBLE)
    assert fixed is not None
    whole = model.draw(KEYS, DOUBLE)
    trained = torch.cat(
        [torch.full((slot.size,), slot in held.layout, dtype=torch.bool) for slot in model.layout]
    )
    return held, point, fixed, whole, trained


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (MLP((5,), 3, (6, 4)), ("hidden1",)),
        (MLP((5,), 3, (6, 4), norm="layer"), ("hidden2.weight", "output.bias")),
        (CNN((1, 8, 8), 3, (2, 2)), ("conv1", "conv2")),
    ],
    ids=["first layer", "two slots", "convolutions"],
)
def test_frozen_slots_are_the_same_network(model: Model, names: tuple[str, ...]) -> None:
    held, point, fixed, whole, trained = frozen_and_whole(model, names)
    assert held.size == point.shape[1] == int(trained.sum()) and fixed.shape[1] == model.size - held.size
    torch.testing.assert_close(point, whole[:, trained])
    torch.testing.assert_close(fixed, whole[:, ~trained])
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 7, *model.shape, generator=g, dtype=DOUBLE)
    y = torch.randint(3, (3, 7), generator=g)
    torch.testing.assert_close(held.apply(point, x, fixed), model.apply(whole, x))
    loss, gradient = loss_and_gradient(held, point, x, y, fixed)
    expected, slope = loss_and_gradient(model, whole, x, y)
    torch.testing.assert_close((loss, gradient), (expected, slope[:, trained]))
    torch.testing.assert_close(held.flatten(held.unflatten(point, fixed)), point)
    one = held.apply(point, x, fixed[:1])  # fixed features that networks share
    torch.testing.assert_close(one, held.apply(point, x, fixed[:1].expand_as(fixed)))


def test_fourier_features_are_those_of_the_gaussian_kernel() -> None:
    model = RandomFeatures((3,), 1, (4000,), "cos", bandwidth=2.0)
    fixed = model.draw_fixed(keys_from_seed(1, 1), DOUBLE)
    x = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    p = model.unflatten(model.draw(KEYS[:1], DOUBLE), fixed)
    features = torch.cos(x @ p["hidden1.weight"].mT + p["hidden1.bias"])[0] * math.sqrt(2 / 4000)
    kernel = torch.exp(-torch.cdist(x[0], x[0]).square() / (2 * 2.0**2))
    torch.testing.assert_close(features @ features.T, kernel, atol=0.05, rtol=0)
    assert model.size == 4001


def test_the_loss_of_random_features_is_convex() -> None:
    model = make_model("random_features", (4,), 3, widths=(16,))
    flat, fixed = model.draw(KEYS, DOUBLE), model.draw_fixed(KEYS, DOUBLE)
    assert fixed is not None and fixed[:, -16:].abs().max() == 0  # ReLU features have no biases
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 9, 4, generator=g, dtype=DOUBLE), torch.randint(3, (3, 9), generator=g)
    vectors = torch.randn(3, 20, model.size, generator=g, dtype=DOUBLE)
    with torch.no_grad():
        _, _, products = hvp(lambda w: cross_entropy(model.apply(w, x, fixed), y), flat, vectors)
    assert (products * vectors).sum(-1).min() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((5,), 3, init="xavier"), "init: expected one of uniform, normal, got 'xavier'"),
        (lambda: MLP((5,), 3, gain=0.0), "gain: expected a number > 0"),
        (
            lambda: MLP((5,), 3, frozen=("hidden2",)),
            "frozen: 'hidden2' is no slot or layer",
        ),
        (lambda: MLP((5,), 3, frozen=("hidden1", "output")), "leaves nothing to train"),
        (lambda: MLP((5,), 3, frozen="hidden1"), "frozen: expected a tuple"),
        (lambda: RandomFeatures((5,), 3, (4, 4)), "one hidden width"),
        (lambda: RandomFeatures((5,), 3, (4,), bandwidth=-1.0), "bandwidth: expected a number > 0"),
        (
            lambda: RandomFeatures((5,), 3, (4,)).apply(torch.zeros(1, 15), torch.zeros(1, 2, 5)),
            "fixed: expected hidden1.weight, hidden1.bias frozen slots beside the parameters, got None",
        ),
        (
            lambda: MLP((5,), 3, ()).apply(torch.zeros(1, 18), torch.zeros(1, 2, 5), torch.zeros(1, 1)),
            r"fixed: expected no frozen slots beside the parameters, got \(1, 1\)",
        ),
        (
            lambda: MLP((5,), 3, init="normal").initial(lambda _, s: torch.rand(2, *s)),
            "gauss: hidden1.weight",
        ),
    ],
)
def test_mistakes_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
