"""Billed callables of menus: kinds are bought when they are called for; scipy's forms; whose word counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from gymnasium.error import InvalidAction
from program_problems import Bowl, quadratic
from surrogate_problems import TanhDisc

import optenvs
from optenvs.core.errors import BudgetSpent, OracleMismatch
from optenvs.core.random import keys_from_seed

PAIR = quadratic(A=[[1.0, 1.0, 1.0]], b=[1.0])


def bowl(**keywords: Any) -> Any:
    return optenvs.as_function(Bowl(budget=1000, **keywords), seed=1)


def test_answers_are_the_environments() -> None:
    f, core = bowl(), Bowl()
    x, multipliers, vector = f.start + 0.3, np.array([0.7, 0.2]), np.array([1.0, -2.0, 0.5])
    state = core.reset(keys_from_seed(1, 1))
    places = {"x": x, "multipliers": multipliers, "vector": vector, "covector": multipliers}
    query = state.problem.menu.query(
        dict.fromkeys(core.oracles, True), **{k: torch.from_numpy(v[None]) for k, v in places.items()}
    )
    seen = {kind: part[0].numpy() for kind, part in core.step(state, query).observation.items()}
    assert f.value(x) == f(x) == seen["value"]
    assert np.array_equal(f.gradient(x), seen["gradient"])
    assert np.array_equal(f.constraints(x), seen["constraints"]) and f.constraints(x).shape == (2,)
    assert np.array_equal(f.jacobian(x), seen["jacobian"])
    assert np.allclose(f.hessian(x), seen["objective_hessian"], atol=1e-14)
    assert np.allclose(f.hessian(x, multipliers), seen["hessian"], atol=1e-14)
    own = f.hessian(x, multipliers) - f.hessian(x)
    assert np.allclose(f.constraints_hessian(x, multipliers), own)
    assert np.allclose(own, 2 * 0.7 * np.eye(3), atol=1e-12), "of 0.7 |x|^2"
    assert np.allclose(f.hessian_product(x, vector, multipliers), seen["hessian"] @ vector)
    assert np.allclose(f.hessian_product(x, vector), seen["objective_hessian"] @ vector)
    assert np.allclose(f.jacobian_product(x, vector), seen["jacobian"] @ vector)
    assert np.allclose(f.adjoint_product(x, multipliers), multipliers @ seen["jacobian"])


def test_a_kind_is_bought_when_it_is_called_for_and_once_at_a_point() -> None:
    f = bowl()
    begun = dict.fromkeys(("value", "constraints", "gradient", "jacobian"), 1)
    # the problem's own question answers these at the start
    for ask in (f.value, f.constraints, f.gradient, f.jacobian):
        ask(f.start)
    assert {kind: count for kind, count in f.calls.items() if count} == begun
    x = f.start + 0.1
    for _ in range(2):
        f.value(x)
        f.gradient(x)
        f.hessian(x, [1.0, 0.0])
    assert {k: n for k, n in f.calls.items() if n} == begun | {"value": 2, "gradient": 2, "hessian": 1}
    f.hessian(x, [1.0, 0.5])
    assert f.calls["hessian"] == 2, "the multipliers are another place"
    f.jacobian(f.start)
    assert f.calls["jacobian"] == 1, "that kind was answered nowhere else since"
    assert len(f.history) == 5


METHODS = {
    "SLSQP": {"value": "nfev", "constraints": "nfev", "gradient": "njev", "jacobian": "njev"},
    "trust-constr": {"value": "nfev", "constraints": "nfev", "gradient": "njev", "jacobian": "njev"},
    "COBYQA": {"value": "nfev", "constraints": "nfev"},
}


@pytest.mark.parametrize("method", METHODS)
def test_scipy_is_billed_what_it_counts(method: str) -> None:
    f = bowl(tolerance=None)
    result = scipy.optimize.minimize(x0=f.start, **f.keywords(method))
    for kind, count in METHODS[method].items():
        found = result[count]
        if method == "trust-constr":  # of itself it counts what it has asked after the first point
            found = {"value": result.nfev, "gradient": result.njev}.get(kind, max(result.constr_nfev))
        # COBYQA counts values, and asks constraints alone where it corrects a step
        assert abs(f.calls[kind] - found) <= (7 if (method, kind) == ("COBYQA", "constraints") else 1), kind
    assert f.metrics["feasibility"] < 1e-4
    if method == "trust-constr":
        assert f.calls["objective_hessian"] == 0, "the Lagrangian's is asked, once a point"
        assert 0 < f.calls["hessian"] <= result.constr_nhev[0] + 1


def test_the_natural_forms_are_scipys() -> None:
    one, other = bowl(), bowl()
    ours = scipy.optimize.minimize(x0=one.start, **one.keywords("SLSQP"))
    theirs = scipy.optimize.minimize(
        other, other.start, jac=other.gradient, constraints=other.dict_constraints, method="SLSQP"
    )
    assert np.array_equal(ours.x, theirs.x) and one.calls == other.calls
    third, lowest = bowl(), bowl(lowest=-1.0)
    result = scipy.optimize.minimize(
        third,
        third.start,
        jac=third.gradient,
        hess=third.hessian,
        constraints=third.nonlinear_constraint,
        method="trust-constr",
    )
    assert np.allclose(result.x, ours.x, atol=1e-3)
    assert third.calls["objective_hessian"] > 0, "apart, the objective's and the Lagrangian's are asked"
    assert third.box is None and third.bounds is None
    assert isinstance(lowest.box, scipy.optimize.Bounds) and lowest.bounds == [(-1.0, 3.0)] * 3
    with pytest.raises(TypeError, match="Quadratic has no constraints"):
        _ = optenvs.as_function("Quadratic").nonlinear_constraint


@pytest.mark.parametrize("method", ["Newton-CG", "trust-exact", "trust-ncg", "trust-krylov"])
def test_curvature_of_a_landscape(method: str) -> None:
    core = optenvs.make("Rosenbrock", oracle="hessian", dtype="float64", start=(0.5, 0.5))
    f = optenvs.as_function(core)
    result = scipy.optimize.minimize(x0=f.start, **f.keywords(method))
    assert f.metrics["gap"] < 1e-8
    assert abs(f.calls["hessian"] - result.nhev) <= 1 and f.calls["hvp"] == 0
    if method != "trust-exact":
        f = optenvs.as_function(core)
        scipy.optimize.minimize(x0=f.start, **f.keywords(method, hessian="products"))
        assert f.metrics["gap"] < 1e-8 and f.calls["hvp"] > 0 and f.calls["hessian"] == 0


def test_products_where_a_query_has_a_vector() -> None:
    f = optenvs.as_function(optenvs.make("Rosenbrock", oracle="hvp", dtype="float64"))
    x, vector = f.start + 0.1, np.array([1.0, 2.0])
    value, gradient = f(x), f.gradient(x)
    assert f.calls == {"hvp": 2, "gradient": 2, "value": 2}
    product = f.hessian_product(x, vector)
    assert np.allclose(product, scipy.optimize.rosen_hess(x) @ vector)
    assert value == scipy.optimize.rosen(x) and np.allclose(gradient, scipy.optimize.rosen_der(x))
    scipy.optimize.minimize(x0=f.start, **f.keywords("trust-ncg"))
    assert f.best < 1e-8


def test_constraints_of_a_black_box() -> None:
    f = optenvs.as_function(TanhDisc(formulation="constraints"))
    found = f.minimize("COBYQA", options={"maxfev": 60})
    assert (f.constraints(found.x) <= 1e-6).all() and found.merit < float(f.history[0].merit)
    assert f.equalities == 0 and f.count == 2


def test_the_merit_decides_and_not_the_solver() -> None:
    f = bowl(tolerance=1e-6)
    loose = f.minimize("SLSQP", tol=0.5)
    assert loose.result.success and loose.status == 0
    assert not loose.success and not f.solved and loose.merit > 1e-6
    tight = f.minimize("trust-constr", tol=1e-13)
    assert tight.success and f.solved and f.best <= tight.merit <= 1e-6
    # a point that satisfies nothing is never one
    never = optenvs.as_function(
        quadratic(A=[[1.0, 1.0, 1.0]], b=[1.0], G=[[1.0, 0, 0], [-1.0, 0, 0]], h=[-1.0, -1.0])
    )
    for method in ("SLSQP", "COBYQA"):
        found = never.minimize(method)
        assert not found.success and found.merit > 1, method


def test_multipliers_are_part_of_the_result() -> None:
    for method in ("SLSQP", "trust-constr"):
        f = bowl(tolerance=None)
        found = f.minimize(method, tol=1e-9)
        slope = f.gradient(found.x) + f.jacobian(found.x).T @ found.multipliers
        assert found.merit == f.metrics["kkt"] < 1e-4, "it was judged with them"
        assert np.abs(slope).max() < 1e-4, method
        assert found.multipliers.shape == (2,) and found.multipliers[1] > 0.1, "it is active"
        assert np.abs(found.multipliers[0]) > 0.05
    # the pair was asked: a start at it is solved at once
    warm = bowl(tolerance=1e-3)
    before = warm.calls["value"]
    again = warm.minimize("SLSQP", start=found.x, multipliers=found.multipliers)
    assert again.success and warm.calls["value"] <= before + 3
    pairs = [state.observation["multipliers"][0].numpy() for state in warm.history[1:2]]
    assert np.array_equal(pairs[0], found.multipliers), "they go along with the first question"


def test_the_budget_ends_a_solver_with_the_best_so_far() -> None:
    f = optenvs.as_function(Bowl(budget=6, tolerance=None), seed=1)
    found = f.minimize("SLSQP", tol=1e-12)
    assert found.status == -3 and ("does not pay" in found.message or "is spent" in found.message)
    assert f.calls["value"] == 6
    merits = [float(state.merit) for state in f.history]
    assert found.merit == min(merits) and not found.success
    assert np.array_equal(found.x, f.history[int(np.argmin(merits))].observation["x"][0].numpy())
    with pytest.raises(BudgetSpent, match="Bowl: the budget is spent"):
        f(found.x + 1)
    some = optenvs.as_function(Bowl(budget={"value": 50, "hessian": 2}, tolerance=None), seed=1)
    assert some.minimize("trust-constr").status == -3 and some.calls["hessian"] == 2


def test_what_does_not_fit_is_named() -> None:
    f = bowl()
    with pytest.raises(
        ValueError, match="BFGS knows no constraints, and there are 2; choose COBYLA, COBYQA, SLS"
    ):
        f.keywords("BFGS")
    with pytest.raises(ValueError, match="method: got 'SQP'.*SLSQP"):
        f.minimize("SQP")
    with pytest.raises(ValueError, match="hessian: SLSQP takes 'auto', 'none', got 'exact'"):
        f.keywords("SLSQP", hessian="exact")
    with pytest.raises(ValueError, match="multipliers: expected 2 finite numbers"):
        f.minimize("SLSQP", multipliers=[1.0])
    with pytest.raises(InvalidAction, match=r"x: expected shape \(3,\), got \(2,\)"):
        f.constraints([0.0, 1.0])
    with pytest.raises(InvalidAction, match=r"x: expected shape \(3,\), got \(4,\)"):
        f.minimize("SLSQP", start=np.zeros(4))
    with pytest.raises(InvalidAction, match="multipliers: expected shape"):
        f.hessian(f.start, [1.0])
    values = optenvs.as_function(optenvs.make("Quadratic", oracle="value", dtype="float64"))
    with pytest.raises(OracleMismatch, match="L-BFGS-B needs gradient, and is answered value"):
        values.minimize("L-BFGS-B")
    with pytest.raises(OracleMismatch, match="trust-exact needs the Hessian of the value, and is answered"):
        optenvs.as_function("Quadratic").minimize("trust-exact")
    with pytest.raises(TypeError, match="Quadratic answers no jacobian_product"):
        values.jacobian_product(values.start, values.start)
    with pytest.raises(TypeError, match="Quadratic answers no product of the Hessian"):
        values.hessian_product(values.start, values.start)


def test_one_constraint_is_a_row_of_one() -> None:
    f = optenvs.as_function(PAIR)
    assert f.constraints(f.start).shape == (1,) and f.jacobian(f.start).shape == (1, 3)
    assert len(f.dict_constraints) == 1 and f.dict_constraints[0]["type"] == "eq"
