"""Billed callables: scipy at an agent's accounting."""

from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import pytest
import scipy.optimize
import torch
from gymnasium.error import InvalidAction

import optenvs
from optenvs.core.errors import BudgetSpent
from optenvs.core.random import keys_from_seed


def test_it_is_the_instance() -> None:
    core = optenvs.make("Rosenbrock", dtype="float64", shift=0.3, rotate=True)
    f = optenvs.as_function(core, seed=3)
    state = core.reset(keys_from_seed(3, 1))
    x = f.start + 0.2
    after = core.step(state, torch.from_numpy(x[None]))
    assert f(x) == float(after.observation["value"])
    assert np.array_equal(f.gradient(x), after.observation["gradient"][0].numpy())
    assert f.value_and_gradient(x)[0] == f(x)
    assert f.metrics["gap"] == float(after.metrics["gap"])
    assert f.best == float(after.best)


@pytest.mark.parametrize("method", ["L-BFGS-B", "BFGS", "CG", "TNC"])
def test_scipy_is_billed_what_it_counts(method: str) -> None:
    f = optenvs.as_function(optenvs.make("Rosenbrock", dtype="float64"), seed=1)
    result = scipy.optimize.minimize(f, f.start, jac=f.gradient, method=method)
    # the first query is the start, which the environment asks by itself and scipy asks again
    assert f.calls == {"gradient": result.nfev, "value": result.nfev}
    assert len(f.history) == result.nfev
    assert result.fun < 1e-6
    assert f.best <= result.fun


def test_value_only_methods_are_billed_values() -> None:
    f = optenvs.as_function(optenvs.make("Beale", dtype="float64", oracle="value"), seed=1)
    result = scipy.optimize.minimize(f, f.start, method="Nelder-Mead", options={"maxfev": 300})
    repeats = result.nfev - f.calls["value"]
    # asking the point asked last again is free, any other question is not
    assert 0 <= repeats < 0.1 * result.nfev
    assert set(f.calls) == {"value"}


def test_value_and_gradient_of_a_point_are_one_query() -> None:
    f = optenvs.as_function("Quadratic")
    x = f.start * 0.5
    f(x)
    f.gradient(x)
    f(x)
    assert f.calls == {"gradient": 2, "value": 2}
    f.gradient(f.start)
    assert f.calls["gradient"] == 3


def test_the_budget_ends_it() -> None:
    f = optenvs.as_function(optenvs.make("Rosenbrock", dtype="float64", budget=10))
    with pytest.raises(BudgetSpent, match=r"Rosenbrock: the budget is spent: \{'gradient': 10,"):
        scipy.optimize.minimize(f, f.start, jac=f.gradient, method="BFGS")
    assert f.calls["gradient"] == 10
    assert len(f.history) == 10
    assert np.isfinite(f(f.history[-1].observation["point"][0].numpy())), "the last answer can be read again"


def test_bounds_are_scipys() -> None:
    f = optenvs.as_function(optenvs.make("StyblinskiTang", dtype="float64", bounds="domain"), seed=0)
    assert f.bounds == [(-5.0, 5.0)] * 2
    result = scipy.optimize.minimize(f, f.start, jac=f.gradient, bounds=f.bounds, method="L-BFGS-B")
    assert (np.abs(result.x) <= 5).all()
    with pytest.raises(InvalidAction, match=r"got .* for instance 0"):
        f([6.0, 0.0])
    with pytest.raises(InvalidAction, match=r"expected shape \(2,\), got \(3,\)"):
        f([0.0, 0.0, 0.0])
    with pytest.raises(InvalidAction):
        f([np.nan, 0.0])
    assert f.calls["gradient"] == result.nfev, "a refused query is not billed"


def test_an_instance_by_key() -> None:
    key = int(keys_from_seed(5, 3)[2])
    f = optenvs.as_function("LeastSquares", key=key)
    assert int(f.state.key) == key


def test_what_is_no_function() -> None:
    with pytest.raises(TypeError, match="as_function: needs one query field, or a menu; Particles has Dict"):
        optenvs.as_function(optenvs.make("Particles", particles=3))
    with pytest.raises(TypeError, match="as_function: Particles: expected an environment of one point"):
        optenvs.as_function(optenvs.make("Particles", particles=3, recommend="best"))
    f = optenvs.as_function(optenvs.make("Quadratic", oracle="value"))
    with pytest.raises(TypeError, match="Quadratic answers no gradient with this oracle"):
        f.gradient(f.start)


def test_an_id_is_asked_in_float64() -> None:
    f = optenvs.as_function("Rosenbrock")
    result = scipy.optimize.minimize(f, f.start)
    assert f.core.dtype == "float64"
    assert f.metrics["gap"] < 1e-6 and f.calls["gradient"] == result.nfev > 20


def test_points_that_are_one_query_are_one_on_the_bill_and_said() -> None:
    f = optenvs.as_function(optenvs.make("Rosenbrock", dtype="float32"))
    first = f(f.start)
    with pytest.warns(UserWarning, match="rounds to the same float32 numbers.*dtype='float64'"):
        assert f(f.start + 1e-9) == first
    assert f(f.start + 1e-9) == first, "it is said once"
    assert f.calls["gradient"] == 1
    f(f.start + 1e-3)
    assert f.calls["gradient"] == 2


def test_there_is_one_bill() -> None:
    f = optenvs.as_function("Quadratic")
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="the bill of Quadratic is kept in the process that made it"):
            copied(f)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)  # as in a process that has been forked
        with pytest.raises(TypeError, match="the bill of Quadratic is kept in the process that made it"):
            f(f.start)
    assert f.calls["gradient"] == 1


def test_it_goes_on_after_an_infinite_value() -> None:
    core = optenvs.from_function(
        lambda x: torch.where(x.sum() > 1, torch.inf, (x**2).sum()), dim=2, budget=20, dtype="float64"
    )
    f = optenvs.as_function(core)
    assert f([2.0, 2.0]) == np.inf
    assert f([0.5, 0.25]) == 0.3125
    assert f.best <= 0.3125 and f.calls["value"] == 3
    for i in range(17):
        assert f([2.0, 2.0 + i]) == np.inf
    with pytest.raises(BudgetSpent, match="the budget is spent"):
        f([0.0, 0.0])
    assert f.calls["value"] == 20
