"""Methods of trials in the metric of a curvature: what they ask, when they end, and what they find."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from gns_problems import first_below, log_sum_exp, valley, values

import agents
import optenvs
from agents.curvature import rules
from optenvs.core import Run
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed

SECOND = ("gns_newton", "super_universal_newton", "cubic_newton", "gauss_newton", "trust_newton")
FIRST = ("line_search_gradient", "fast_gradient", "lbfgs")


def rosenbrock(dim: int = 3, **keywords: Any) -> Any:
    """From 4 coordinates on it has a second minimum."""
    settings = {"oracle": "hessian", "dtype": "float64", "dim": dim, "tolerance": 1e-12}
    return optenvs.make("Rosenbrock", **(settings | keywords))


# What is asked and billed -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECOND)
def test_nothing_is_bought_twice_and_hessians_at_accepted_points_only(name: str) -> None:
    run = optenvs.rollout(rosenbrock(), agents.make(name), batch=4, record=("point",))
    assert run.state.terminated.all()
    bills = run.calls.counts.diff(dim=0)
    kinds = dict(zip(run.calls.kinds, range(4), strict=True))
    for row in range(4):
        bought: set[Any] = {("value", 0), ("gradient", 0)}
        points = [tuple(point) for point in run.recorded["point"][:, row].tolist()]
        for t, bill in enumerate(bills[:, row].tolist(), 1):
            for kind, column in kinds.items():
                place = (kind, points.index(points[t]))
                assert bill[column] in (0, 1)
                assert not bill[column] or place not in bought, f"{kind} bought twice"
                bought |= {place} if bill[column] else set()
    work, calls = run.agent_state.work, run.state.calls
    # the last trial has solved it, and was not judged any more
    assert torch.equal(calls["hessian"], work["accepted"] + 1)
    assert torch.equal(calls["value"], work["trials"] + 2)
    slopes = work["trials"] + 2 if name in SECOND[:2] else work["accepted"] + 1
    assert torch.equal(calls["gradient"], slopes)
    assert calls["hvp"].sum() == 0


def test_a_trial_of_the_gradient_method_asks_a_value_where_it_may_choose() -> None:
    env = log_sum_exp(50, 50, tolerance=1e-6)
    run = optenvs.rollout(env, agents.LineSearchGradient(), steps=200)
    work, calls = run.agent_state.work, run.state.calls
    assert torch.equal(calls["gradient"], work["accepted"] + 1)
    assert torch.equal(calls["value"], work["trials"] + 2)


@pytest.mark.parametrize("name", FIRST)
def test_both_forms_of_a_problem_give_one_course(name: str) -> None:
    agent = agents.make(name)
    ways = {}
    for oracle in ("hessian", "gradient"):
        env = optenvs.make("Quadratic", dim=4, condition=9.0, oracle=oracle, dtype="float64", tolerance=1e-6)
        run = optenvs.rollout(env, agent, batch=3, seed=1, steps=150)
        assert run.state.terminated.all()
        ways[oracle] = run
    assert torch.equal(ways["hessian"].best[-1], ways["gradient"].best[-1])
    assert torch.equal(*(run.agent_state.work["trials"] for run in ways.values()))


def test_products_of_an_oracle_without_a_menu() -> None:
    agent = agents.GnsNewton(solver="conjugate_gradients")
    for oracle in ("hvp", "hessian"):
        run = optenvs.rollout(rosenbrock(dim=2, oracle=oracle, budget=600), agent, batch=2, seed=1)
        assert run.state.terminated.all()
        assert run.state.calls["hvp"].min() > 10


def test_what_is_missing_is_named() -> None:
    env = optenvs.make("Rosenbrock")
    with pytest.raises(OracleMismatch, match="GnsNewton needs the oracle.* hessian"):
        optenvs.rollout(env, agents.GnsNewton(), steps=1)
    with pytest.raises(OracleMismatch, match="GnsNewton needs the oracle.* factor"):
        optenvs.rollout(rosenbrock(), agents.GnsNewton(solver="factor"), steps=1)
    assert optenvs.rollout(env, agents.GnsNewton(solver="none"), steps=5).best[-1] < 30


# When it ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SECOND, *FIRST])
def test_it_has_finished_where_the_gradient_is_zero(name: str) -> None:
    env = optenvs.from_function(
        lambda x: 1 + (x**2).sum(), dim=2, start=(0.0, 0.0), oracle="hessian", dtype="float64"
    )
    run = optenvs.rollout(env, agents.make(name), batch=3)
    assert run.finished.all()
    assert run.state.calls["value"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", [*SECOND, *FIRST])
def test_it_stops_where_no_step_helps_and_where_the_budget_ends(name: str) -> None:
    env = optenvs.from_function(
        lambda x: x.sum() - x.detach().sum() + 1, dim=2, oracle="hessian", dtype="float64", tolerance=None
    )
    if name != "super_universal_newton":  # whose test reads no value: this one never falls
        run = optenvs.rollout(env, agents.make(name), batch=2, steps=60)
        assert run.finished.all()
    poor = rosenbrock(budget={"value": 9, "gradient": 5, "hessian": 3}, tolerance=None)
    run = optenvs.rollout(poor, agents.make(name), batch=3)
    assert run.done[-1].all()
    assert (run.state.calls["value"] <= 9).all()
    assert (run.state.calls["gradient"] <= 5).all()


def test_forty_rejections_end_a_row_at_x() -> None:
    env = optenvs.from_function(
        lambda x: x.sum() - x.detach().sum() + 1, dim=2, oracle="hessian", dtype="float64", tolerance=None
    )
    run = optenvs.rollout(env, agents.GnsNewton(patience=7))
    assert run.agent_state.work["trials"].tolist() == [7]
    assert run.agent_state.work["accepted"].tolist() == [0]
    assert torch.equal(run.agent_state.size, torch.tensor([2.0**-7], dtype=torch.float64))


def test_gtol_ends_a_row() -> None:
    run = optenvs.rollout(rosenbrock(tolerance=None), agents.GnsNewton(gtol=1e-2), batch=3)
    assert run.finished.all()
    norm = run.agent_state.gradient.norm(dim=-1)
    assert (norm <= 1e-2).all()
    assert (norm > 0).all()


# Rows ---------------------------------------------------------------------------------------------


def test_a_failed_factorisation_is_a_rejection_of_its_row_alone() -> None:
    # concave where x_1 < 0: there no gamma that is too large gives a step
    env = optenvs.from_function(
        lambda x: torch.cos(x[0]) + (x[1] ** 2), dim=2, oracle="hessian", dtype="float64", tolerance=None
    )
    run = optenvs.rollout(env, agents.GnsNewton(gtol=1e-9), batch=16, seed=2)
    work, values_paid = run.agent_state.work, run.state.calls["value"]
    failed = work["trials"] + 1 - values_paid
    assert failed.max() > 0
    assert failed.min() == 0
    assert torch.allclose(run.best[-1], -torch.ones(16, dtype=torch.float64))


@pytest.mark.parametrize("name", [*SECOND, *FIRST])
def test_rows_are_what_they_are_alone(name: str) -> None:
    env = optenvs.make("LogSumExp", dim=4, rows=9, rotate=True, tolerance=1e-6, budget=200)
    many = optenvs.rollout(env, agents.make(name), batch=6, seed=3)
    assert many.state.terminated.all()
    for i in (1, 4):
        alone = optenvs.rollout(env, agents.make(name), keys=many.state.key[i : i + 1])
        assert torch.allclose(alone.best[-1], many.best[-1, i : i + 1], rtol=1e-9)
        assert alone.state.calls.counts.tolist() == many.state.calls.counts[i : i + 1].tolist()


def test_each_row_may_have_its_own_parameter() -> None:
    gamma0 = torch.tensor([1e-2, 1.0, 100.0])
    keys = keys_from_seed(0, 1).repeat(3)
    run = optenvs.rollout(
        log_sum_exp(50, 50, tolerance=1e-8), agents.GnsNewton(gamma0=gamma0), keys=keys, steps=90
    )
    for row, start in enumerate(gamma0.tolist()):
        alone = optenvs.rollout(log_sum_exp(50, 50, tolerance=1e-8), agents.GnsNewton(gamma0=start), steps=90)
        assert torch.equal(alone.state.calls.counts[0], run.state.calls.counts[row])
    with pytest.raises(ValueError, match="one of shape"):
        optenvs.rollout(log_sum_exp(50, 50), agents.GnsNewton(gamma0=gamma0), batch=2, steps=1)


@pytest.mark.parametrize("name", [*SECOND, *FIRST])
def test_a_trial_that_is_no_number_is_a_rejection(name: str) -> None:
    eager = {"gns_newton": {"gamma0": 1e6}, "cubic_newton": {"M": 1e-5}, "trust_newton": {"radius": 50.0}}
    eager |= {"super_universal_newton": {"M": 1e-5}}
    env = optenvs.from_function(
        lambda x: ((x - 3) ** 2 - 0.3 * torch.log(1 - x)).sum(),  # no number where an x is more than 1
        dim=2,
        start=(0.0, -2.0),
        oracle="hessian",
        dtype="float64",
        nan="infeasible",
        tolerance=None,
        budget=None,
    )
    run = optenvs.rollout(env, agents.make(name, **eager.get(name, {})), batch=2, steps=90, record=("value",))
    assert run.recorded["value"].isinf().any()
    x = 2 - 1.15**0.5  # 2 (x - 3) + 0.3 / (1 - x) is 0
    least = 2 * ((x - 3) ** 2 - 0.3 * np.log(1 - x))
    assert run.best[-1].tolist() == pytest.approx([least] * 2, rel=1e-6)
    assert not run.diverged.any()


@pytest.mark.parametrize("wrong", ["not symmetric", "not definite"])
def test_a_metric_that_is_none_ends_its_row_alone(wrong: str) -> None:
    env = optenvs.make("LogSumExp", dim=3, rows=6, tolerance=1e-6)
    state = env.reset(keys_from_seed(0, 3))
    metric = state.problem.metric.clone()
    metric[1, 0, 1 if wrong == "not symmetric" else 0] -= 100
    state = dataclasses.replace(state, problem=dataclasses.replace(state.problem, metric=metric))
    agent = agents.GnsNewton()
    memory = agent.init(state.problem, state.observation, state.key)
    assert memory.finished.tolist() == [False, True, False]
    for _ in range(40):
        action, memory = agent.act(memory, state.observation)
        state = env.step(state, action)
    assert state.metrics["gap"][[0, 2]].max() < 1e-6


# What it finds ------------------------------------------------------------------------------------


def test_products_give_the_course_of_the_factorisation() -> None:
    exact = values(optenvs.rollout(log_sum_exp(50, 50), agents.GnsNewton(), steps=45), "gap")
    run = optenvs.rollout(log_sum_exp(50, 50), agents.GnsNewton(solver="conjugate_gradients"), steps=170)
    found = values(run, "gap")
    assert first_below(exact, 1e-8) <= first_below(found, 1e-8) <= first_below(exact, 1e-8) + 2
    assert run.state.calls["hessian"].sum() == 0


def test_normalized_gradient_steps_with_a_constant_are_gradient_descent() -> None:
    env = optenvs.make("Quadratic", dim=5, condition=10.0, dtype="float64", tolerance=None)
    L = 10.0
    run = optenvs.rollout(
        env, agents.GnsNewton(solver="none", gamma=rules.LipschitzGradient(L), eps=0.0), batch=2, steps=30
    )
    plain = optenvs.rollout(env, agents.SGD(lr=1 / L), batch=2, steps=30)
    assert torch.allclose(run.merit, plain.merit, rtol=1e-9)


def test_a_preconditioner_is_the_metric_of_its_point() -> None:
    env = log_sum_exp(50, 50, hessian="weighted_gauss_newton", metric="identity", tolerance=1e-6)
    run = optenvs.rollout(env, agents.GnsNewton(solver="preconditioner"), steps=400)
    assert run.state.terminated.all()
    H, g = run.agent_state.notes["hessian"], run.agent_state.gradient
    P = H + 1e-8 * torch.eye(50, dtype=torch.float64)
    # of the last trial that was posed at this point
    step = run.agent_state.step
    along = -torch.linalg.solve(P, g)
    length = (step.unsqueeze(-2) @ P @ step.unsqueeze(-1)).sqrt()
    assert float(length) == pytest.approx(float(run.agent_state.size) + 1e-8)
    assert torch.allclose(step / step.norm(), along / along.norm(), atol=1e-6)


def test_rules() -> None:
    norm = torch.tensor([0.5, 8.0], dtype=torch.float64)
    assert rules.LipschitzGradient(4.0)(norm).tolist() == [0.125, 2.0]
    assert rules.L0L1Smooth(1.0, 2.0)(norm).tolist() == [0.25, 8 / 17]
    assert rules.HolderHessian(4.0)(norm).tolist() == [0.5, 2.0]
    assert rules.HolderHessian(torch.tensor([1.0, 4.0]), nu=0.0)(norm).tolist() == [0.5, 2.0]
    together = rules.SelfConcordant(2.0, error=1.0)(norm)
    assert together.tolist() == pytest.approx([0.3858, 0.3858], rel=1e-3)
    for bad in (lambda: rules.HolderHessian(0.0), lambda: rules.HolderHessian(1.0, nu=2.0)):
        with pytest.raises(ValueError, match="HolderHessian: (L|nu): expected a number"):
            bad()


@pytest.mark.parametrize("name", ["cubic_newton", "trust_newton"])
def test_indefinite_hessians_are_no_hindrance(name: str) -> None:
    env = optenvs.from_function(
        lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2,
        dim=2,
        start=(0.01, 1.0),
        oracle="hessian",
        dtype="float64",
    )
    run = optenvs.rollout(env, agents.make(name))
    assert run.best[-1] < 1e-12


@pytest.mark.parametrize("oracle", ["hvp", "hessian"])
def test_a_trust_region_on_products_takes_the_steps_of_the_hessian(oracle: str) -> None:
    exact = optenvs.rollout(rosenbrock(dim=4, shift=1.0), agents.TrustNewton(), batch=3, steps=110)
    env, agent = (
        rosenbrock(dim=4, shift=1.0, oracle=oracle, budget=None),
        agents.TrustNewton(solver="products"),
    )
    run = optenvs.rollout(env, agent, batch=3, steps=250)
    assert exact.state.terminated.any()
    assert torch.equal(run.state.terminated, exact.state.terminated)
    assert torch.allclose(run.best[-1], exact.best[-1], rtol=1e-6)
    for counted in ("trials", "accepted"):
        assert torch.equal(run.agent_state.work[counted], exact.agent_state.work[counted])
    if oracle == "hessian":
        assert run.state.calls["hessian"].sum() == 0
        assert (run.state.calls["hvp"] > run.agent_state.work["trials"]).all()


def test_a_trust_region_step_ends_after_so_many_products() -> None:
    agent = agents.TrustNewton(solver="products", inner=1)
    run = optenvs.rollout(log_sum_exp(50, 50), agent, batch=2, steps=60)
    assert torch.equal(run.state.calls["hvp"], run.agent_state.work["systems"])
    assert (run.best[-1] < run.merit[0]).all()


@pytest.mark.parametrize("scaling", ["metric", "diagonal"])
def test_gauss_newton_in_about_as_many_steps_as_minpack(scaling: str) -> None:
    env = valley(2.0, hessian="inexact", tolerance=1e-14)
    run = optenvs.rollout(env, agents.GaussNewton(scaling=scaling), steps=300)
    assert run.state.terminated.all()
    theirs = scipy.optimize.least_squares(
        lambda x: np.array([1 - x[0], 10 * (x[1] - x[0] ** 2)]), (-2.0, 2.0), method="lm"
    )
    assert int(run.state.calls["hessian"]) < 2 * theirs.nfev


def test_lbfgs_in_about_as_many_values_as_scipys() -> None:
    env = rosenbrock(tolerance=1e-10, budget=2000)
    run = optenvs.rollout(env, agents.LBFGS(), batch=12, seed=1)
    assert run.state.terminated.all()
    starts = env.reset(run.state.key).observation["point"].numpy()
    theirs = [
        scipy.optimize.minimize(
            scipy.optimize.rosen,
            start,
            jac=scipy.optimize.rosen_der,
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-5},
        ).nfev
        for start in starts
    ]
    assert run.state.calls["value"].double().mean() < 1.3 * np.mean(theirs)


def test_lbfgs_meets_the_strong_wolfe_conditions() -> None:
    agent = agents.LBFGS(slope=0.1)
    env = rosenbrock()
    keys = keys_from_seed(3, 6)
    state = env.reset(keys)
    memory = agent.init(state.problem, state.observation, keys)
    met = 0
    for _ in range(40):
        action, after = agent.act(memory, state.observation)
        moved = (after.work["accepted"] > memory.work["accepted"]) & (memory.line.count < agent.patience - 1)
        moved = moved & ~memory.finished
        step = after.point - memory.point
        before = (memory.gradient * memory.direction).sum(-1)
        slope = (after.gradient * memory.direction).sum(-1)
        t = (step * memory.direction).sum(-1) / memory.direction.square().sum(-1)
        assert (after.value <= memory.value + agent.decrease * t * before + 1e-14)[moved].all()
        assert (slope.abs() <= -agent.slope * before * (1 + 1e-9))[moved].all()
        met += int(moved.sum())
        state, memory = env.step(state, action), after
    assert met > 40


def test_tiny_curvature_pairs_are_skipped() -> None:
    # no curvature at all: a pair would make steps of any length
    env = optenvs.from_function(lambda x: x.sum(), dim=2, oracle="gradient", dtype="float64", tolerance=None)
    run: Run = optenvs.rollout(env, agents.LBFGS(patience=6), steps=15)
    assert run.agent_state.work["accepted"].tolist() == [2]
    assert run.agent_state.work["skipped"].tolist() == [2]
    assert not run.agent_state.pairs.any.any()
    # what is kept has more than the share that is asked for
    run = optenvs.rollout(rosenbrock(), agents.LBFGS(tiny=0.5), batch=4, steps=30)
    assert run.agent_state.work["skipped"].min() > 0
    pairs = run.agent_state.pairs
    sizes = pairs.steps.norm(dim=-1) * pairs.slopes.norm(dim=-1)
    there = pairs.curvature > 0
    assert there.any()
    assert (pairs.curvature > 0.5 * sizes)[there].all()


def test_the_search_plays_the_control_as_the_agent_steps() -> None:
    control = optenvs.make("GnsControl", landscape="LogSumExp", mu=0.2)
    run = optenvs.rollout(control, agents.GnsSearch(), batch=2)
    assert run.state.terminated.all()
    env = optenvs.make("LogSumExp", mu=0.2)
    own = optenvs.rollout(env, agents.GnsNewton(), batch=2)
    assert torch.allclose(run.merit[-1], own.merit[-1], rtol=1e-6)
    assert torch.equal(run.state.calls["trial"], own.agent_state.work["trials"] + 2)
    assert torch.equal(run.state.calls["hessian"], own.state.calls["hessian"])


def test_the_search_rests_on_the_ends_of_its_range() -> None:
    control = optenvs.make("GnsControl", low=-1.0, high=2.0, tolerance=1e-10)
    run = optenvs.rollout(control, agents.GnsSearch(), batch=2, steps=12)
    assert run.metrics["gamma"].max() == 4
    assert run.metrics["gamma"][:4, 0].tolist() == pytest.approx([1.0, 1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("gns_newton", {"gamma": 0.0}),
        ("gns_newton", {"gamma0": -1.0}),
        ("gns_newton", {"solver": "qr"}),
        ("gns_newton", {"inner": 0}),
        ("gns_newton", {"patience": 1.5}),
        ("super_universal_newton", {"alpha": 2.0}),
        ("cubic_newton", {"M": 0.0}),
        ("gauss_newton", {"scaling": "none"}),
        ("trust_newton", {"radius": 0.0}),
        ("trust_newton", {"solver": "cholesky"}),
        ("trust_newton", {"inner": 0}),
        ("line_search_gradient", {"L": 0.0}),
        ("fast_gradient", {"gtol": -1.0}),
        ("lbfgs", {"pairs": 0}),
        ("lbfgs", {"slope": 1e-5}),
    ],
)
def test_bad_parameters(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected "):
        agents.make(name, **bad)
