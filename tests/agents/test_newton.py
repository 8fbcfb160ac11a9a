"""Asking by a menu, and Newton's method: what it finds, and that it pays for nothing twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from menu_problems import Program

import agents
import optenvs
from agents.asking import Notes
from agents.core import Agent
from agents.gradient.newton import damped
from optenvs.core.errors import OracleMismatch
from optenvs.core.random import keys_from_seed, normal


class Asker(Agent):
    """Needs some kinds of a program; the tests ask for it."""

    needs = ("value", "product", "products")

    def init(self, problem: Any, observation: Any, keys: Any) -> Any:
        raise NotImplementedError

    act = init


def begun(**keywords: Any) -> tuple[Program, Any, Notes]:
    env = Program(**keywords)
    state = env.reset(keys_from_seed(0, 3))
    return env, state, Notes.begin(Asker(), state.problem, state.observation)


# notes --------------------------------------------------------------------------------------------


def test_notes_keep_the_last_answer_of_each_kind_by_row() -> None:
    env, state, notes = begun()
    start = state.observation["x"]
    assert notes.holds("value", x=start).all()
    assert not notes.holds("product", x=start).any()
    assert torch.equal(notes["value"], state.observation["value"])
    some = torch.tensor([True, False, True])
    action, notes = notes.ask({"value": some}, x=start + 1)
    after = env.step(state, action)
    notes = notes.read(after.observation)
    assert notes.holds("value", x=start + 1).tolist() == some.tolist()
    assert notes.holds("value", x=start).tolist() == [False, True, False]
    assert torch.equal(notes["value"][1], state.observation["value"][1])
    assert torch.equal(notes["value"][0], after.observation["value"][0])


def test_what_is_held_is_not_asked_again() -> None:
    env, state, notes = begun()
    x = state.observation["x"]
    action, notes = notes.ask({"value": True, "product": True}, x=x, vector=torch.ones_like(x))
    state = env.step(state, action)
    assert state.calls["value"].tolist() == [1, 1, 1], "reset has asked it"
    assert state.calls["product"].tolist() == [1, 1, 1]
    notes = notes.read(state.observation)
    # the value does not depend on the vector, the product does
    moved = torch.ones_like(x)
    moved[2] = 2
    action, notes = notes.ask({"value": True, "product": True}, x=x, vector=moved)
    state = env.step(state, action)
    assert state.calls["value"].tolist() == [1, 1, 1]
    assert state.calls["product"].tolist() == [1, 1, 2]
    assert not notes.read(state.observation).refused.any()


def test_notes_say_what_the_budget_refused() -> None:
    env, state, notes = begun(budget={"hvp": 4, "value": 9})
    block = normal(state.key, "block", (3, 4))
    for refused in (False, True):
        wanted = {"products": torch.tensor([True, True, False])}
        action, notes = notes.ask(wanted, x=state.observation["x"] + 1, block=block)
        state = env.step(state, action)
        notes, block = notes.read(state.observation), block + 1
        assert notes.refused.tolist() == [refused, refused, False]
    assert state.calls["hvp"].tolist() == [3, 3, 0]


def test_what_cannot_be_asked_is_named() -> None:
    state = optenvs.make("Quadratic").reset(keys_from_seed(0, 2))
    with pytest.raises(TypeError, match="agent Asker asks by a menu, and this problem has none"):
        Notes.begin(Asker(), state.problem, state.observation)
    state = optenvs.make("Quadratic", oracle="hessian").reset(keys_from_seed(0, 2))
    with pytest.raises(OracleMismatch, match="Asker needs the oracle.* product, products, but the menu"):
        Notes.begin(Asker(), state.problem, state.observation)


# Newton -------------------------------------------------------------------------------------------


def problem(name: str, **keywords: Any) -> Any:
    return optenvs.make(name, oracle="hessian", dtype="float64", **keywords)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_step_is_the_one_that_it_says(shift: float) -> None:
    keys = keys_from_seed(0, 6)
    root = normal(keys, "root", (4, 4), dtype=torch.float64)
    hessian = root @ root.mT - shift * torch.eye(4, dtype=torch.float64)  # indefinite with a shift
    gradient = normal(keys, "gradient", 4, dtype=torch.float64)
    step, promised = damped(gradient, hessian, torch.full((6,), 0.1, dtype=torch.float64))
    for g, H, s, p in zip(*(x.numpy() for x in (gradient, hessian, step, promised)), strict=True):
        values = np.linalg.eigvalsh(H)
        r = 0.1 * np.abs(values).max() + max(0.0, -values.min())
        assert np.allclose(s, np.linalg.solve(H + r * np.eye(4), -g))
        assert p == pytest.approx(-(g @ s + s @ H @ s / 2))
        assert p > 0


def test_one_undamped_step_solves_a_quadratic() -> None:
    env = problem("Quadratic", dim=6, tolerance=None)
    run = optenvs.rollout(env, agents.Newton(damping=1e-12), batch=5, steps=2)
    assert (run.metrics["gap"][-1] < 1e-18).all()
    assert run.calls["hessian"][-1].tolist() == [1] * 5


def test_it_finds_the_minimum_that_scipys_finds_in_about_as_many_hessians() -> None:
    env = problem("Rosenbrock", dim=2, tolerance=1e-12, budget=200)
    run = optenvs.rollout(env, agents.Newton(), batch=20, seed=1)
    assert run.state.terminated.all()
    theirs = [
        scipy.optimize.minimize(
            scipy.optimize.rosen,
            start,
            jac=scipy.optimize.rosen_der,
            hess=scipy.optimize.rosen_hess,
            method="trust-exact",
        ).nhev
        for start in env.reset(run.state.key).observation["point"].numpy()
    ]
    ours = run.state.calls["hessian"].double().mean()
    assert ours < 1.3 * np.mean(theirs)


def test_a_rejected_trial_bills_one_value_and_an_accepted_point_is_not_bought_twice() -> None:
    env = problem("Rosenbrock", dim=4, budget=120)
    run = optenvs.rollout(env, agents.Newton(), batch=6, record=("point",))
    spent = run.calls.counts.diff(dim=0).tolist()  # values, gradients, products, Hessians
    trials = rejected = 0
    for row in range(6):
        bought = {("value", 0), ("gradient", 0)}  # by reset
        points = [tuple(point) for point in run.recorded["point"][:, row].tolist()]
        for t, bill in enumerate((bills[row] for bills in spent), 1):
            assert bill in ([1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0])
            if bill == [1, 0, 0, 0]:
                trials += 1
                rejected += int(run.merit[t, row] >= run.best[t - 1, row])
            for kind, count in zip(("value", "gradient", "hvp", "hessian"), bill, strict=True):
                place = (kind, points.index(points[t]))
                assert not count or place not in bought, "bought twice"
                bought |= {place} if count else set()
    assert rejected > 5
    assert int(run.state.calls["value"].sum()) == trials + 6, "one a trial, and one by reset"


def test_it_finishes_where_nothing_is_left_to_gain_or_to_pay() -> None:
    flat = optenvs.from_function(lambda x: 1 + (x**2).sum(), dim=2, oracle="hessian", dtype="float64")
    run = optenvs.rollout(flat, agents.Newton(), batch=3)
    assert run.finished.all()
    assert (run.state.calls["value"] < 10).all()
    assert torch.allclose(run.best[-1], torch.ones(3, dtype=torch.float64))
    poor = problem("Rosenbrock", dim=6, budget={"hessian": 3, "value": 50, "gradient": 3})
    run = optenvs.rollout(poor, agents.Newton(), batch=4)
    assert run.done[-1].all()
    assert (run.state.calls["hessian"] <= 3).all()


def test_rows_are_where_they_are_and_others_do_not_matter() -> None:
    env = problem("Rosenbrock", dim=3, budget=60)
    many = optenvs.rollout(env, agents.Newton(), batch=5, seed=4)
    for i in (0, 3):
        alone = optenvs.rollout(env, agents.Newton(), keys=many.state.key[i : i + 1])
        assert alone.state.calls.counts.tolist() == many.state.calls.counts[i : i + 1].tolist()
        assert torch.allclose(alone.best[-1], many.best[-1, i : i + 1])


@pytest.mark.parametrize("bad", [{"damping": 0.0}, {"grow": 1.0}, {"shrink": 0.0}, {"least": 1.0}])
def test_bad_parameters(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"Newton: {next(iter(bad))}: expected a number"):
        agents.Newton(**bad)


def test_faces_bind_it() -> None:
    env = optenvs.GymEnv(problem("Rosenbrock", dim=2))
    policy = agents.bind(agents.Newton(), env)
    observation, info = env.reset(seed=0)
    for _ in range(200):
        observation, _, terminated, truncated, info = env.step(policy(observation))
        if terminated or truncated:
            break
    assert terminated
    assert info["calls"]["hvp"] == 0
