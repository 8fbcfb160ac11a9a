"""Two levels of the user's: from torch functions of one instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.snapshot import load, save

DOUBLE = torch.float64
A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=DOUBLE)


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + 0.1 * (x**2).sum()


def lower(x: Tensor, y: Tensor) -> Tensor:
    return y @ A.to(y) @ y / 2 - x @ y


def balance(x: Tensor, y: Tensor) -> Tensor:
    return (x + y).sum().reshape(1)


def signs(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack((y.sum() - x.sum(), -y[0]))


def noisy(x: Tensor, y: Tensor, own: Tensor) -> Tensor:
    return ((own @ y - own @ x) ** 2).mean()


SAMPLES = torch.linspace(-1, 1, 20, dtype=DOUBLE).reshape(10, 2) + torch.eye(2, dtype=DOUBLE).repeat(5, 1)
FORMS: dict[str, dict[str, Any]] = {
    "without constraints": {"lower": lower},
    "with its solution": {"lower": lower, "solution": lambda x: torch.linalg.solve(A, x)},
    "without a solver": {"lower": lower, "solver": None},
    "affine equalities": {"lower": lower, "equality": balance, "project": "affine"},
    "inequalities": {"lower": lower, "inequality": signs},
    "mini-batches": {"lower": noisy, "samples": {"lower": SAMPLES}, "batch_size": 3},
}


def made(**changes: Any) -> Any:
    return optenvs.bilevel_from_functions(**({"upper": upper, "lower": lower, "x": 2, "y": 2} | changes))


@pytest.mark.parametrize("form", FORMS)
def test_the_checker_passes(form: str) -> None:
    optenvs.check(made(**FORMS[form]), batch=2, steps=2)


def test_a_given_solution_and_newtons_method_agree() -> None:
    keys = keys_from_seed(0, 3)
    states, envs = [], [made(), made(solution=lambda x: torch.linalg.solve(A, x))]
    for env in envs:
        state = env.reset(keys)
        query = env.card.offer.query({"solution": True, "hypergradient": True}, x=state.observation["x"])
        states.append(env.step(state, query))
    for kind in ("solution", "hypergradient"):
        torch.testing.assert_close(states[0].observation[kind], states[1].observation[kind])
    assert (states[0].calls["newton"] >= 1).all(), "the steps are billed"
    assert "newton" not in states[1].calls


def test_newtons_method_holds_the_constraints() -> None:
    env = made(
        inequality=lambda x, y: (y.sum() - x.sum() - 0.1).reshape(1),
        equality=lambda x, y: (y[1] - x[1]).reshape(1),
    )
    state = env.reset(keys_from_seed(0, 8))
    x, own = state.observation["x"], env.own(state)
    found = env.solve(own, x)
    g = env.constrain(own, x, found.y)
    assert float(g[:, 0].abs().max()) < 1e-8
    assert float(g[:, 1:].max()) < 1e-8
    assert float(found.multipliers[:, 1:].min()) > -1e-8
    assert float((g * found.multipliers).abs().max()) < 1e-7
    slope = env.lower_slope(own, x, found.y)[1] + env.pull(own, x, found.y, found.multipliers)[1]
    assert float(slope[:, 2:].abs().max()) < 1e-7


def test_an_infeasible_lower_problem_is_told_and_ends_no_other_row() -> None:
    env = made(inequality=lambda x, y: torch.stack((y[0] - x[0], -y[0])))  # 0 <= y <= x
    state = env.reset(keys_from_seed(0, 8))
    infeasible = state.observation["x"][:, 0] < 0
    assert 0 < int(infeasible.sum()) < 8
    assert torch.equal(state.metrics["unsolved"] > 0, infeasible)
    assert state.merit[~infeasible].isfinite().all()


def test_the_implicit_hypergradient_is_the_slope_of_phi() -> None:
    env = made(equality=balance, project="affine")
    state = env.reset(keys_from_seed(0, 3))
    own, x = env.own(state), state.observation["x"]
    steps = 1e-5 * torch.eye(2, dtype=DOUBLE)
    columns = [(env.value(own, x + e) - env.value(own, x - e)) / 2e-5 for e in steps]
    torch.testing.assert_close(env.hypergradient(own, x), torch.stack(columns, -1), rtol=1e-6, atol=1e-7)


def test_mini_batches_are_drawn_anew_and_judged_on_all() -> None:
    env = made(lower=noisy, samples={"lower": SAMPLES}, batch_size=3)
    state = env.reset(keys_from_seed(0, 2))
    ask = env.card.offer.query({"lower": True}, x=state.observation["x"], y=state.observation["y"] + 1)
    one = env.step(state, ask)
    again, other = env.step(state, ask), env.step(one, ask)
    assert torch.equal(one.observation["lower"], again.observation["lower"])
    assert (one.observation["lower"] != other.observation["lower"]).all()
    assert torch.equal(one.metrics["upper_value"], other.metrics["upper_value"])
    assert "solution" not in env.oracles
    whole = made(lower=noisy, samples={"lower": SAMPLES})
    assert torch.equal(
        whole.lower(whole.own(state), ask["x"], ask["y"]), env.lower(env.own(state), ask["x"], ask["y"])
    )


def test_an_agent_that_misses_a_projection_says_so() -> None:
    with pytest.raises(TypeError, match="agent LVHBA needs the projection 'joint'"):
        optenvs.rollout(made(inequality=signs), agents.LVHBA(), steps=1)


def test_hypergradient_descent_solves_it() -> None:
    env = made(solution=lambda x: torch.linalg.solve(A, x))
    run = optenvs.rollout(env, agents.Hypergradient(), steps=60)
    assert float(run.metrics["residual"][-1].max()) < 1e-5


def test_a_state_with_projections_goes_to_disk(tmp_path: Path) -> None:
    env = made(inequality=signs, project={"feasible": lambda x, y: y.minimum(x)})
    state = env.reset(keys_from_seed(0, 2))
    read = load(save(tmp_path / "state", state))
    x, y = state.observation["x"], state.observation["y"]
    assert torch.equal(read.problem.geometry.feasible(x, y + 5), (y + 5).minimum(x))


def nowhere(x: Tensor, y: Tensor) -> Tensor:
    return (y**2).sum().sqrt().log() * 0 + torch.tensor(float("nan"), dtype=y.dtype) * y.sum()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"equality": lambda x, y: (x + y).sum()}, r"equality: expected a tensor \(p,\).*g.reshape\(1\)"),
        ({"inequality": lambda x, y: 1.0}, "inequality: expected a tensor.*got float"),
        (
            {"equality": lambda x, y: torch.cat((y, x.sum().reshape(1)))},
            "equality: 3 equations cannot hold for 2",
        ),
        ({"lower": lambda x, y: (y**2).sum()}, "lower: does not depend on x, and no constraint does"),
        ({"lower": lambda x, y: (x**2).sum()}, "lower: does not depend on y"),
        ({"upper": lambda x, y: x + y}, r"upper: expected one number, got shape \(2,\)"),
        ({"upper": lambda x, y: x @ y[:1]}, "upper: cannot be called on float64 tensors x"),
        ({"lower": nowhere}, "lower: (expected a finite value|does not depend)"),
        ({"solution": lambda x: x[:1]}, r"solution: expected y \(2,\)"),
        ({"x": 0}, "x: expected a whole number >= 1, got 0"),
        ({"x": [1.0, float("nan")]}, "x: expected finite numbers"),
        ({"project": "plane"}, "project: expected functions or 'affine', got 'plane'"),
        ({"project": {"both": lambda x: x}}, "project: no 'both'"),
        ({"project": "affine", "equality": lambda x, y: (x * y).sum().reshape(1)}, "are not affine"),
        (
            {"project": "affine", "equality": lambda x, y: torch.stack((y.sum(), x[0] + y.sum()))},
            "equality: its 2 equations depend on each other in y: 1 of them",
        ),
        ({"batch_size": 3}, "batch_size: expected samples with it"),
        ({"samples": {"inner": SAMPLES}}, "samples: expected a mapping with upper, lower or both"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Callable[..., Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)
