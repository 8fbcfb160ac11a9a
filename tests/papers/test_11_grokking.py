"""Tian 2025 (arXiv 2509.21519): the lazy stage, reconstruction, Muon, and when networks grok."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from agents.gradient._polar import polar
from optenvs.core.random import keys_from_seed, normal
from optenvs.envs.grokking.measures import _signal
from optenvs.envs.grokking.ridge_top import ridge


def network(**keywords: Any) -> Any:
    return optenvs.make("GroupGrokking", **keywords)


# 3: the lazy stage ---------------------------------------------------------------------------------


@functools.cache
def lazy() -> tuple[Tensor, Tensor, Any]:
    """F, Y and the pairs of all of Z7 under 20 normal nodes."""
    env = network(group="Z7", width=20, fraction=1.0)
    pairs = env.tuples
    weight = normal(keys_from_seed(0, 1), "weights", (20, 14), dtype=torch.float64)
    features = env.network.features({"hidden.weight": weight}, pairs.inputs)
    return features, torch.eye(7, dtype=torch.float64)[pairs.targets], pairs


def centred(x: Tensor) -> Tensor:
    return x - x.mean(-2, keepdim=True)


def test_signal_at_the_ridge_solution_is_equation_4() -> None:
    features, labels, _ = lazy()
    f, y = centred(features)[0], centred(labels)[0]
    for eta in (0.3, 20.0):
        wide = eta * torch.linalg.solve(f @ f.T + eta * torch.eye(49), y)
        expected = wide @ (y.T @ f) @ torch.linalg.inv(f.T @ f + eta * torch.eye(20))
        top = ridge(features, labels, eta)
        assert torch.allclose(top.signal[0], expected, atol=1e-10)
        held = top.weights[0].detach()
        at = features[0].clone().requires_grad_()
        loss = centred(labels[0] - at @ held.T).square().sum() / 2
        (slope,) = torch.autograd.grad(loss, at)
        assert torch.allclose(-slope, expected, atol=1e-10)


def test_the_measured_signal_is_that_of_equation_2() -> None:
    features, labels, pairs = lazy()
    top = normal(keys_from_seed(1, 1), "top", (7, 20), dtype=torch.float64)
    at = features.clone().requires_grad_()
    (slope,) = torch.autograd.grad(centred(labels - at @ top.mT).square().sum() / 2, at)
    told = _signal(features, top, pairs, 1.0)
    assert torch.allclose(told["signal"], slope.norm())
    leading = centred(labels) @ centred(labels).mT @ centred(features)
    cosine = -(slope * leading).sum() / (slope.norm() * leading.norm())
    assert torch.allclose(told["alignment"], cosine)


def test_proposition_1_has_the_leading_term() -> None:
    features, labels, _ = lazy()
    f, y = centred(features)[0], centred(labels)[0]
    values, vectors = torch.linalg.eigh(f.T @ f)

    def error(share: float) -> float:
        t = share / values[-1]
        # V(t) of the gradient flow from V = 0 with F fixed
        flow = torch.where(values > 1e-9, -torch.expm1(-t * values) / values.clamp_min(1e-9), t)
        v = vectors @ (flow.unsqueeze(1) * (vectors.T @ f.T @ y))
        leading = t * y @ (y.T @ f)
        return float(((y - f @ v) @ v.T - leading).norm() / leading.norm())

    assert error(1e-2) < 0.01
    assert 8 < error(1e-2) / error(1e-3) < 12


def test_theorem_6_repulsion_on_all_pairs() -> None:
    features, _, _ = lazy()
    f, eta, right = centred(features)[0], 0.3, 0
    inverse = torch.linalg.inv(f.T @ f + eta * torch.eye(20))
    for j in range(20):
        for i in range(j):
            rest = f[:, [k for k in range(20) if k not in (i, j)]]
            projected = torch.eye(49) - rest @ torch.linalg.solve(rest.T @ rest + eta * torch.eye(18), rest.T)
            right += bool(torch.sign(inverse[i, j]) == -torch.sign(f[:, i] @ projected @ f[:, j]))
    assert right == 190


def test_the_kernel_of_lemma_1_for_pairs_of_unit_vectors() -> None:
    """E f_i f_j = 4 + 2 (x_i'x_j)^2: centred, 4 on interactions, where all of Y~ lies, and 4 + 2M beside."""
    order = 7
    pairs = network(group="Z7", width=1, fraction=1.0).tuples
    inputs = torch.eye(14, dtype=torch.float64)[pairs.inputs[0] + torch.tensor([0, order])].sum(1)
    kernel = centred(centred(4 + 2 * (inputs @ inputs.T).square()).T)
    values = torch.linalg.eigvalsh(kernel)
    found, counts = torch.unique(values.round(decimals=9).abs(), return_counts=True)
    assert found.tolist() == pytest.approx([0, 4, 4 + 2 * order])
    assert counts.tolist() == [1, (order - 1) ** 2, 2 * (order - 1)]
    y = centred(torch.eye(order, dtype=torch.float64)[pairs.targets[0]])
    assert torch.allclose(kernel @ y, 4 * y)


# 4: reconstruction ---------------------------------------------------------------------------------


def left_over(order: int, nodes: np.ndarray) -> float:
    """The share of Y~ that the best V leaves, for these hidden weights ``(K, 2M)``."""
    complex_weights = np.iscomplexobj(nodes)
    env = network(group=f"Z{order}", width=len(nodes), fraction=1.0, complex_weights=complex_weights)
    weight = torch.tensor(nodes).unsqueeze(0)
    weight = torch.view_as_real(weight) if complex_weights else weight
    features = env.network.features({"hidden.weight": weight}, env.tuples.inputs)[0].numpy()
    y = centred(torch.eye(order, dtype=torch.float64)[env.tuples.targets[0]]).numpy()
    f = features - features.mean(0)
    v = np.linalg.lstsq(f, y, rcond=1e-10)[0]
    return float(np.linalg.norm(y - f @ v) ** 2 / np.linalg.norm(y) ** 2)


def waves(order: int, phases: Any, signs: tuple[int, ...] = (1,)) -> np.ndarray:
    """A node for each frequency, pair of phases and sign."""
    m = np.arange(order)
    rows = []
    for k in range(1, (order + 1) // 2):
        for a, b in phases(k):
            u, v = (np.cos(2 * np.pi * k * m / order + phase) for phase in (a, b))
            rows += [np.concatenate((u, sign * v)) for sign in signs]
    return np.array(rows)


@pytest.mark.parametrize("order", [7, 11])
def test_reconstruction(order: int) -> None:
    m, k = np.arange(order), np.arange(1, order)[:, None]
    character = np.exp(2j * np.pi * k * m / order)
    exact = np.concatenate([np.concatenate((character, sign * character), 1) for sign in (1, -1)])
    assert len(exact) == 2 * (order - 1)
    assert left_over(order, exact) < 1e-12
    rng = np.random.default_rng(0)
    mirrored = waves(order, lambda k: [(p, -p) for p in rng.uniform(0, 2 * np.pi, 40)], (1, -1))
    assert left_over(order, mirrored) == pytest.approx(0.5, abs=1e-9)
    quarter = np.pi / 2
    free = waves(order, lambda k: [(0, 0), (quarter, quarter), (0, quarter), (quarter, 0)], (1, -1))
    assert len(free) == 4 * (order - 1)
    assert left_over(order, free) < 1e-12


# 6: Muon -------------------------------------------------------------------------------------------


def gaussian(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return normal(keys_from_seed(seed, 1), "matrix", (64, 32), dtype=dtype)


@pytest.mark.parametrize(("method", "low", "high"), [("reference", 0.6, 1.2), ("paper", 0.85, 1.2)])
def test_singular_values_after_newton_and_schulz(method: str, low: float, high: float) -> None:
    values = torch.linalg.svdvals(polar(gaussian(0), method))
    assert low <= float(values.min()) <= float(values.max()) <= high


def test_lemma_2_the_exact_polar_factor() -> None:
    matrix = gaussian(1, torch.float64)[0]
    factor = polar(matrix, "exact")
    assert torch.allclose(factor.T @ factor, torch.eye(32, dtype=torch.float64))
    assert float((factor * matrix).sum()) == pytest.approx(float(torch.linalg.svdvals(matrix).sum()))
    assert not polar(torch.zeros(3, 2), "exact").any()


def test_lemma_9_a_small_column_beside_orthonormal_ones() -> None:
    basis = torch.linalg.qr(gaussian(2, torch.float64)[0, :, :8])[0]
    drawn = 1e-4 * gaussian(3, torch.float64)[0, :, 0]
    inside = basis @ (basis.T @ drawn)
    outside = drawn - inside
    column = polar(torch.cat((basis, drawn.unsqueeze(1)), 1), "exact")[:, -1]
    expected = outside / outside.norm() + inside / (1 + outside.norm())
    assert float((column - expected).norm()) < 1e-6


def test_a_step_is_that_of_torch_in_half_precision() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch.optim.Muon came with torch 2.9")
    for seed in range(10):
        slope = gaussian(seed)[0]
        parameter = torch.nn.Parameter(torch.zeros(64, 32))
        parameter.grad = slope.clone()
        theirs = torch.optim.Muon([parameter], lr=1.0, weight_decay=0.0)
        theirs.step()
        own = 2**0.5 * polar(slope, "reference")
        assert float((parameter.data + own).abs().max()) < 3e-2
        assert float((parameter.data + own).norm() / own.norm()) < 3e-2


def test_theorem_8_leaders_and_coupons() -> None:
    mu, power = torch.tensor([1.0, 0.8, 0.6, 0.5], dtype=torch.float64), 2.0
    p = mu**power / (mu**power).sum()
    assert p.tolist() == pytest.approx([0.4444, 0.2844, 0.16, 0.1111], abs=1e-4)
    keys = keys_from_seed(0, 1)
    luck = optenvs.core.random.uniform(keys, "frechet", (480_000, 4), dtype=torch.float64)[0]
    leader = (mu * (-luck.log()) ** (-1 / power)).argmax(-1)  # Frechet(a) draws
    assert torch.allclose(torch.bincount(leader, minlength=4).double() / len(leader), p, rtol=0.03)
    # the time until all four have led, of independent draws
    draws = leader.view(-1, 120)
    seen = torch.stack([(draws == one).to(torch.int8).argmax(-1) for one in range(4)], -1)
    assert bool(torch.stack([(draws == one).any(-1) for one in range(4)]).all())
    t = torch.linspace(0, 400, 400_001, dtype=torch.float64)
    waiting = float(torch.trapezoid(1 - (1 - torch.exp(-p * t.unsqueeze(1))).prod(-1), t))
    assert waiting == pytest.approx(12.24, abs=0.005)
    assert float(seen.amax(-1).double().mean() + 1) == pytest.approx(waiting, rel=0.03)
    assert 2**-power * waiting + (1 - 2**-power) * 4 == pytest.approx(6.06, abs=0.005)


# 7, 8: grokking ------------------------------------------------------------------------------------


@functools.cache
def first_at(v_init: float) -> tuple[list[int], Any]:
    """The epochs at which three seeds of Z23 pass 95 % on what is held out, and the run's metrics."""
    env = network(v_init=v_init, dtype="float32")
    run = optenvs.rollout(env, agents.Adam(lr=5e-3, weight_decay=5e-5), batch=3, steps=300)
    passed = run.metrics["test_accuracy"] > 0.95
    return [int(column.nonzero()[0]) for column in passed.T], run


def test_it_memorises_first_and_generalises_later() -> None:
    epochs, run = first_at(1.0)
    assert bool((run.metrics["train_accuracy"][20] > 0.99).all())
    assert bool((run.metrics["test_accuracy"][20] < 0.1).all())
    assert all(80 <= epoch <= 300 for epoch in epochs)


def test_zero_initialisation_helps_on_every_seed() -> None:
    slow, fast = first_at(1.0)[0], first_at(0.0)[0]
    assert all(b < a for a, b in zip(slow, fast, strict=True))
    assert np.median(slow) >= 1.3 * np.median(fast)
    env = network(v_init=0.0)
    start = env.reset(keys_from_seed(0, 2)).observation["point"]
    assert not start[:, -env.network.layout[-1].size :].any()


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.8, 0.0, 0.1), (1.3, 0.97, 1.01)])
def test_boundary_of_the_data(ratio: float, low: float, high: float) -> None:
    env = network(group="Z41", ratio=ratio, goal=0.97, dtype="float32", evaluation_period=100)
    run = optenvs.rollout(env, agents.Adam(lr=5e-3, weight_decay=2e-4), batch=2, steps=1500)
    assert bool((run.metrics["train_accuracy"].nan_to_num().amax(0) == 1).all())
    best = run.metrics["test_accuracy"].amax(0)
    assert bool(((low <= best) & (best < high)).all()), best


def test_share_at_the_critical_ratio() -> None:
    for order, expected in ((23, 0.375), (41, 0.249), (71, 0.165), (127, 0.105)):
        env = network(group=f"Z{order}", ratio=1.0, width=2)
        assert env.share == pytest.approx(expected, abs=5e-4)
    assert network(group="Z71", fraction=0.4, width=2).train_count == 2016
    assert network(group="Z127", fraction=0.2, width=2).train_count == 3225
