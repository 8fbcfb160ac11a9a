"""Tian 2025 (arXiv 2509.21519): the energy of features, in the forms that hold, and its maxima."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed, normal
from optenvs.envs.grokking.energy import exact, sampled, shares
from optenvs.envs.grokking.network import ACTIVATIONS

SMALL = ("Z7", "S3", "Q8", "A4", "Z7:Z3")
MAXIMA: dict[str, set[float]] = {
    "Z7": {0.25},
    "Z8": {0.25, 0.5},
    "Z4xZ2": {0.25, 0.5},
    "S3": {0.25, 0.5},
    "D5": {0.25, 0.5},
    "Q8": {0.125, 0.5},
    "A4": {0.167, 0.25},
    "Z7:Z3": {0.083, 0.25},
    "S4": {0.167, 0.25, 0.5},
}
"""Of E / M, from the specification."""


def energy(group: str, nodes: int = 6, **keywords: Any) -> Any:
    return optenvs.make("FeatureEnergy", group=group, nodes=nodes, tolerance=None, budget=None, **keywords)


def unit(rows: int, wide: int, seed: int = 0) -> Tensor:
    drawn = normal(keys_from_seed(seed, 1), "nodes", (rows, wide), dtype=torch.float64)[0]
    return drawn / drawn.norm(dim=-1, keepdim=True)


def written_out(table: np.ndarray) -> tuple[Tensor, Tensor]:
    """X and Y~ of all pairs, as matrices."""
    order = len(table)
    a, b = (part.ravel() for part in np.meshgrid(np.arange(order), np.arange(order), indexing="ij"))
    one = torch.eye(order, dtype=torch.float64)
    labels = one[torch.tensor(table[a, b])]
    return torch.cat((one[torch.tensor(a)], one[torch.tensor(b)]), 1), labels - labels.mean(0)


@pytest.mark.parametrize("group", SMALL)
def test_energy_and_gradient_are_those_of_theorem_1_and_of_the_corrected_closed_form(group: str) -> None:
    env = energy(group)
    algebra, order = env.algebra, env.algebra.order
    inputs, labels = written_out(algebra.table)
    nodes = unit(6, 2 * order).requires_grad_()
    features = (nodes @ inputs.T).square()
    expected = (features @ labels).square().sum(-1) / 2
    (by_autograd,) = torch.autograd.grad(expected.sum(), nodes)
    by_theorem = ((features @ labels @ labels.T) * 2 * (nodes @ inputs.T)) @ inputs
    assert torch.allclose(by_autograd, by_theorem, atol=1e-10)
    found, slope = exact(env.tables, nodes.detach())
    assert torch.allclose(found, expected, atol=1e-10)
    assert torch.allclose(slope, by_autograd, atol=1e-10)
    pairs = torch.cartesian_prod(torch.arange(order), torch.arange(order)).unsqueeze(0)
    targets = env.tables.table.flatten().unsqueeze(0)
    told = sampled(nodes.detach().unsqueeze(0), pairs, targets, "square")
    assert torch.allclose(told[0][0], expected, atol=1e-10)
    assert torch.allclose(told[1][0], by_autograd, atol=1e-10)
    # 2 sum_h (u~' R_h v~)^2, with R_h e_g = e_hg written out
    u, v = nodes[:, :order], nodes[:, order:][:, algebra.inverse]
    u, v = u - u.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)
    turns = torch.zeros(order, order, order, dtype=torch.float64)
    for h in range(order):
        turns[h, algebra.table[h], np.arange(order)] = 1
    closed = 2 * torch.einsum("nx,hxg,ng->nh", u, turns, v).square().sum(-1)
    assert torch.allclose(closed, expected, atol=1e-10)


@pytest.mark.parametrize("group", SMALL)
def test_energy_is_the_sum_of_its_irreps_and_fitted_ones_fall_out(group: str) -> None:
    """Theorems 2 and 7 with the Frobenius norm: E_k = 2M/d_k |U_k V_k*|^2, also where d_k is 2 or more."""
    env = energy(group)
    irreps, order = env.algebra.irreps, env.algebra.order
    nodes = unit(4, 2 * order, seed=1)
    u, v = nodes[:, :order].numpy(), nodes[:, order:].numpy()[:, env.algebra.inverse]
    table, parts = env.algebra.table, []
    for orbit in irreps.orbits[1:]:
        total = np.zeros(len(u))
        for k in orbit:
            projector = irreps.dims[k] / order * irreps.characters[k].conj()[table[:, env.algebra.inverse]]
            turned = (v @ projector.T)[:, table[env.algebra.inverse]]  # R_h Pi_k v at x
            total = total + 2 * (np.abs(np.einsum("nx,nhx->nh", u, turned)) ** 2).sum(1)
        parts.append(total)
    whole = exact(env.tables, nodes)[0].numpy()
    assert np.allclose(np.sum(parts, 0), whole, atol=1e-12)
    fitted = tuple(range(1, len(irreps.orbits)))[: len(irreps.orbits) - 2]
    left = energy(group, fitted=fitted)
    assert np.allclose(exact(left.tables, nodes, left._rest)[0].numpy(), parts[-1], atol=1e-12)


@functools.cache
def climbed(group: str) -> tuple[Any, Tensor]:
    """150 nodes at their maxima: five times the default rate, a fifth of the steps."""
    env = energy(group, nodes=150)
    agent = agents.EnergyAscent(lr=1 / env.algebra.order)
    return env, optenvs.rollout(env, agent, seed=1, batch=1, steps=800).state.observation["point"][0]


@pytest.mark.parametrize("group", MAXIMA)
def test_catalogue_of_maxima(group: str) -> None:
    env, nodes = climbed(group)
    found = exact(env.tables, nodes)[0] / env.algebra.order
    assert {round(float(value), 3) for value in found} == MAXIMA[group]
    half = nodes[:, : env.algebra.order]
    assert torch.allclose(half.square().sum(-1), torch.full_like(found, 0.5), atol=1e-6)
    assert float(half.mean(-1).abs().max()) < 1e-8
    owner = shares(env.tables, nodes).argmax(-1)
    assert torch.allclose(found * env.algebra.order, env.tables.largest[owner], atol=1e-6)


def test_the_default_rate_reaches_the_maxima_to_rounding() -> None:
    env = energy("Z7", nodes=20)
    run = optenvs.rollout(env, agents.EnergyAscent(), batch=1, steps=4000)
    nodes, ascent = run.state.observation["point"][0], run.state.observation["ascent"][0]
    tangent = ascent - (ascent * nodes).sum(-1, keepdim=True) * nodes
    assert float(tangent.norm(dim=-1).max()) < 1e-13


FLAT = {
    # group: (dimension, type) of an irrep -> zero modes of the Hessian on the sphere
    "Z8": {(1, "real"): 0, (1, "complex"): 2},
    "S3": {(1, "real"): 0, (2, "real"): 3},
    "A4": {(1, "complex"): 2, (3, "real"): 6},
    "Z7:Z3": {(1, "complex"): 2, (3, "complex"): 14},
    "Q8": {(1, "real"): 0, (2, "quaternionic"): 6},
}


@pytest.mark.parametrize("group", FLAT)
def test_zero_modes_at_the_maxima(group: str) -> None:
    env, nodes = climbed(group)
    irreps, found = env.algebra.irreps, {}
    owner = shares(env.tables, nodes).argmax(-1)
    for orbit in owner.unique().tolist():
        node = nodes[owner == orbit][0]
        hessian = torch.func.hessian(lambda w: exact(env.tables, w.unsqueeze(0))[0][0])(node)
        slope = exact(env.tables, node.unsqueeze(0))[1][0]
        flat = torch.eye(len(node), dtype=torch.float64) - torch.outer(node, node)
        values = torch.linalg.eigvalsh(flat @ (hessian - (slope @ node) * torch.eye(len(node))) @ flat)
        assert float(values.max()) < 1e-6  # a maximum
        kind = int(irreps.dims[irreps.orbits[orbit][0]]), irreps.types[orbit]
        found[kind] = int((values.abs() < 1e-6).sum()) - 1  # but for the node itself
    assert found == FLAT[group]


def test_the_two_phases_of_a_maximum_are_free() -> None:
    """Not only u = +- v: the paper's corollary has fewer maxima than there are."""
    env, nodes = climbed("Z7")
    u, v = nodes[:, :7], nodes[:, 7:][:, env.algebra.inverse]
    cosine = (u * v).sum(-1).abs() / (u.norm(dim=-1) * v.norm(dim=-1))
    assert float(cosine.min()) < 0.2 < 0.9 < float(cosine.max())


@pytest.mark.parametrize("name", ["square", "relu"])
def test_memorisation_of_one_target(name: str) -> None:
    """Theorem 5: x^2 takes the most frequent pair alone, ReLU spreads by frequency."""
    sigma = ACTIVATIONS[name]
    p = np.random.default_rng(3).dirichlet(np.ones(8))
    frequency = torch.tensor(p)
    nodes = unit(200, 16, seed=2)
    for _ in range(3000):
        slope = frequency * sigma.slope(nodes[:, :8] + nodes[:, 8:])
        nodes = nodes + 2 * torch.cat((slope, slope), -1)
        nodes = nodes / nodes.norm(dim=-1, keepdim=True)
    found = float((frequency * sigma.value(nodes[:, :8] + nodes[:, 8:])).sum(-1).max())
    expected = 2 * p.max() if name == "square" else math.sqrt(2) * np.linalg.norm(p)
    assert found == pytest.approx(expected, abs=1e-6)


def on_fourier_modes(order: int, nodes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    k, phase = rng.integers(1, order // 2 + 1, (nodes, 1)), rng.uniform(0, 2 * np.pi, (nodes, 2, 1))
    m = np.arange(order)
    halves = np.cos(2 * np.pi * k[:, None] * m / order + phase)
    return halves.reshape(nodes, -1)


@pytest.mark.parametrize(
    ("ratio", "purity", "height"), [(0.5, (0.0, 0.3), (1.0, 9.0)), (2.0, (0.9, 1.0), (0.2, 0.5))]
)
def test_stability_of_the_landscape(ratio: float, purity: Any, height: Any) -> None:
    order, nodes = 23, 40
    share = ratio * 2.7482 * math.log(order) / order
    start = {"start": on_fourier_modes(order, nodes)}
    env = energy(f"Z{order}", nodes, fraction=share, data=start)
    run = optenvs.rollout(env, agents.EnergyAscent(), seed=0, batch=1, steps=1500)
    held = shares(env.tables, run.state.observation["point"][0]).amax(-1)
    assert purity[0] < float(held.median()) < purity[1]
    relative = run.state.observation["energy"][0, :, 0] / (share**2 * order)
    assert height[0] < float(relative.median()) < height[1]
