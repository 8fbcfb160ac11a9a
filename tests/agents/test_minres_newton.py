"""Newton's steps on products alone: what it solves, pays and says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.errors import OracleMismatch

TRIAL = ("value", "constraints", "gradient", "adjoint_product")
PRODUCTS = ("jacobian_product", "adjoint_product", "hessian_product")


@pytest.mark.parametrize("equation", ["linear", "cubic"])
def test_it_controls_a_grid_that_has_no_matrices(equation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optenvs.envs.constrained.pde.DENSE_GRID", 1)
    env = optenvs.make("ConstrainedPde", grid=2, equation=equation, tolerance=1e-2, budget=400)
    assert not {"jacobian", "hessian"} & {*env.oracles}
    run = optenvs.rollout(env, agents.make("minres_newton"), batch=2)
    assert run.state.terminated.all()
    if equation == "linear":
        assert (run.metrics["gap"][-1].abs() < 1e-2).all()
    # a query is a trial, or one product with the system
    spent = run.calls.counts.diff(dim=0)[:, 0]
    bills = {tuple(kind for kind, count in zip(run.calls.kinds, row, strict=True) if count) for row in spent}
    assert bills == {TRIAL, ("adjoint_product",), PRODUCTS}


def test_it_runs_where_the_grid_is_too_fine_for_matrices() -> None:
    env = optenvs.make("ConstrainedPde", grid=16, tolerance=None)
    run = optenvs.rollout(env, agents.make("minres_newton"), steps=12)
    memory = run.agent_state
    assert memory.own.made == 10
    assert memory.own.inner.size < 0.8 * torch.linalg.vector_norm(memory.own.b, dim=-1)
    with pytest.raises(OracleMismatch, match="AdaSketchNewton needs the oracle.*jacobian, hessian"):
        optenvs.rollout(env, agents.make("adasketch_newton"), steps=1)


@pytest.mark.parametrize("problem", ["HS42", "BT10"])
def test_it_finds_points_of_karush_kuhn_and_tucker(problem: str) -> None:
    env = optenvs.make("ConstrainedCutest", problem=problem, tolerance=1e-6, budget=200)
    run = optenvs.rollout(env, agents.make("minres_newton"), steps=200)
    assert run.state.terminated.all()


def test_a_shift_is_tried_where_the_curvature_is_negative() -> None:
    """At x = (0.1, 1) x_1^4 - x_1^2 bends down along the constraint: Newton's step is towards the maximum."""
    env = optenvs.constrained_from_functions(
        lambda x: x[0] ** 4 - x[0] ** 2, lambda x: x[1] - 1, start=(0.1, 1.0), tolerance=1e-4
    )
    found: dict[float | None, float] = {}
    for reduced in (0.05, None):
        run = optenvs.rollout(env, agents.MinresNewton(reduced=reduced), steps=60)
        found[reduced] = float(run.metrics["value"][-1])
    assert found[0.05] == pytest.approx(-0.25, abs=1e-6)
    assert found[None] == pytest.approx(0.1**4 - 0.1**2), "no penalty makes it a direction of descent"


def test_a_system_without_a_solution_ends_its_row() -> None:
    bad = optenvs.constrained_from_functions(
        lambda x: (x**2).sum(),
        lambda x: torch.stack((x[0] + x[1] - 1, (x[0] + x[1]) ** 2 - 3)),
        start=(0.25, 0.25),  # 2 (x_1 + x_2) = 1: the gradients are the same
        tolerance=1e-6,
    )
    run = optenvs.rollout(bad, agents.make("minres_newton"), steps=100)
    assert run.finished.all() and run.agent_state.singular.all()
    assert not run.state.terminated.any()


def test_products_end_at_the_cap_and_that_is_counted() -> None:
    env = optenvs.make("ConstrainedPde", tolerance=None)
    run = optenvs.rollout(env, agents.MinresNewton(cap=4), steps=40)
    memory: Any = run.agent_state
    assert memory.capped > 0
    assert memory.iterations > 1
    assert run.best[-1] < run.best[0] / 2


def test_superlinear_accuracy_follows_the_residual() -> None:
    env = optenvs.make("ConstrainedQuadratic", dim=8, equalities=2, tolerance=1e-4)
    counts = {}
    for theta in (1.0, None):
        run = optenvs.rollout(env, agents.MinresNewton(delta=0.5, theta=theta), steps=200)
        assert run.state.terminated.all()
        counts[theta] = int(run.agent_state.iterations)
    assert counts[None] < counts[1.0]
