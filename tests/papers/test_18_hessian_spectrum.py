"""Sagun, Evci, Guney, Dauphin and Bottou 2018 (Hessian spectra): curvature, counts, barriers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import Tensor

from optenvs import data, probes
from optenvs.core import keys_from_seed
from optenvs.core.random import normal
from optenvs.models import LOSSES, MLP, Objective, Part

DOUBLE = torch.float64
KEY = keys_from_seed(0, 1)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_the_hessian_by_products_is_torchs_and_its_trace_is_within_three_errors() -> None:
    model = MLP((6,), 4, (8,), "tanh")
    assert model.size == 92
    part = Part(draw(0, 1, 100, 6), torch.arange(100)[None] % 4)
    point = model.draw(KEY, DOUBLE)

    def loss(w: Tensor) -> Tensor:
        return LOSSES["cross_entropy"](model.apply(w[None], part.inputs), part.targets)[0]

    exact = torch.func.hessian(loss)(point[0])
    operator = probes.at_point(Objective(model), point, part)
    found = operator.dense(chunk=30)[0]
    assert (found - exact).abs().max() < 1e-10 and (found - found.T).abs().max() < 1e-12
    trace = probes.hutchinson(operator, KEY, 500)
    assert abs(trace.value[0] - exact.trace()) < 3 * trace.error[0]
    # the error itself is what theory says: 2 (|H|_F^2 - sum H_ii^2) / R
    spread = (2 * (exact.square().sum() - exact.diagonal().square().sum()) / 500).sqrt()
    assert trace.error[0] == pytest.approx(float(spread), rel=0.2)
    top = probes.top_eigenpairs(operator, KEY, 5, tolerance=1e-8)
    torch.testing.assert_close(top.values[0], torch.linalg.eigvalsh(exact).flip(0)[:5], rtol=1e-10, atol=0)


def blobs(k: int, d: int, count: int, seed: int) -> Part:
    """Balanced Gaussian clusters with one mean and one deviation taken from all numbers."""
    random = np.random.default_rng(seed)
    means, labels = random.standard_normal((k, d)), np.arange(count) % k
    x = means[labels] + random.standard_normal((count, d))
    return Part(torch.from_numpy((x - x.mean()) / x.std())[None], torch.from_numpy(labels)[None])


def test_the_hessian_is_the_gauss_newton_matrix_of_the_logits_after_training_and_not_the_fisher() -> None:
    model, part = MLP((20,), 5, (8, 8), "relu"), blobs(5, 20, 60, 0)
    assert model.size == 285
    objective, point = Objective(model), model.draw(KEY, DOUBLE)

    def at(point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kinds = (probes.at_point(objective, point, part, kind=kind).dense()[0] for kind in probes.KINDS)

        def each(w: Tensor) -> Tensor:
            logits = model.apply(w[None], part.inputs)[0]
            return logits.log_softmax(-1).gather(1, part.targets[0, :, None])[:, 0]

        scores = torch.func.jacrev(each)(point[0])
        return (*kinds, scores.T @ scores / 60)  # type: ignore[return-value]

    hessian, gauss, fisher = at(point)
    assert torch.linalg.matrix_rank(fisher) == 60
    zeros = (torch.linalg.eigvalsh(gauss).abs() < 1e-12).sum()
    assert zeros >= max(285 - 240, 25)
    shift = torch.zeros(285, dtype=DOUBLE)
    shift[-5:] = 1  # the same constant on each logit's bias
    assert (hessian @ shift).norm() < 1e-12 and (gauss @ shift).norm() < 1e-12
    values = torch.linalg.eigvalsh(hessian)
    assert -values[0] > 0.1 * values[-1]
    for _ in range(3000):
        point = point - 0.1 * objective.value_and_gradient(point, part)[1]
    hessian, gauss, fisher = at(point)
    values, size = torch.linalg.eigvalsh(hessian), hessian.norm()
    assert values[0] / values[-1] > -0.05
    assert (hessian - gauss).norm() / size < 0.15 and (hessian - fisher).norm() / size > 0.9
    assert (torch.linalg.eigvalsh(gauss).abs() < 1e-12).sum() >= 285 - 240


def test_quadrature_is_exact_for_moments_and_has_no_ghosts() -> None:
    frame = torch.linalg.qr(draw(1, 200, 200))[0]
    spectrum = torch.cat(
        [torch.linspace(-1, 1, 195, dtype=DOUBLE), torch.tensor([5.0, 7, 9, 20, 40]).double()]
    )
    dense = (frame * spectrum) @ frame.T
    operator = probes.matrix((dense + dense.T)[None] / 2)
    start = draw(2, 1, 200)
    theta, mixed = torch.linalg.eigh(probes.lanczos(operator, start, 8, KEY).matrix()[0])
    image = start[0] / start.norm()
    unit = image
    for power in range(16):
        assert float((mixed[0] ** 2 * theta**power).sum()) == pytest.approx(float(unit @ image), rel=1e-8)
        image = dense @ image
    ritz = torch.linalg.eigvalsh(probes.lanczos(operator, start, 200, KEY).matrix()[0])
    torch.testing.assert_close(ritz, spectrum, rtol=0, atol=1e-8)
    found = probes.quadrature(operator, KEY, steps=8, vectors=3)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(1, 3, dtype=DOUBLE))


def test_an_exhausted_krylov_space_is_left_for_the_rest_of_the_spectrum() -> None:
    operator = probes.matrix(torch.diag(torch.tensor([3.0, 3, 1, 1, 0, 0]).double())[None])
    ritz = torch.linalg.eigvalsh(probes.lanczos(operator, torch.ones(1, 6, dtype=DOUBLE), 6, KEY).matrix()[0])
    torch.testing.assert_close(ritz, torch.tensor([0.0, 0, 1, 1, 3, 3]).double(), rtol=0, atol=1e-10)


def covariance(samples: int, size: int, spike: float = 1.0) -> Tensor:
    x = draw(3, size, samples)
    x[0] *= spike**0.5
    return (x @ x.T / samples)[None]


def test_random_matrices_have_their_limits() -> None:
    values = torch.linalg.eigvalsh(probes.matrix(covariance(2000, 400)).dense())[0]
    assert values[-1] == pytest.approx(2.094, rel=0.03) and values[0] == pytest.approx(0.3056, rel=0.07)
    assert (torch.linalg.eigvalsh(covariance(400, 800))[0] < 1e-10).sum() == 400
    for spike, expected, slack in ((6.0, 7.2, 0.12), (1.5, 4.0, 0.04)):
        operator = probes.matrix(covariance(1000, 1000, spike))
        top = probes.top_eigenpairs(operator, KEY, 1, tolerance=1e-4)
        assert float(top.values[0, 0]) == pytest.approx(expected, rel=slack)
        reference = scipy.sparse.linalg.eigsh(covariance(1000, 1000, spike)[0].numpy(), 1, which="LA")[0]
        assert float(top.values[0, 0]) == pytest.approx(reference[0], rel=1e-6)


def test_rows_of_a_batch_are_what_single_runs_are() -> None:
    model, keys = MLP((20,), 5, (8,), "tanh"), keys_from_seed(3, 3)
    part, points = blobs(5, 20, 60, 0), model.draw(keys, DOUBLE)
    many = probes.at_point(Objective(model), points, part)
    together = probes.quadrature(many, keys, steps=6, vectors=2)
    for row in range(3):
        one = probes.at_point(Objective(model), points[row : row + 1], part)
        alone = probes.quadrature(one, keys[row : row + 1], steps=6, vectors=2)
        torch.testing.assert_close(together.nodes[row], alone.nodes[0], rtol=1e-8, atol=1e-10)
    assert normal(keys, "x", 2).shape == (3, 2)


def test_a_point_that_is_no_number_harms_no_other_row() -> None:
    model, keys, part = MLP((20,), 5, (8,), "tanh"), keys_from_seed(3, 2), blobs(5, 20, 60, 0)
    point = model.draw(keys, DOUBLE)
    good = probes.at_point(Objective(model), point, part)
    bad = probes.at_point(Objective(model), torch.stack([point[0], point[1] * torch.nan]), part)
    for ask in (
        lambda operator: probes.top_eigenpairs(operator, keys, 3).values,
        lambda operator: probes.top_eigenpairs(operator, keys, model.size).values,
        lambda operator: probes.quadrature(operator, keys, steps=5, vectors=2).nodes,
        lambda operator: probes.hutchinson(operator, keys, 4).value,
        lambda operator: probes.hutch_pp(operator, keys, 9).value,
    ):
        found = ask(bad)
        torch.testing.assert_close(found[0], ask(good)[0], rtol=1e-8, atol=1e-10)
        assert found[1].isnan().all()


def test_hutch_pp_is_exact_for_a_rank_it_can_hold() -> None:
    low = draw(5, 1, 300, 10)
    operator = probes.matrix(low @ low.mT)
    plus, plain = probes.hutch_pp(operator, KEY, 60), probes.hutchinson(operator, KEY, 60)
    trace = float(low.square().sum())
    assert float(plus.value[0]) == pytest.approx(trace, rel=1e-9)
    assert abs(float(plain.value[0]) - trace) > 1e-3 * trace
    assert int(plus.products[0]) == 60


def test_a_users_module_is_the_same_as_the_projects_and_weighs_its_last_batch() -> None:
    model, part = MLP((20,), 5, (8,), "tanh"), blobs(5, 20, 50, 1)
    module = (
        torch.nn.Sequential(torch.nn.Linear(20, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5)).double().eval()
    )
    point = torch.nn.utils.parameters_to_vector(module.parameters()).detach()[None]
    batches = [(part.inputs[0, i : i + 32], part.targets[0, i : i + 32]) for i in (0, 32)]
    vectors = draw(6, 1, 4, model.size)
    for kind in probes.KINDS:
        ours = probes.at_point(Objective(model), point, part, kind=kind)
        theirs = probes.of_module(module, batches, kind=kind)
        torch.testing.assert_close(ours(vectors), theirs(vectors), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="evaluation mode"):
        probes.of_module(module.train(), batches)


def test_a_layer_is_a_block_of_the_whole() -> None:
    model, part = MLP((20,), 5, (8,), "tanh"), blobs(5, 20, 50, 1)
    point, layer = model.draw(KEY, DOUBLE), model.layout[0].name
    whole = probes.at_point(Objective(model), point, part).dense()
    block = probes.at_point(Objective(model), point, part, layer=layer).dense()
    size = model.layout[0].size
    torch.testing.assert_close(block, whole[:, :size, :size])
    with pytest.raises(ValueError, match="layer"):
        probes.at_point(Objective(model), point, part, layer="nowhere")


def test_outliers_by_three_rules() -> None:
    values = torch.tensor(
        [[100.0, 10, 9, 8, 7, 0.1, 0.09, 0.08, 0.07, -1], [5, 4, 3, 2, 1, 0.9, 0.8, 0.7, 0.6, torch.nan]]
    )
    assert probes.outliers(values).tolist() == [5, -1]
    assert probes.outliers(values[:1], "gap").tolist() == [1]
    assert probes.outliers(values[:1], "heuristic", cut=8.5).tolist() == [3]
    # without the window the first ratio wins
    steep = torch.tensor([[1e4, 10.0, 9, 8, 7, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05]])
    assert probes.outliers(steep).tolist() == [1] and probes.outliers(steep, classes=5).tolist() == [5]
    with pytest.raises(ValueError, match="cut"):
        probes.outliers(values, "heuristic")


def test_a_barrier_is_the_excess_over_the_chord() -> None:
    ends = torch.tensor([[-1.0], [-1.0]]).double(), torch.tensor([[1.0], [2.0]]).double()
    line = probes.barrier(lambda w: (w[..., 0] ** 2 - 1) ** 2, *ends, points=41, low=-1, high=2)
    assert line.losses.shape == (2, 41)
    assert line.barrier[0] == pytest.approx(1.0, rel=0.02) and line.above_ends[1] == 0
    flat = probes.barrier(lambda w: w.square().sum(-1), *ends)
    assert (flat.barrier == 0).all()


@pytest.mark.ci
@pytest.mark.parametrize("classes", [10, 20])
def test_outliers_count_classes(classes: int) -> None:
    model, keys = MLP((100,), classes, (30, 30), "relu"), keys_from_seed(0, 3)
    assert model.size == 3960 + 31 * classes
    parts = [blobs(classes, 100, 1000, seed) for seed in range(3)]
    part = Part(torch.cat([x.inputs for x in parts]), torch.cat([x.targets for x in parts]))
    objective, point = Objective(model), model.draw(keys, DOUBLE)
    for _ in range(1500):
        point = point - 0.1 * objective.value_and_gradient(point, part)[1]
    operator = probes.at_point(objective, point, part)
    top = probes.top_eigenpairs(operator, keys, 2 * classes + 1, tolerance=1e-4)
    count = probes.outliers(top.values, classes=classes)
    assert classes - 2 <= int(count.median()) <= classes + 1


DIGITS = MLP((64,), 10, (50,), "relu")


@functools.cache
def basin() -> tuple[Part, Tensor, Tensor, Tensor]:
    """1000 digits; three networks after large batches, small ones from there, small ones from the start."""
    found = data.digits()
    order = np.random.default_rng(0).permutation(len(found.train_y))[:1000]
    x, y = (torch.from_numpy(z[order]) for z in (found.train_x, found.train_y))
    x = x.flatten(1).to(DOUBLE)
    part = Part(((x - x.mean()) / x.std())[None], y[None])
    random = torch.Generator().manual_seed(0)

    def train(point: Tensor, batch: int) -> Tensor:
        for _ in range(3000):
            rows = torch.rand(len(point), 1000, generator=random).topk(batch).indices
            some = Part(part.inputs[0][rows], part.targets[0][rows])
            point = point - 0.1 * Objective(DIGITS).value_and_gradient(point, some)[1]
        return point

    begin = DIGITS.draw(keys_from_seed(0, 3), DOUBLE)
    large = train(begin, 512)
    return part, large, train(large, 10), train(begin, 10)


@pytest.mark.ci
def test_no_barrier_between_large_batches_and_small_ones_but_between_starts_and_permutations() -> None:
    part, large, after, small = basin()

    def height(first: Tensor, second: Tensor) -> Tensor:
        return probes.barrier(lambda block: Objective(DIGITS).value(block, part), first, second).barrier

    slots = DIGITS.unflatten(after)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    turned = {name: x[..., order] if name == "output.weight" else x for name, x in slots.items()}
    turned |= {name: turned[name][:, order] for name in ("hidden1.weight", "hidden1.bias")}
    copy = torch.cat([turned[slot.name].flatten(1) for slot in DIGITS.layout], 1)
    same = Objective(DIGITS).value
    torch.testing.assert_close(same(copy, part), same(after, part))
    assert (height(large, after) <= 1e-3).all()
    assert (height(small, small.roll(1, 0)) >= 0.03).all()
    assert (height(after, copy) >= 0.05).all()


@pytest.mark.ci
def test_large_batches_end_sharper_at_equal_steps() -> None:
    part, large, _, small = basin()
    operators = [probes.at_point(Objective(DIGITS), w, part) for w in (large, small)]
    keys = keys_from_seed(0, 3)
    sharp = [probes.top_eigenpairs(x, keys, 1, tolerance=1e-5).values[:, 0] for x in operators]
    assert (sharp[0] / sharp[1]).median() > 1.2
