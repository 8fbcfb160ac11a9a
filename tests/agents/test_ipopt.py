"""IPOPT through casadi, as an agent and from a billed callable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program_problems import Bowl, quadratic

import agents
import optenvs
from optenvs.core.struct import tensors

FREE = Bowl(budget=None, tolerance=None)


def test_without_the_package_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "casadi", None)
    with pytest.raises(ImportError, match=r"IPOPT needs the package casadi: pip install 'optenvs\[ipopt\]'"):
        optenvs.rollout(FREE, agents.make("ipopt"), steps=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_iter": "3"}, "max_iter: expected a whole number >= 0, got '3'"),
        ({"max_iter": 2.5}, "max_iter: expected a whole number >= 0, got 2.5"),
        ({"max_iter": -1}, "max_iter: expected a whole number >= 0, got -1"),
        ({"max_iter": 10**12}, "max_iter: expected a whole number >= 0, got 1000000000000"),
        ({"max_iter": None}, "max_iter: expected a number or a word, got None"),
        ({"max_iter": [3]}, r"max_iter: expected a number or a word, got \[3\]"),
        ({"tol": float("nan")}, "tol: expected a number or a word, got nan"),
        ({"mehrotra_algorithm": True}, "mehrotra_algorithm: expected 'yes' or 'no', .* got True"),
        ({3: 1}, "expected IPOPT's names, got 3"),
    ],
)
def test_options_that_would_be_left_out_are_named(options: dict[str, Any], told: str) -> None:
    """casadi takes None and NaN without a word, cuts fractions off, and counts beyond 32 bits from below."""
    with pytest.raises(ValueError, match=f"options: {told}"):
        agents.make("ipopt", options=options)
    with pytest.raises(ValueError, match=f"options: {told}"):
        optenvs.as_function(FREE).minimize("ipopt", options=options)


@pytest.mark.parametrize("tol", ["1", 0.0, -1.0, float("nan"), True])
def test_a_tolerance_that_is_none_is_named(tol: Any) -> None:
    with pytest.raises(ValueError, match="Ipopt: tol: expected a number > 0 or None, got"):
        agents.make("ipopt", tol=tol)
    for method in ("ipopt", "SLSQP"):
        with pytest.raises(ValueError, match="tol: expected a number > 0 or None, got"):
            optenvs.as_function(FREE).minimize(method, tol=tol)


@pytest.fixture
def casadi() -> None:
    pytest.importorskip("casadi", reason="IPOPT comes with casadi, the extra ipopt")


@pytest.mark.usefixtures("casadi")
class TestIpopt:
    def test_it_solves_and_gives_its_multipliers(self) -> None:
        for hessian in ("auto", "none"):
            run = optenvs.rollout(FREE, agents.make("ipopt", hessian=hessian), batch=2, steps=60)
            assert run.finished.all() and (run.best[-1] < 1e-6).all()
            assert (run.agent_state.multipliers[:, 1] > 1).all()
            assert bool((run.state.calls["hessian"] > 0).all()) == (hessian == "auto")
        f = optenvs.as_function(Bowl(budget=100, tolerance=1e-6), seed=0)
        found = f.minimize("ipopt")
        slope = f.gradient(found.x) + f.jacobian(found.x).T @ found.multipliers
        assert found.success and np.abs(slope).max() < 1e-6
        assert f.calls["objective_hessian"] == 0

    def test_rows_and_resumed_runs_are_the_long_run(self, tmp_path: Path) -> None:
        whole = optenvs.rollout(FREE, agents.make("ipopt"), batch=2, steps=14, record=("x",))
        alone = optenvs.rollout(FREE, agents.make("ipopt"), batch=1, steps=14, record=("x",))
        assert torch.equal(alone.recorded["x"][:, 0], whole.recorded["x"][:, 0])
        half = optenvs.rollout(FREE, agents.make("ipopt"), batch=2, steps=6)
        optenvs.save(tmp_path / "run", half)
        resumed = optenvs.load(tmp_path / "run", classes=(Bowl,))
        rest = optenvs.rollout(FREE, agents.make("ipopt"), steps=8, resume=resumed)
        left, right = tensors(rest.agent_state), tensors(whole.agent_state)
        assert all(torch.equal(left[name], right[name]) for name in right)

    def test_a_warm_start_takes_the_pair(self) -> None:
        first = optenvs.rollout(FREE, agents.make("ipopt", tol=1e-10), steps=60).agent_state
        pair = {"start": first.found, "multipliers": first.multipliers}
        cold, warm = (
            optenvs.rollout(FREE, agents.make("ipopt", **keywords), steps=60)
            for keywords in ({}, {**pair, "options": {"mu_init": 1e-9}})
        )
        assert int(warm.state.calls["gradient"]) < int(cold.state.calls["gradient"])

    def test_no_number_bounds_and_the_budget(self) -> None:
        env = Bowl(budget=200, tolerance=1e-4, edge=-0.5, start=(-0.4, -1.2, 0.6), lowest=-2.0)
        run = optenvs.rollout(env, agents.make("ipopt"), record=("x",))
        assert run.state.terminated.all() and (run.recorded["x"] >= -2).all()
        f = optenvs.as_function(Bowl(budget=3, tolerance=None))
        found = f.minimize("ipopt")
        assert found.status == -3 and f.calls["value"] == 3 and found.merit == f.best

    def test_what_it_cannot_do_is_named(self) -> None:
        for options in ({"nonsense": 1}, {"mu_strategy": "odd"}, {"mu_strategy": 3}, {"tol": -1.0}):
            with pytest.raises(ValueError, match=f"options: IPOPT refuses .*'{next(iter(options))}'"):
                agents.make("ipopt", options=options)
            with pytest.raises(ValueError, match=f"options: IPOPT refuses .*'{next(iter(options))}'"):
                optenvs.as_function(FREE).minimize("ipopt", options=options)
        with pytest.raises(ValueError, match="IPOPT refuses .*'ma57'}: Invalid_Option"):  # not in the wheel
            agents.make("ipopt", options={"linear_solver": "ma57"})
        many = quadratic(A=[[1.0, 0], [0, 1.0], [1.0, 1.0]], b=[0.1, 0.2, 0.3])
        with pytest.raises(ValueError, match="IPOPT knows no more equations than coordinates"):
            optenvs.rollout(many, agents.make("ipopt"), steps=1)
