"""Muon's steps by hand, which tensors are whose, and the agents of group arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from agents.gradient._polar import polar
from optenvs.core.random import keys_from_seed

LR, DECAY = 0.03, 0.1


def grokking(**keywords: Any) -> Any:
    return optenvs.make("GroupGrokking", **({"group": "S3", "width": 5} | keywords))


@pytest.mark.parametrize(
    ("method", "momentum", "nesterov", "scale"),
    [("paper", 0.99, False, 1.0), ("reference", 0.95, True, 1.0), ("exact", 0.99, False, 1.0)],
)
def test_steps_are_those_written_out(method: str, momentum: float, nesterov: bool, scale: float) -> None:
    """W, (5, 12), by Muon with decoupled decay, V by ``torch.optim.Adam`` with coupled decay."""
    env = grokking()
    agent = agents.Muon(LR, method=method, weight_decay=DECAY, adam_weight_decay=0.2)
    run = optenvs.rollout(env, agent, seed=0, batch=1, steps=4, record=("point", "gradient"))
    points, slopes = run.recorded["point"][:, 0], run.recorded["gradient"][:, 0]
    v = torch.nn.Parameter(points[0, 60:].clone())
    adam = torch.optim.Adam([v], lr=LR, weight_decay=0.2)
    w, mean = points[0, :60].clone(), torch.zeros(60, dtype=torch.float64)
    for step in range(4):
        slope = slopes[step, :60]
        mean = momentum * mean + (1 - momentum) * slope
        ahead = momentum * mean + (1 - momentum) * slope if nesterov else mean
        w = (1 - LR * DECAY) * w - LR * scale * polar(ahead.view(5, 12), method).flatten()
        v.grad = slopes[step, 60:].clone()
        adam.step()
        assert torch.allclose(points[step + 1, :60], w)
        assert torch.allclose(points[step + 1, 60:], v.detach())


def test_scales_have_the_names_and_sizes_of_torch() -> None:
    tall = grokking(width=30)  # W is (30, 12)
    moved = {}
    for scale in ("none", "original", "match_rms_adamw"):
        run = optenvs.rollout(tall, agents.Muon(LR, scale=scale), batch=1, steps=1, record=("point",))
        moved[scale] = (run.recorded["point"][1] - run.recorded["point"][0])[0, :360]
    assert torch.allclose(moved["original"], (30 / 12) ** 0.5 * moved["none"])
    assert torch.allclose(moved["match_rms_adamw"], 0.2 * 30**0.5 * moved["none"])


def whose(env: Any, agent: Any) -> dict[str, bool]:
    """By slot, whether its steps are polar."""
    state = env.reset(keys_from_seed(0, 1))
    memory = agent.init(state.problem, state.observation, keys_from_seed(1, 1))
    return {slot.name: part[3] for slot, part in zip(env.network.layout, memory.parts, strict=True)}


def test_the_last_layer_and_what_is_no_matrix_are_adams() -> None:
    assert whose(grokking(), agents.Muon()) == {"hidden.weight": True, "output.weight": False}
    assert whose(grokking(), agents.Muon(adam=())) == {"hidden.weight": True, "output.weight": True}
    assert whose(grokking(), agents.Muon(adam=("hidden",))) == {"hidden.weight": False, "output.weight": True}
    assert whose(grokking(complex_weights=True), agents.Muon()) == dict.fromkeys(
        ("hidden.weight", "output.weight"), False
    )
    ridge = optenvs.make("RidgeTop", group="S3", width=5)
    assert whose(ridge, agents.Muon()) == {"hidden.weight": True}  # no other matrix is there
    digits = optenvs.make("TrainDigits", widths=(4, 3), samples=50)
    found = whose(digits, agents.Muon())
    assert [name for name, matrix in found.items() if matrix] == ["hidden1.weight", "hidden2.weight"]


def test_it_trains_a_network_with_biases() -> None:
    env = optenvs.make("TrainDigits", samples=200)
    run = optenvs.rollout(env, agents.Muon(2e-2), batch=2, steps=20)
    assert bool((run.best[-1] < 0.6 * run.best[0]).all())


def test_names_that_no_layout_has_are_told() -> None:
    with pytest.raises(ValueError, match="adam: no slot or layer 'head' among hidden.weight, output.weight"):
        optenvs.rollout(grokking(), agents.Muon(adam=("head",)), steps=1)
    with pytest.raises(ValueError, match="adam: .*this problem has no layout"):
        optenvs.rollout(optenvs.make("Quadratic"), agents.Muon(adam=("head",)), steps=1)


@pytest.mark.parametrize(
    ("name", "keywords", "told"),
    [
        ("muon", {"method": "svd"}, "method: expected one of paper"),
        ("muon", {"momentum": 1.0}, "momentum: expected"),
        ("muon", {"nesterov": 3}, "nesterov: expected"),
        ("muon", {"scale": "rms"}, "scale: expected one of none"),
        ("muon", {"adam": "output"}, "adam: expected a tuple of names"),
        ("muon", {"adam_lr": 0.0}, "adam_lr: expected a number > 0"),
        ("ridge_top", {"rho": 0.0}, "rho: expected a number > 0"),
        ("ridge_top", {"rho": "a"}, "rho: expected a number > 0"),
        ("energy_ascent", {"lr": 0.0}, "lr: expected a finite number > 0"),
        ("energy_ascent", {"lr": float("inf")}, "lr: expected a finite number > 0"),
        ("energy_ascent", {"coupling": "svd"}, "coupling: expected one of none"),
    ],
)
def test_settings_that_are_refused(name: str, keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        agents.make(name, **keywords)


def test_the_top_is_the_ridge_solution_before_every_gradient() -> None:
    env = grokking(oracle="minibatch")
    run = optenvs.rollout(env, agents.RidgeTop(rho=0.1, lr=0.01), batch=2, steps=3, record=("point",))
    state = env.reset(keys_from_seed(0, 2))
    part = env.part(state.hidden.train)
    labels = torch.eye(6, dtype=torch.float64)[part.targets] - 1 / 6
    for step in (1, 3):
        weights = env.network.unflatten(run.recorded["point"][step])
        f = env.network.features(weights, part.inputs)
        v = torch.linalg.solve(f.mT @ f + 0.1 * torch.eye(5), f.mT @ labels)
        assert torch.allclose(weights["output.weight"], v.mT)
    first, second = run.recorded["point"][:2, :, :60]
    assert torch.equal(first, second)  # W moves after the first ridge solution
    assert torch.allclose(
        (run.recorded["point"][2, :, :60] - second).abs(), torch.tensor(0.01).double(), rtol=1e-3
    )
    assert run.work is not None
    assert run.work["systems"][-1].tolist() == [3, 3]


def test_a_top_that_it_cannot_solve_is_told() -> None:
    with pytest.raises(TypeError, match="needs a model with features"):
        optenvs.rollout(optenvs.make("TrainDigits", oracle="minibatch"), agents.RidgeTop(), steps=1)
    with pytest.raises(TypeError, match="expected real numbers"):
        optenvs.rollout(grokking(oracle="minibatch", complex_weights=True), agents.RidgeTop(), steps=1)


def test_nodes_that_move_together_cover_more_irreps() -> None:
    """Alone they are a coupon collector's draws, of eleven irreps that are alike; together they are not."""
    nodes, irreps = 16, 11
    env = optenvs.make("FeatureEnergy", group="Z23", nodes=nodes, budget=None)
    covered = {}
    for coupling in ("none", "exact"):
        run = optenvs.rollout(env, agents.EnergyAscent(coupling=coupling), batch=16, steps=120)
        covered[coupling] = float(run.metrics["covered"][-1].mean())
    assert covered["none"] == pytest.approx(irreps * (1 - (1 - 1 / irreps) ** nodes), abs=0.6)
    assert covered["exact"] > covered["none"] + 0.6
