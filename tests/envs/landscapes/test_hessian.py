"""Landscapes on the menu: Hessians, and what a query pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core import State
from optenvs.core.random import keys_from_seed, uniform


def begun(name: str, batch: int = 20, **keywords: Any) -> tuple[Any, State]:
    env = optenvs.make(name, oracle="hessian", dtype="float64", tolerance=None, **keywords)
    return env, env.reset(keys_from_seed(3, batch))


def ask(env: Any, state: State, *kinds: str, **places: Tensor) -> State:
    return env.step(state, state.problem.menu.query(dict.fromkeys(kinds, True), **places))


@pytest.mark.parametrize("name", optenvs.list_envs("landscapes"))
@pytest.mark.parametrize("moved", [False, True], ids=["still", "moved"])
def test_hessians_against_differences(name: str, moved: bool) -> None:
    env, state = begun(name, **({"shift": 0.4, "rotate": True} if moved else {}))
    n = env.dim
    low, high = env.domain
    x = uniform(state.key, "points", n, dtype=torch.float64, low=low, high=high)
    found = ask(env, state, "hessian", point=x).observation["hessian"]
    assert torch.allclose(found, found.mT, rtol=1e-9, atol=1e-9)
    h, columns = 1e-6, []
    for i in range(n):
        ahead, behind = (
            ask(env, state, "gradient", point=x + s * h * torch.eye(n, dtype=torch.float64)[i])
            for s in (1, -1)
        )
        columns.append((ahead.observation["gradient"] - behind.observation["gradient"]) / (2 * h))
    expected = torch.stack(columns, -1)
    size = 1 + expected.abs().amax((-1, -2), keepdim=True)
    # a kink between the two points makes a difference meaningless: at most a point of 20 has one
    assert ((found - expected).abs() > 1e-4 * size).flatten(1).any(1).sum() <= 1


def test_rosenbrocks_hessian_is_the_written_one() -> None:
    env, state = begun("Rosenbrock", dim=2)
    x, y = state.observation["point"].unbind(-1)
    found = ask(env, state, "hessian", point=state.observation["point"]).observation["hessian"]
    cross = -400 * x
    rows = torch.stack((1200 * x**2 - 400 * y + 2, cross)), torch.stack((cross, torch.full_like(x, 200.0)))
    assert torch.allclose(found, torch.stack(rows).permute(2, 0, 1))


@pytest.mark.parametrize("moved", [{}, {"shift": 1.0, "rotate": True}], ids=["still", "moved"])
def test_the_menu_answers_what_the_other_oracles_answer(moved: dict[str, Any]) -> None:
    env, state = begun("Rastrigin", dim=3, **moved)
    other = env.replace(oracle="hvp")
    there = other.reset(state.key)
    point = uniform(state.key, "point", 3, dtype=torch.float64)
    vector = uniform(state.key, "vector", 3, dtype=torch.float64)
    menu = ask(env, state, "value", "gradient", "hvp", point=point, vector=vector)
    whole = ask(env, state, "hvp", "hessian", point=point, vector=vector)
    plain = other.step(there, {"point": point, "vector": vector})
    for kind in ("value", "gradient", "hvp"):
        assert torch.allclose(menu.observation[kind], plain.observation[kind]), kind
    assert torch.allclose(whole.observation["hvp"], plain.observation["hvp"])
    for name in ("merit", "best", "reward"):
        assert torch.allclose(getattr(menu, name), getattr(plain, name)), name
    assert menu.metrics.keys() == plain.metrics.keys()


def test_a_rejected_trial_bills_a_value_alone() -> None:
    env, state = begun("Ackley", dim=4)
    after = ask(env, state, "value", point=state.observation["point"] + 1)
    assert (after.calls.counts - state.calls.counts).tolist() == [[1, 0, 0, 0]] * 20
    assert {kind: n[0].item() for kind, n in state.calls.items()} == {
        "value": 1,
        "gradient": 1,
        "hvp": 0,
        "hessian": 0,
    }
    assert env.limits == {"value": 10_000}
    assert not env.fixed_cost


def test_noise_is_in_values_and_gradients_alone() -> None:
    env, state = begun("Quadratic", dim=3, noise=0.5)
    point = state.observation["point"]
    shown = ask(env, state, "value", "gradient", "hessian", point=point)
    exact, _ = begun("Quadratic", dim=3)
    true = ask(exact, exact.reset(state.key), "value", "gradient", "hessian", point=point).observation
    assert torch.equal(shown.observation["hessian"], true["hessian"])
    for kind in ("value", "gradient"):
        off = shown.observation[kind] - true[kind]
        assert 0.2 < off.std() < 0.8, kind
    assert torch.equal(shown.merit, true["value"].squeeze(-1))


def test_a_users_function_has_a_hessian() -> None:
    quartic = {"fun": lambda x: (x**4).sum(), "dim": 3, "oracle": "hessian", "dtype": "float64"}
    for keywords in ({}, {"grad": lambda x: 4 * x**3}, {"fun": lambda x: (x**4).sum(-1), "batched": True}):
        env = optenvs.from_function(**(quartic | keywords))
        state = env.reset(keys_from_seed(0, 4))
        point = state.observation["point"]
        found = ask(env, state, "hessian", point=point).observation["hessian"]
        assert torch.allclose(found, torch.diag_embed(12 * point**2))
    with pytest.raises(ValueError, match="oracle: a numpy function cannot answer 'hessian'"):
        optenvs.from_function(np.sum, grad=np.ones_like, dim=2, oracle="hessian", backend="numpy")


def test_points_outside_bounds_are_refused_by_the_faces() -> None:
    env = optenvs.GymEnv(optenvs.make("Rosenbrock", oracle="hessian", bounds="domain"))
    env.reset(seed=0)
    good = {"point": [0.5, 0.5], "vector": [0.0, 0.0], "want": [1, 0, 0, 0]}
    shown, _, _, _, info = env.step(good)
    assert shown["answered"].tolist() == [1, 0, 0, 0]
    assert info["calls"] == {"value": 2, "gradient": 1, "hvp": 0, "hessian": 0}
    for bad in ({"point": [50.0, 0.5]}, {"want": [2, 0, 0, 0]}, {"want": [1, 0]}):
        with pytest.raises(optenvs.core.InvalidAction, match=next(iter(bad))):
            env.step(good | bad)
    with pytest.raises(TypeError, match="Stable-Baselines3 takes one Box of actions"):
        optenvs.make_sb3("optenvs/Rosenbrock-v0", 2, oracle="hessian", bounds="domain")
