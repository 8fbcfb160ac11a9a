"""Programs without a solution, or odd ones, by the methods that call back: what they say, and who decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from program_problems import quadratic

import agents
import optenvs
from optenvs.core.random import keys_from_seed

METHODS = ("SLSQP", "trust-constr", "COBYQA")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what scipy says of singular matrices


def minimized(env: Any, method: str, **keywords: Any) -> Any:
    return optenvs.as_function(env, seed=1).minimize(method, **keywords)


def infeasible() -> Any:
    """x_1 <= -1 and x_1 >= 1."""
    sides = {"G": [[1.0, 0, 0], [-1.0, 0, 0]], "h": [-1.0, -1.0]}
    return quadratic(A=[[1.0, 1.0, 1.0]], b=[1.0], **sides).replace(budget=30)


@pytest.mark.parametrize("method", METHODS)
def test_infeasible_is_never_success(method: str) -> None:
    found = minimized(infeasible(), method)
    assert not found.success
    assert found.merit > 0.5
    # the gradient of c vanishes at 0, where c = 1
    curved = optenvs.constrained_from_functions(
        lambda x: x.sum(), lambda x: 1 + (x**2).sum(), start=(1.0, 1.0), budget=30
    )
    found = minimized(curved, method)
    assert not found.success
    assert found.merit >= 0.9


@pytest.mark.parametrize("method", METHODS)
def test_one_number_is_a_constraint(method: str) -> None:
    env = optenvs.constrained_from_functions(
        lambda x: (x**2).sum(), lambda x: x[0] + x[1] - 1, start=(3.0, 1.0), tolerance=1e-3, budget=200
    )
    found = minimized(env, method)
    assert found.success
    assert found.x == pytest.approx([0.5, 0.5], abs=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_dependent_gradients_at_the_solution(method: str) -> None:
    """min x_1 with x_2 = 0 and x_2 = x_1^2: LICQ fails at the only feasible point, without multipliers."""
    env = optenvs.constrained_from_functions(
        lambda x: x[0],
        lambda x: torch.stack((x[1], x[1] - x[0] ** 2)),
        start=(0.5, 0.5),
        budget=200,
        tolerance=1e-6,
    )
    found = minimized(env, method)
    # near it multipliers without bound satisfy the conditions as well as is asked; at it none do
    assert found.success == (found.merit <= 1e-6)
    assert abs(found.x[0]) < 0.1
    state = env.reset(keys_from_seed(0, 1))
    at = env.step(state, env.card.offer.query({"value": True}, x=torch.zeros(1, 2, dtype=torch.float64)))
    assert at.metrics["singular"] == 1 and at.metrics["feasibility"] == 0
    assert at.metrics["kkt"] == 1 and not at.terminated.any()


@pytest.mark.parametrize("method", METHODS)
def test_a_start_outside_and_a_variable_that_cannot_move(method: str) -> None:
    sides = {"lower": [0.25, -1.0, -1.0], "upper": [0.25, 1.0, 1.0]}
    env = quadratic(A=[[1.0, 1.0, 1.0]], b=[1.0], **sides)
    found = minimized(env.replace(tolerance=1e-3), method, start=np.array([9.0, 9.0, -9.0]))
    # trust-constr does not leave the corner to which the start is brought, and says so
    assert found.success or (method == "trust-constr" and found.status == 4)
    assert found.x[0] == 0.25
    assert (np.abs(found.x[1:]) <= 1).all()


def test_the_same_agents_say_it_of_every_row() -> None:
    never = infeasible()
    for name in ("trust_constr", "cobyqa"):
        run = optenvs.rollout(never, agents.make(name), batch=2, steps=60)
        assert not run.state.terminated.any() and (run.best[-1] > 0.5).all()


def test_a_start_that_is_the_solution_is_a_success() -> None:
    line = lambda x: x.sum() - 3  # noqa: E731
    square = lambda x: (x**2).sum()  # noqa: E731
    there = optenvs.constrained_from_functions(square, line, start=(1.5, 1.5))
    fixed = there.replace(lower=1.5, upper=1.5)
    vertex = optenvs.constrained_from_functions(lambda x: x[0] + 2 * x[1], line, start=(3.0, 0.0), lower=0.0)
    begun = there.replace(start_multipliers=(5.0,))  # which no method knows to be wrong
    for name, env in {"there": there, "fixed": fixed, "vertex": vertex, "begun": begun}.items():
        for method in ("COBYQA", "SLSQP"):
            f = optenvs.as_function(env)
            found = f.minimize(method)
            assert found.success and found.merit < 1e-4, (name, method)
            calls = f.calls["value"]
            f.conclude(found.x, found.multipliers)
            assert f.calls["value"] == calls, "it was asked"
    run = optenvs.rollout(there, agents.make("cobyqa"), batch=2, steps=80)
    assert run.state.terminated.all()


def test_an_option_of_another_type_is_named() -> None:
    for method in ("COBYQA", "SLSQP", "trust-constr"):
        with pytest.raises(ValueError, match="options: maxiter: expected a number, got '3'"):
            agents.from_scipy(method, maxiter="3")
    with pytest.raises(ValueError, match="SLSQP: options: got .*maxiter"):
        agents.SLSQP(options={"maxiter": None})
    assert agents.TrustConstr(options={"factorization_method": "SVDFactorization"}).options


def test_words_are_no_numbers() -> None:
    env = optenvs.constrained_from_functions(lambda x: (x**2).sum(), lambda x: x.sum() - 3, start=(1.0, 2.0))
    with pytest.raises(ValueError, match="SLSQP: tol: expected a number > 0 or None, got '1'"):
        agents.SLSQP(tol="1")  # type: ignore[arg-type]
    for start in ("here", (True, False)):
        with pytest.raises(ValueError, match="SLSQP: start: expected finite numbers"):
            optenvs.rollout(env, agents.SLSQP(start=start), steps=1)
    with pytest.raises(ValueError, match="multipliers: expected 1 finite numbers, got 'one'"):
        optenvs.as_function(env).minimize("SLSQP", multipliers="one")
