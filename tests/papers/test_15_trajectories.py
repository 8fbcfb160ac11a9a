"""Gradient-normalized smoothness (Semenov, Jaggi, Doikov 2025): published courses, counts and identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gns_problems import chebyshev, first_below, log_sum_exp, operator, valley, values
from torch import Tensor

import agents
import optenvs
from agents.curvature import rules
from agents.curvature._metric import Metric, dot
from agents.curvature._solve import regularised
from optenvs.core import OptimizationEnv
from optenvs.core.linear import times
from optenvs.core.random import keys_from_seed, normal, uniform
from optenvs.core.rollout import agent_keys

Gns, Gradient = agents.GnsNewton, agents.LineSearchGradient


def course(env: OptimizationEnv, agent: Any, accepted: int, metric: str = "value") -> Tensor:
    """A metric by accepted steps, of which each takes about two trials and what is asked at its end."""
    return values(optenvs.rollout(env, agent, steps=3 * accepted + 20), metric)


def assert_course(found: Tensor, expected: dict[int, float], digits: float = 1e-3) -> None:
    for k, value in expected.items():
        assert float(found[k]) == pytest.approx(value, rel=digits), k


# The quadratic ------------------------------------------------------------------------------------


def test_a_quadratic_with_its_closed_form() -> None:
    d = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    env = optenvs.from_function(
        lambda x: (d * x * x).sum() / 2,
        dim=3,
        start=(1.0, 1.0, 1.0),
        oracle="hessian",
        dtype="float64",
        tolerance=None,
        budget=None,
    )
    run = optenvs.rollout(env, Gns(eps=0.0), steps=13, record=("point",))
    found = values(run)
    expected = [55.5, 17.1890834, 3.10473197, 0.372620559, 7.98594565e-3]
    assert_course(found, dict(enumerate(expected)), 1e-7)
    assert_course(found, {5: 5.1487e-7, 6: 5.18e-16}, 1e-3)
    assert int(run.agent_state.work["trials"]) == int(run.agent_state.work["accepted"]) == 6
    assert run.agent_state.size.tolist() == [64.0]
    x = torch.ones(3, dtype=torch.float64)
    for gamma in (1, 2, 4, 8):
        scale = (d * x).norm() / gamma
        x = x * scale / (d + scale)
    assert torch.allclose(run.recorded["point"][8, 0], x, rtol=1e-12)  # a trial and a Hessian a step


# Bookkeeping --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "solver", "steps"),
    [
        (operator(), "cholesky", 70),
        (operator(hessian="fisher_term"), "factor", 45),
        (valley(5.0), "cholesky", 70),
        (log_sum_exp(50, 50, hessian="weighted_gauss_newton"), "cholesky", 40),
    ],
)
def test_step_bound_and_number_of_trials(env: OptimizationEnv, solver: str, steps: int) -> None:
    agent = Gns(solver=solver)
    keys = keys_from_seed(0, 1)
    state = env.reset(keys)
    memory = agent.init(state.problem, state.observation, agent_keys(keys))
    for _ in range(steps):
        action, memory = agent.act(memory, state.observation)
        state = env.step(state, action)
        gamma = memory.size
        assert (memory.metric.norm(memory.step) <= (gamma + agent.eps) * (1 + 1e-12)).all()
        trials, accepted = memory.work["trials"], memory.work["accepted"]
        # gamma is a power of two: a rejection counts like an acceptance's doubling less
        assert torch.equal(trials, 2 * accepted - torch.log2(gamma).long())
    assert int(memory.work["accepted"]) > 8


# The class's constant -----------------------------------------------------------------------------

MU = (0.05, 0.2, 1.0)
CASES = {"exact": (0.0, 1.93), "weighted_gauss_newton": (1.0, 1.50)}


def log_sum(A: Tensor, b: Tensor, x: Tensor, mu: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, gradient, Hessian and weighted Gauss-Newton matrix of mu log sum exp((A x - b) / mu)."""
    scaled = (times(A, x) - b) / mu
    pi = torch.softmax(scaled, -1)
    gradient = times(A.mT, pi)
    whole = A.mT @ (pi.unsqueeze(-1) * A) / mu
    exact = whole - gradient.unsqueeze(-1) * gradient.unsqueeze(-2) / mu
    return mu * torch.logsumexp(scaled, -1), gradient, exact, whole


def ratios(A: Tensor, b: Tensor, x: Tensor, mu: float, kind: str, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """<g+, -h> 2 lambda / ||g+||_*^2, and the decrease over the function test's, of one step each."""
    matrix = A.mT @ A
    metric = Metric(matrix, torch.linalg.cholesky(matrix))
    value, gradient, exact, whole = log_sum(A, b, x, mu)
    scale = metric.dual_norm(gradient) / gamma
    step, good = regularised(exact if kind == "exact" else whole, metric, scale, gradient)
    assert good.all()
    after, slope, *_ = log_sum(A, b, x + step, mu)
    square = metric.dual_norm(slope) ** 2
    return -dot(slope, step) * 2 * scale / square, (value - after) * 8 * scale / square


@pytest.mark.parametrize("kind", CASES)
def test_the_constant_of_log_sum_exp_needs_no_search(kind: str) -> None:
    error, least = CASES[kind]
    keys = keys_from_seed(0, 40)
    A = normal(keys, "A", (30, 10), dtype=torch.float64).repeat_interleave(20, 0)
    b = normal(keys, "b", 30, dtype=torch.float64).repeat_interleave(20, 0)
    lengths = 10 ** uniform(keys, "length", 20, dtype=torch.float64, low=-1.5, high=1.0)
    x = (lengths.unsqueeze(-1) * normal(keys, "x", (20, 10), dtype=torch.float64)).reshape(800, 10)
    for mu in MU:
        rule = rules.SelfConcordant(M=2 / mu, error=error / mu)
        gamma = rule(x[:, 0])
        assert float(gamma[0]) == pytest.approx((0.3858 if error else 0.6282) * mu, rel=1e-3)
        first, second = ratios(A, b, x, mu, kind, gamma)
        assert least - 0.02 <= first.min() <= least + 0.08
        assert second.min() >= 1


@pytest.mark.parametrize("mu", [1.0, 0.05])
def test_the_constant_is_sharp_in_one_dimension(mu: float) -> None:
    A = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64).expand(800, 2, 1)
    b = torch.zeros(800, 2, dtype=torch.float64)
    x = torch.linspace(0.01, 8, 800, dtype=torch.float64).unsqueeze(-1) * mu
    for kind, least in (("exact", 2.0), ("weighted_gauss_newton", 2 / (1 + 0.3858 / 2**0.5))):
        gamma = rules.SelfConcordant(M=2 / mu, error=CASES[kind][0] / mu)(x[:, 0])
        assert float(ratios(A, b, x, mu, kind, gamma)[0].min()) == pytest.approx(least, abs=1e-3)
    assert float(ratios(A, b, x, mu, kind, 4 * gamma)[0].min()) == pytest.approx(0.956, abs=2e-3)


def test_the_agent_with_the_constant_rejects_nothing() -> None:
    env = log_sum_exp(50, 50)
    run = optenvs.rollout(env, Gns(gamma=rules.SelfConcordant(M=2.0)), steps=120)
    assert (values(run).diff() < 1e-13).all()
    assert (run.agent_state.work["trials"] == run.agent_state.work["accepted"]).all()
    assert run.metrics["gap"][-1] < 1e-12


# Published counts and courses -----------------------------------------------------------------------


def test_linear_operator() -> None:
    exact = course(operator(), Gns(), 30)
    fisher = course(operator(hessian="fisher_term"), Gns(solver="factor"), 20)
    assert [first_below(found, 1e-10) for found in (exact, fisher)] == [30, 20]
    assert_course(exact, {0: 7.926e6, 10: 2.257e3, 20: 3.56e-4})
    assert_course(fisher, {10: 25.5, 15: 2.76e-5, 20: 2.99e-11}, 2e-3)
    # the metric has a condition number of 1e10
    cholesky = course(operator(hessian="fisher_term"), Gns(), 10)
    assert torch.allclose(cholesky[:11], fisher[:11], rtol=1e-4)
    assert first_below(course(operator(), Gradient(), 28), 1e-10) == 28
    assert first_below(course(operator(metric="identity"), Gradient(), 88), 1e-10) == 88


def test_rosenbrock() -> None:
    newton = course(valley(), Gns(), 53)
    expected = {0: 409, 1: 87.4, 2: 10.57, 3: 6.215, 5: 5.700, 10: 4.295, 20: 1.412, 30: 0.1266, 40: 7.36e-3}
    assert_course(newton, expected | {50: 5.70e-7})
    assert first_below(newton, 1e-8) == 51
    assert first_below(newton, 1e-16) == 53


def test_residuals_of_rosenbrock_to_the_fifth() -> None:
    expected = {
        "exact": {0: 6.766e5, 10: 19.60, 30: 0.1646, 50: 7.95e-7},
        "inexact": {10: 17.57, 30: 0.1942, 50: 1.58e-6},
    }
    counts = []
    for kind, figures in expected.items():
        found = course(valley(5.0, hessian=kind), Gns(), 57)
        assert_course(found, figures)
        counts.append(first_below(found, 1e-8))
    assert counts == [56, 57]


@pytest.mark.parametrize(
    ("n", "m", "mu", "expected"),
    [(50, 50, 1.0, (10, 14, 37)), (200, 200, 1.0, (18, 30, 74)), (50, 200, 0.1, (29, 127, None))],
)
def test_log_sum_exp(n: int, m: int, mu: float, expected: tuple[int, int, int | None]) -> None:
    exact, weighted, gradient = expected
    gaps = course(log_sum_exp(n, m, mu), Gns(), exact, "gap")
    assert first_below(gaps, 1e-8) == exact
    env = log_sum_exp(n, m, mu, hessian="weighted_gauss_newton")
    gaps = course(env, Gns(), weighted, "gap")
    assert first_below(gaps, 1e-8) == weighted
    if gradient is not None:
        assert first_below(course(log_sum_exp(n, m, mu), Gradient(), gradient, "gap"), 1e-8) == gradient


def test_chebyshev_chain() -> None:
    inexact = course(chebyshev(100, hessian="inexact"), Gns(), 50)
    assert_course(inexact, {0: 3360, 5: 51.9, 10: 6.58e-3, 20: 1.34e-8}, 2e-3)
    assert_course(inexact, {30: 4.29e-14, 50: 5.0e-22}, 0.02)
    assert (inexact.diff() < 0).all()
    exact = course(chebyshev(100), Gns(), 30)
    assert_course(exact, {15: 2.70e-4, 30: 5.15e-12}, 2e-3)
    universal = course(chebyshev(100), agents.SuperUniversalNewton(), 20)
    assert_course(universal, {20: 2.16e-5}, 0.02)


# Logistic regression --------------------------------------------------------------------------------


def logistic(noisy: bool, hessian: str = "exact") -> OptimizationEnv:
    generator = np.random.default_rng(0)
    A, w = generator.standard_normal((300, 20)), generator.standard_normal(20)
    noise = 2 * np.linalg.norm(w) * generator.standard_normal(300) if noisy else 0
    data = A, np.sign(A @ w + noise)
    return optenvs.make("LogisticRegression", data=data, hessian=hessian, tolerance=None, budget=None)


def test_logistic_regression_of_separable_labels_is_linear() -> None:
    newton = course(logistic(False), Gns(), 50)
    assert first_below(newton, 1e-6) == 21
    assert newton[50] < 1e-18
    assert_course(course(logistic(False, "fisher"), Gns(), 50), {50: 1.8e-2}, 0.03)


def test_logistic_regression_of_noisy_labels_takes_four_steps() -> None:
    assert first_below(course(logistic(True), Gns(), 5) - 0.59308973, 1e-6) == 4
    assert first_below(course(logistic(True, "fisher"), Gns(), 6) - 0.59308973, 1e-6) == 5
