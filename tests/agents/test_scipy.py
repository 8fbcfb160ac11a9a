"""Methods of scipy's, which call back, as agents: one a row, billed for what they ask, judged by merit."""

from __future__ import annotations

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program_problems import Bowl, quadratic

import agents
import optenvs
from agents.adapters._conversation import _RUNNING
from agents.adapters._tape import Tape
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.core.struct import replace, tensors

FREE = Bowl(budget=None, tolerance=None)
ROOT = Path(__file__).parents[1]


def equal(one: Any, other: Any) -> bool:
    left, right = tensors(one), tensors(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in right)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYQA"])
def test_it_asks_and_pays_what_the_callable_does(method: str) -> None:
    run = optenvs.rollout(FREE, agents.from_scipy(method), seed=1, steps=100, record=("x",))
    f = optenvs.as_function(FREE, seed=1)
    found = f.minimize(method)
    assert run.finished.all() and run.agent_state.status.tolist() == [found.status]
    assert {kind: int(run.state.calls[kind]) for kind in f.calls} == f.calls
    assert np.array_equal(run.agent_state.found[0].numpy(), found.x)
    assert np.isclose(float(run.best[-1]), f.best)
    given = run.agent_state.multipliers[0].numpy()
    assert np.array_equal(given, np.zeros(2) if found.multipliers is None else found.multipliers)


@pytest.mark.parametrize("method", ["SLSQP", "trust-constr", "COBYQA"])
def test_rows_run_beside_each_other_as_alone(method: str) -> None:
    many = optenvs.rollout(FREE, agents.from_scipy(method), seed=4, batch=3, steps=25, record=("x",))
    alone = optenvs.rollout(FREE, agents.from_scipy(method), keys=many.state.key[2:], steps=25, record=("x",))
    assert torch.equal(alone.recorded["x"][:, 0], many.recorded["x"][:, 2])
    assert torch.equal(alone.calls.counts[:, 0], many.calls.counts[:, 2])


def test_a_resumed_and_a_branched_run_are_the_long_one(tmp_path: Path) -> None:
    def agent() -> Any:
        return agents.from_scipy("trust-constr")

    whole = optenvs.rollout(FREE, agent(), batch=2, steps=14)
    half = optenvs.rollout(FREE, agent(), batch=2, steps=6)
    optenvs.save(tmp_path / "run", half)
    rest = optenvs.rollout(FREE, agent(), steps=8, resume=optenvs.load(tmp_path / "run", classes=(Bowl,)))
    assert equal(rest.agent_state, whole.agent_state) and equal(rest.state, whole.state)
    kept = {name: leaf.clone() for name, leaf in tensors(half.agent_state).items()}
    again = optenvs.rollout(FREE, agent(), steps=8, resume=half)
    assert equal(again.agent_state, whole.agent_state)
    assert all(torch.equal(kept[name], leaf) for name, leaf in tensors(half.agent_state).items())
    bent = replace(half.agent_state, told=half.agent_state.told + 1e-3)
    with pytest.raises(RuntimeError, match="TrustConstr: its solver asks something else when it is rebuilt"):
        agent().act(bent, half.state.observation)


def test_what_it_found_is_asked_with_its_multipliers() -> None:
    run = optenvs.rollout(
        FREE, agents.from_scipy("SLSQP", tol=1e-10), seed=1, steps=60, record=("multipliers",)
    )
    memory, asked = run.agent_state, run.recorded["multipliers"][:, 0]
    last = int((asked != 0).any(-1).nonzero()[0])
    assert torch.equal(asked[last], memory.multipliers[0]) and memory.multipliers[0, 1] > 1
    before, after = (run.calls.counts[t, 0] for t in (last - 1, last))
    assert (after - before).tolist() == [1] + [0] * 8, "one value"
    assert float(run.merit[last]) < 1e-6
    assert not torch.equal(run.metrics["least_squares_kkt"][last], run.merit[last])
    # trust-constr's go along with its queries
    run = optenvs.rollout(FREE, agents.from_scipy("trust-constr"), steps=12, record=("multipliers",))
    assert (run.recorded["multipliers"][6:, 0] != 0).any(-1).all()


def test_a_warm_start_takes_the_pair() -> None:
    first = optenvs.rollout(FREE, agents.from_scipy("SLSQP", tol=1e-10), batch=2, steps=60)
    pair = {"start": first.agent_state.found, "multipliers": first.agent_state.multipliers}
    env = Bowl(budget=50, tolerance=1e-6)
    for method in ("SLSQP", "trust-constr"):
        run = optenvs.rollout(env, agents.from_scipy(method, **pair), batch=2)
        assert run.state.terminated.all() and (run.state.k <= 2).all(), method
    with pytest.raises(ValueError, match=r"SLSQP: start: expected finite numbers, \(3,\) or"):
        optenvs.rollout(env, agents.SLSQP(start=(1.0, 2.0)), steps=1)
    with pytest.raises(ValueError, match="SLSQP: multipliers: expected finite numbers"):
        optenvs.rollout(env, agents.SLSQP(multipliers=(1.0, float("nan"))), steps=1)


def test_the_environment_says_what_is_solved() -> None:
    env = Bowl(budget=100, tolerance=1e-8)
    run = optenvs.rollout(env, agents.from_scipy("SLSQP", tol=0.1), batch=2)
    assert run.finished.all() and (run.agent_state.status == 0).all(), "a success, says scipy"
    assert not run.state.terminated.any() and (run.best[-1] > 1e-6).all()
    assert (run.state.calls["value"] < 100).all()
    never = quadratic(A=[[1.0, 1.0, 1.0]], b=[1.0], G=[[1.0, 0, 0], [-1.0, 0, 0]], h=[-1.0, -1.0])
    run = optenvs.rollout(never, agents.make("slsqp"), batch=2)
    assert run.finished.all() and not run.state.terminated.any() and (run.best[-1] > 1).all()


def test_the_budget_ends_it() -> None:
    run = optenvs.rollout(Bowl(budget=9, tolerance=None), agents.make("cobyqa"), batch=2)
    assert run.state.truncated.all() and (run.state.calls["value"] == 9).all()
    some = Bowl(budget={"value": 50, "hessian": 3}, tolerance=None)
    run = optenvs.rollout(some, agents.make("trust_constr"), batch=2)
    assert run.done[-1].all() and (run.state.calls["hessian"] <= 3).all()


def test_a_row_that_is_over_asks_nothing_more() -> None:
    # rows end at different times; a frozen answer is no answer to the question that came after it
    run = optenvs.rollout(Bowl(budget=200, tolerance=1e-3), agents.make("slsqp"), batch=4, steps=40)
    assert run.state.terminated.all()
    untold = run.state.k + 1 - run.agent_state.count
    assert ((untold == 0) | (untold == 1)).all(), "the last row's last answer"


def test_bounds_are_kept() -> None:
    sides = {"lower": [0.5, -1.0, -1.0], "upper": [0.5, 1.0, 1.0]}  # the start is outside
    env = quadratic(A=[[1.0, 1.0, 1.0]], b=[1.0], **sides)
    low, high = (torch.tensor(sides[name], dtype=torch.float64) for name in ("lower", "upper"))
    for method in ("SLSQP", "COBYQA"):
        run = optenvs.rollout(env, agents.from_scipy(method), batch=2, record=("x",))
        asked = run.recorded["x"][1:]
        assert (asked >= low).all() and (asked <= high).all(), method
        assert (asked[..., 0] == 0.5).all(), "what cannot move stays"
        if method == "SLSQP":
            assert run.state.terminated.all()
    fixed = {"lower": [0.5, 0.5, 0.5], "upper": [0.5, 0.5, 0.5]}
    env = quadratic(A=[[1.0, 1.0, 1.0]], b=[1.5], **fixed)
    run = optenvs.rollout(env, agents.make("slsqp"), batch=2, steps=3)
    assert run.state.terminated.all(), "the only point is the solution"
    box = optenvs.make("Rosenbrock", bounds=(-0.5, 0.5), dtype="float64", budget=60, start=(0.0, 0.0))
    run = optenvs.rollout(box, agents.make("lbfgsb"), record=("point",))
    assert (run.recorded["point"].abs() <= 0.5).all() and not run.metrics["outside"].any()
    free = optenvs.rollout(box, agents.make("lbfgsb", bounded=False), steps=40)
    assert free.metrics["outside"].any()


@pytest.mark.parametrize(("method", "edge"), [("SLSQP", -0.5), ("trust-constr", -0.86), ("COBYQA", -0.5)])
def test_no_number_in_a_trial_is_survived(method: str, edge: float) -> None:
    env = Bowl(budget=600, tolerance=1e-3, edge=edge, start=(-0.4, -1.2, 0.6))
    run = optenvs.rollout(env, agents.from_scipy(method), steps=150, record=("x", "value"))
    lost = run.recorded["value"].isinf().squeeze(-1) & (run.recorded["x"][..., 0] < edge)
    assert lost.any(), "some trial has no value"
    assert run.state.terminated.all()


def test_a_line_search_comes_back_from_where_there_is_no_number() -> None:
    def barrier(x: torch.Tensor) -> torch.Tensor:
        return -torch.log(1 - x.square().sum()) + 3 * x[0] + x.square().sum()

    for oracle in ("gradient", "hessian"):
        env = optenvs.from_function(
            barrier, dim=2, start=(0.0, 0.5), nan="infeasible", dtype="float64", oracle=oracle, budget=200
        )
        found = {}
        for method in ("L-BFGS-B", "BFGS", "SLSQP", "CG"):
            run = optenvs.rollout(env, agents.from_scipy(method), steps=60)
            found[method] = float(run.best[-1])
            assert run.finished.all()
        assert max(found.values()) - min(found.values()) < 1e-4, found


def test_more_equations_than_coordinates_and_equations_twice() -> None:
    many = quadratic(A=[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1, 1]], b=[0.1, 0.2, 0.3, 0.6])
    with pytest.raises(
        ValueError, match="SLSQP knows no more equations than coordinates, and there are 4 of 3"
    ):
        optenvs.rollout(many, agents.make("slsqp"), steps=1)
    assert optenvs.rollout(many, agents.make("trust_constr"), steps=40).state.terminated.all()
    twice = quadratic(A=[[1.0, 1, 1], [1.0, 1, 1]], b=[1.0, 1.0])
    with pytest.warns(UserWarning, match="Singular Jacobian matrix. Using SVD"):
        assert optenvs.rollout(twice, agents.make("trust_constr"), steps=40).state.terminated.all()
    run = optenvs.rollout(twice, agents.make("slsqp"), steps=40)
    assert run.finished.all() and not run.state.terminated.any()
    assert run.agent_state.status.tolist() == [6], "its own word for a singular matrix"


def test_what_it_cannot_do_is_named() -> None:
    with pytest.raises(ValueError, match="L-BFGS-B knows no constraints, and there are 2"):
        optenvs.rollout(FREE, agents.make("lbfgsb"), steps=1)
    with pytest.raises(
        ValueError, match="BFGS knows no bounds, and the program has some; choose .* bounded=False"
    ):
        optenvs.rollout(Bowl(lowest=-1.0), agents.from_scipy("BFGS"), steps=1)
    with pytest.raises(OracleMismatch, match="ScipyMethod needs the oracle.*hessian, but Quadratic answers"):
        optenvs.rollout(optenvs.make("Quadratic"), agents.from_scipy("trust-exact"), steps=1)
    with pytest.raises(ValueError, match="method: got 'SQP'; did you mean 'SLSQP'"):
        agents.from_scipy("SQP")
    with pytest.raises(ValueError, match="SLSQP: options: Unknown solver options: max_iter"):
        agents.from_scipy("SLSQP", max_iter=3)
    with pytest.raises(ValueError, match="SLSQP: hessian: expected one of auto, none, got 'exact'"):
        agents.SLSQP(hessian="exact")
    with pytest.raises(ValueError, match="COBYQA: tol: expected a number > 0 or None, got 0"):
        agents.from_scipy("COBYQA", tol=0)


def test_the_registered_ones_are_those() -> None:
    assert type(agents.from_scipy("slsqp")) is agents.SLSQP
    assert type(agents.from_scipy("Trust-Constr", maxiter=5)) is agents.TrustConstr
    assert agents.from_scipy("trust-exact").needs == ("value", "gradient", "hessian")
    assert agents.make("slsqp", options={"maxiter": 2}).options == {"maxiter": 2}
    run = optenvs.rollout(FREE, agents.from_scipy("SLSQP", maxiter=2), steps=20)
    assert run.agent_state.status.tolist() == [9], "the limit on iterations"


def test_its_threads_end_with_it() -> None:
    before, agent = set(_RUNNING), agents.make("cobyqa")
    optenvs.rollout(FREE, agent, batch=3, steps=3)
    mine = set(_RUNNING) - before
    assert len(mine) == 3 and all(thread.is_alive() for thread in mine)
    del agent
    gc.collect()
    for thread in mine:
        thread.join(10)
    assert not any(thread.is_alive() for thread in mine)
    assert threading.active_count() < 50


def test_without_scipy_or_with_an_old_one_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("scipy.__version__", "1.15.3")
        with pytest.raises(ImportError, match=r"SLSQP needs scipy >= 1.16, and finds 1.15.3"):
            optenvs.rollout(FREE, agents.make("slsqp"), steps=1)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"SLSQP needs the package scipy: pip install 'optenvs\[scipy\]'"):
        optenvs.rollout(FREE, agents.make("slsqp"), steps=1)


def test_faces_bind_it() -> None:
    env = optenvs.GymEnv(Bowl(budget=100, tolerance=1e-3))
    policy = agents.bind(agents.make("slsqp"), env)
    observation, info = env.reset(seed=0)
    for _ in range(60):
        observation, _, terminated, truncated, info = env.step(policy(observation))
        if terminated or truncated:
            break
    assert terminated and info["calls"]["value"] < 40


def test_a_tape_is_written_once() -> None:
    tape = Tape(torch.arange(6.0).reshape(2, 3))
    first = tape.view
    kept = first.clone()
    for i in range(100):
        tape.append(torch.full((2, 1), float(i)))
    assert torch.equal(first, kept) and tape.view.shape == (2, 103)
    assert torch.equal(tape.view[:, 3:], torch.arange(100.0).expand(2, 100))


def test_the_rows_are_keys() -> None:
    state = FREE.reset(keys_from_seed(0, 2))
    memory = agents.SLSQP().init(state.problem, state.observation, agent_keys(state.key))
    assert memory.form.equalities == 1 and memory.form.count == 2 and memory.told.shape == (2, 0)
