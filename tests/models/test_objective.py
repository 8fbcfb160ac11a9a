"""Losses and their curvature on given samples, minibatches or a whole data set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from optenvs import data
from optenvs.core import keys_from_seed
from optenvs.models import CNN, LOSSES, MLP, Objective, Part, RandomFeatures, hinge, logistic, squared

DOUBLE = torch.float64
KEYS = keys_from_seed(0, 3)
G = torch.Generator().manual_seed(0)
MODEL = MLP((4,), 3, (5,), "tanh")
OWN = Part(torch.randn(3, 8, 4, generator=G, dtype=DOUBLE), torch.randint(3, (3, 8), generator=G))
SHARED = Part(OWN.inputs[:1], OWN.targets[:1])
MIXED = Part(OWN.inputs[:1], OWN.targets)
FLAT = MODEL.draw(KEYS, DOUBLE)
VECTORS = torch.randn(3, 2, MODEL.size, generator=G, dtype=DOUBLE)


def test_losses_are_torchs() -> None:
    z, t = torch.randn(3, 8, 4, generator=G, dtype=DOUBLE), torch.randint(4, (3, 8), generator=G)
    for row in range(3):
        best = z[row].masked_fill(functional.one_hot(t[row], 4).bool(), -torch.inf).amax(-1)
        own = z[row].gather(-1, t[row, :, None])[:, 0]
        torch.testing.assert_close(hinge(z, t)[row], (1 - own + best).clamp_min(0).mean())
        distance = functional.mse_loss(z[row], functional.one_hot(t[row], 4).double(), reduction="sum") / 8
        torch.testing.assert_close(squared(z, t)[row], distance)
    one, signs = z[..., :1], t % 2
    expected = functional.binary_cross_entropy_with_logits(one[..., 0], signs.double(), reduction="none")
    torch.testing.assert_close(logistic(one, signs), expected.mean(-1))
    torch.testing.assert_close(hinge(one, signs), (1 - (2 * signs - 1) * one[..., 0]).clamp_min(0).mean(-1))
    torch.testing.assert_close(squared(one, z[..., 1]), (one[..., 0] - z[..., 1]).square().mean(-1))
    torch.testing.assert_close(squared(z, z + 2), torch.full((3,), 16.0, dtype=DOUBLE))


def dense(objective: Objective, part: Part, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, gradient, Hessian and Gauss-Newton matrix of one network, by torch's own transforms."""
    one = Part(*(x[row : row + 1] if len(x) > 1 else x for x in (part.inputs, part.targets)))

    def outputs(w: Tensor) -> Tensor:
        return MODEL.apply(w[None], one.inputs)

    def loss(w: Tensor) -> Tensor:
        return LOSSES[objective.loss](outputs(w), one.targets)[0]

    w = FLAT[row]
    jacobian = torch.func.jacrev(outputs)(w).flatten(0, 2)
    inner = torch.func.hessian(lambda z: LOSSES[objective.loss](z.view(1, -1, 3), one.targets)[0])(
        outputs(w).flatten()
    )
    return (
        loss(w), torch.func.grad(loss)(w), torch.func.hessian(loss)(w), jacobian.T @ inner @ jacobian,
    )  # fmt: skip


@pytest.mark.parametrize("part", [OWN, SHARED, MIXED], ids=["own", "shared", "own labels"])
@pytest.mark.parametrize("piece", [None, 3])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "hinge"])
def test_derivatives(loss: str, piece: int | None, part: Part) -> None:
    objective = Objective(MODEL, loss, piece)
    with torch.no_grad():
        value, gradient = objective.value_and_gradient(FLAT, part)
        again, slope, products = objective.hvp(FLAT, part, VECTORS)
        third, curved = objective.gauss_newton(FLAT, part, VECTORS)
    for x in (again, third, objective.value(FLAT, part)):
        torch.testing.assert_close(x, value)
    torch.testing.assert_close(slope, gradient)
    for row in range(3):
        expected = dense(objective, part, row)
        torch.testing.assert_close(value[row], expected[0])
        torch.testing.assert_close(gradient[row], expected[1])
        torch.testing.assert_close(products[row], VECTORS[row] @ expected[2])
        torch.testing.assert_close(curved[row], VECTORS[row] @ expected[3])


@pytest.mark.parametrize("part", [OWN, SHARED, MIXED], ids=["own", "shared", "own labels"])
def test_a_block_of_points(part: Part) -> None:
    """Four points of each instance, with two vectors at each, are those points one after the other."""
    objective = Objective(MODEL)
    block = FLAT.unsqueeze(1) + 0.1 * torch.arange(4.0, dtype=DOUBLE).view(1, 4, 1)
    vectors = torch.randn(3, 4, 2, MODEL.size, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    with torch.no_grad():
        whole = (
            objective.value(block, part), *objective.value_and_gradient(block, part),
            *objective.hvp(block, part, vectors), *objective.gauss_newton(block, part, vectors),
            objective.hvp(block, part, vectors[:, :, 0])[2],
        )  # fmt: skip
        for q in range(4):
            point, vector = block[:, q], vectors[:, q]
            one = (
                objective.value(point, part), *objective.value_and_gradient(point, part),
                *objective.hvp(point, part, vector), *objective.gauss_newton(point, part, vector),
                objective.hvp(point, part, vector[:, 0])[2],
            )  # fmt: skip
            for many, single in zip(whole, one, strict=True):
                torch.testing.assert_close(many[:, q], single)


def test_networks_with_frozen_features_and_images() -> None:
    images = Part(
        torch.randn(1, 6, 1, 8, 8, generator=G, dtype=DOUBLE), torch.randint(3, (1, 6), generator=G)
    )
    for model in (RandomFeatures((1, 8, 8), 3, (16,)), CNN((1, 8, 8), 3, (2, 3), "tanh")):
        flat, fixed = model.draw(KEYS, DOUBLE), model.draw_fixed(KEYS, DOUBLE)
        vectors = torch.randn(3, 4, model.size, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
        objective = Objective(model)
        with torch.no_grad():
            _, _, products = objective.hvp(flat, images, vectors, fixed)
            _, curved = objective.gauss_newton(flat, images, vectors, fixed)
            ahead, behind = (
                objective.value_and_gradient(flat + s * vectors[:, 2], images, fixed)[1]
                for s in (1e-5, -1e-5)
            )
            block = objective.value(torch.stack([flat, flat + 1], 1), images, fixed)
        torch.testing.assert_close((ahead - behind) / 2e-5, products[:, 2], rtol=1e-6, atol=1e-7)
        assert ((curved * vectors).sum(-1) >= -1e-12).all()  # J' H J of a convex loss
        if fixed is not None:  # linear in what is trained
            torch.testing.assert_close(curved, products)
        torch.testing.assert_close(block[:, 1], objective.value(flat + 1, images, fixed))


def test_differentiable_in_the_inputs() -> None:
    """What data poisoning asks: how the loss of a step depends on a sample."""
    poison = OWN.inputs.clone().requires_grad_()
    objective = Objective(MODEL)

    def after(inputs: Tensor) -> Tensor:
        _, gradient = objective.value_and_gradient(FLAT, Part(inputs, OWN.targets))
        return objective.value(FLAT - 0.5 * gradient, SHARED).sum()

    (slope,) = torch.autograd.grad(after(poison), poison)
    step = torch.randn(slope.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    with torch.no_grad():
        difference = (after(OWN.inputs + 1e-6 * step) - after(OWN.inputs - 1e-6 * step)) / 2e-6
    torch.testing.assert_close((slope * step).sum(), difference, rtol=1e-6, atol=1e-9)


def test_a_damped_gauss_newton_step_on_all_digits_judged_by_the_hinge_loss() -> None:
    """Reads as a user would write it: four networks, all 1,437 images, conjugate gradients, no override."""
    digits = data.tensors(data.load("digits"), standardise="scalar")
    train = Part(digits.train_x.unsqueeze(0), digits.train_y.unsqueeze(0))
    objective = Objective(MLP((1, 8, 8), 10, (16,)), "squared", piece=500)
    point = objective.model.draw(keys_from_seed(0, 4), torch.float32)
    with torch.no_grad():
        first, gradient = objective.value_and_gradient(point, train)
        step, residual, along = torch.zeros_like(point), -gradient, -gradient
        for _ in range(20):
            curved = objective.gauss_newton(point, train, along)[1] + 0.1 * along
            rate = residual.square().sum(-1, keepdim=True) / (along * curved).sum(-1, keepdim=True)
            step, before = step + rate * along, residual
            residual = residual - rate * curved
            weight = residual.square().sum(-1, keepdim=True) / before.square().sum(-1, keepdim=True)
            along = residual + weight * along
        last = objective.value(point + step, train)
        margin = Objective(objective.model, "hinge")
        assert (margin.value(point + step, train) < margin.value(point, train)).all()
        _, correct = objective.score(point + step, train.pieces(500))
    assert (last < 0.5 * first).all(), (first, last)
    assert (correct > 0.5).all(), correct


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Objective(MODEL, "l2"), "loss: expected one of cross_entropy, squared, hinge, logistic"),
        (lambda: Objective(MODEL, "logistic"), "logistic needs a model of one output, got 3"),
        (lambda: Objective(MLP((4,), 1), "cross_entropy"), "two outputs or more, got 1"),
        (lambda: Objective(MODEL, piece=0), "piece: expected a whole number >= 1"),
    ],
)
def test_mistakes_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
