"""Acceptance checks of LV-HBA (Yao et al. 2024) on support vector machines: solutions and projections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from optenvs.core.random import keys_from_seed, normal, uniform
from optenvs.core.struct import rows
from optenvs.envs.bilevel import hinge
from optenvs.envs.bilevel.svm import BilevelSvm

pytestmark = pytest.mark.paper


def problem(**keywords: Any) -> tuple[BilevelSvm, Any, Tensor]:
    env = BilevelSvm(**keywords)
    keys = keys_from_seed(8, 4)
    state = env.reset(keys, evaluate=False)
    return env, env.own(state), keys


def test_the_hypergradient_is_that_of_central_differences() -> None:
    env, own, keys = problem()  # breast cancer, 200 training and 150 validation samples
    x = uniform(keys, "c", 200, dtype=torch.float64, low=-6.0, high=-1.0)
    along = normal(keys, "direction", 200, dtype=torch.float64)
    along = along / along.norm(dim=-1, keepdim=True)
    step = 1e-4 * along
    found = (env.hypergradient(own, x) * along).sum(-1)
    expected = (env.value(own, x + step) - env.value(own, x - step)) / 2e-4
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_projections_are_those_of_a_conic_solver() -> None:
    cvxpy = pytest.importorskip("cvxpy", reason="extra sdp")
    _, own, _ = problem(train=60)
    signed = own.known.signed[0].numpy()
    n, width = signed.shape
    keys = keys_from_seed(3, 20)
    y = 2 * normal(keys, "points", width + n, dtype=torch.float64)
    x = torch.zeros(20, n, dtype=torch.float64)
    geometry = rows(own.known, torch.zeros(20, dtype=torch.int64))  # that of one instance, 20 times
    projected = geometry.joint(x, y)[1]
    variable, at = cvxpy.Variable(width + n), cvxpy.Parameter(width + n)
    margins = signed @ variable[:width] + variable[width:] >= 1
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(variable - at)), [margins])
    for point, ours in zip(y.numpy(), projected.numpy(), strict=True):
        at.value = point
        program.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        assert abs(variable.value - ours).max() < 1e-6


def test_projections_meet_their_optimality_conditions() -> None:
    """y - P(y) is a combination of the active constraints' normals with multipliers >= 0."""
    _, own, keys = problem()
    for size in (0.1, 1.0, 10.0):
        y = size * normal(keys, "points", 231, dtype=torch.float64)
        x = 20 * normal(keys, "c", 200, dtype=torch.float64)
        c, near = own.known.joint(x, y)
        assert torch.equal(c, x.clamp(-8, 2))
        g = own.known.value(near)
        multipliers = (near - y)[:, 31:]  # those of g: xi - xi0
        assert g.max() < 1e-12 and multipliers.min() >= 0
        assert (g * multipliers).abs().max() < 1e-8
        moved = own.known.rows.pulled(multipliers)
        torch.testing.assert_close(near[:, :31] - y[:, :31], moved, rtol=0, atol=1e-8)


@pytest.mark.parametrize("ends", [(-8.0, 2.0), (-8.0, -8.0), (2.0, 2.0), (-6.0, -5.0), (-1.0, 1.0)])
def test_newton_takes_3_to_11_steps_anywhere_in_the_box(ends: tuple[float, float]) -> None:
    env, own, keys = problem(train=400)
    x = uniform(keys, "c", 400, dtype=torch.float64, low=ends[0], high=ends[1])
    found = env.minimum(own, x)
    assert found.solved.all()
    assert found.steps.min() >= 2 and found.steps.max() <= 11


def test_the_lower_solution_meets_its_optimality_conditions() -> None:
    env, own, keys = problem()
    x = uniform(keys, "c", 200, dtype=torch.float64, low=-8.0, high=2.0)
    solution = env.solve(own, x)
    slope = env.lower_slope(own, x, solution.y)[1] + env.pull(own, x, solution.y, solution.multipliers)[1]
    assert slope[:, 200:].abs().max() < 1e-10  # of the Lagrangian, by y
    g = env.constrain(own, x, solution.y)
    assert g.max() < 1e-12 and solution.multipliers.min() >= 0
    assert (g * solution.multipliers).abs().max() < 1e-12


def test_fewer_samples_than_inputs_are_solved_by_their_number() -> None:
    env, own, keys = problem(train=25)
    assert own.known.gram is not None and own.known.gram.shape == (4, 25, 25)
    x = uniform(keys, "c", 25, dtype=torch.float64, low=-8.0, high=2.0)
    target = hinge.Target(x.exp(), torch.ones_like(x), torch.zeros(4, 31, dtype=torch.float64), 0.0)
    direct = hinge.minimise(hinge.Rows(own.known.signed, None), target)
    torch.testing.assert_close(env.minimum(own, x).t, direct.t, rtol=0, atol=1e-10)
