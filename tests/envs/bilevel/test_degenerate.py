"""Problems of two levels whose data are degenerate: what is told, and that it ends no other row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed

DOUBLE = torch.float64


def upper(x: Tensor, y: Tensor) -> Tensor:
    return ((y - 1) ** 2).sum() + 0.1 * (x**2).sum()


def lower(x: Tensor, y: Tensor) -> Tensor:
    return (y**2).sum() / 2 - x @ y


def made(**changes: Any) -> Any:
    return optenvs.bilevel_from_functions(**({"upper": upper, "lower": lower, "x": 2, "y": 2} | changes))


def apart(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack((y.sum() - x.sum(), y.sum() - x.sum() - 1))


def twice(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack((y.sum() - x.sum(), 2 * (y.sum() - x.sum())))


def test_equations_without_a_solution_are_told_and_are_no_success() -> None:
    env = made(equality=apart, tolerance=1e6)
    state = env.reset(keys_from_seed(0, 2), evaluate=False)
    query = env.card.offer.query({"upper": True}, x=state.observation["x"] + 1)
    for seen in (state, env.step(state, query)):
        assert seen.metrics["unsolved"].eq(1).all() and seen.merit.isinf().all()
        assert not seen.terminated.any(), "what is infeasible is no success, at any tolerance"
        assert not seen.truncated.any() and seen.reward.eq(0).all()


@pytest.mark.parametrize("name", ["A", "E"])
def test_equations_that_depend_on_each_other_are_refused(name: str) -> None:
    rng = np.random.default_rng(0)
    data = {key: rng.random(shape) for key, shape in (("A", (3, 5)), ("H", (3, 5)), ("E", (2, 5)))}
    data |= {"c": rng.random(5), "d": rng.random(5)}
    data[name][-1] = 2 * data[name][0]
    with pytest.raises(ValueError, match=f"data: {name}: expected independent rows, . of . are"):
        optenvs.make("BilevelStrong", dim=5, equations=3, upper_equations=2, data=data)


@pytest.mark.parametrize("kind", ["equality", "inequality"])
def test_a_constraint_that_comes_twice_changes_no_solution(kind: str) -> None:
    """Its multipliers are not unique then: the linear independence of the gradients fails."""
    keys, found = keys_from_seed(3, 4), []
    for function in (twice, lambda x, y: twice(x, y)[:1]):
        env = made(**{kind: lambda x, y, f=function: f(x - 0.25, y)})
        state = env.reset(keys, evaluate=False)
        assert state.metrics["unsolved"].eq(0).all()
        own, x = env.own(state), state.observation["x"]
        found.append((env.solve(own, x).y, env.hypergradient(own, x)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_solution_without_multipliers_is_told() -> None:
    env = made(inequality=lambda x, y: (y**2).sum().reshape(1))  # y = 0 alone, where the slope is 0
    state = env.reset(keys_from_seed(0, 2), evaluate=False)
    assert state.metrics["unsolved"].tolist() == [1, 1]
    assert state.metrics["distance"].isfinite().all()


def test_a_bound_below_the_multipliers_is_told_of_a_users_problem() -> None:
    for bound, short in ((None, 0), (1e-3, 1)):
        env = made(equality=lambda x, y: (y.sum() - x.sum() - 1).reshape(1), bound=bound)
        state = env.reset(keys_from_seed(0, 2), evaluate=False)
        assert state.metrics["short"].tolist() == [short, short]
        torch.testing.assert_close(state.metrics["multiplier"], torch.full((2,), 0.5, dtype=DOUBLE))


def test_an_upper_variable_that_the_lower_level_does_not_use() -> None:
    env = made(lower=lambda x, y: (y - x[:1]).square().sum(), x=[0.5, 2.0])
    state = env.reset(keys_from_seed(0, 1))
    slope = env.hypergradient(env.own(state), state.observation["x"])
    # y* = (x_1, x_1): F is 2 (x_1 - 1)^2 + |x|^2 / 10
    torch.testing.assert_close(slope, torch.tensor([[4 * -0.5 + 0.1, 0.4]], dtype=DOUBLE))
    with pytest.raises(ValueError, match="lower: does not depend on x, and no constraint does"):
        made(lower=lambda x, y: (y**2).sum())


def rooted(x: Tensor, y: Tensor) -> Tensor:
    """No number where y_1 < -2."""
    return upper(x, y) + 0 * (y[0] + 2).sqrt()


@pytest.mark.parametrize(
    "form",
    [{"evaluation_period": 1}, {"evaluation_period": 5}, {"solution": lambda x: x}],
    ids=["newton", "newton at times", "closed form"],
)
def test_a_user_function_that_is_no_number_ends_its_row_alone(form: Any) -> None:
    env = made(upper=rooted, x=[0.5, 0.5], y=[0.0, 0.0], **form)
    state = env.reset(keys_from_seed(0, 3))
    y = state.observation["y"].clone()
    y[1, 0] = -3.0
    query = env.card.offer.query({"upper_gradient": True}, x=state.observation["x"], y=y)
    after = env.step(state, query)
    assert after.diverged.tolist() == [False, True, False]
    assert after.truncated.tolist() == [False, True, False]
    assert not after.terminated[1]
    whole = env.evaluate(after)
    assert whole.metrics["value"].isfinite().all()
    assert whole.merit.isfinite().all()


def nowhere(x: Tensor, y: Tensor) -> Tensor:
    return (y.sum() - x.sum() - 100).sqrt().reshape(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inequality": nowhere}, "equality, inequality: expected finite numbers and slopes at the start"),
        ({"project": lambda x, y: x}, r"project: joint: expected points of shapes \[\(2,\), \(2,\)\], got"),
        ({"project": {"upper": lambda x: x[:1]}}, r"project: upper: expected points of shapes \[\(2,\)\]"),
        ({"project": {"lower": lambda y: y @ y[:1]}}, "project: lower: cannot be called"),
        ({"project": {"upper": lambda x: x / 0 * 0}}, "project: the start x is projected onto what is no"),
    ],
)
def test_what_is_no_number_at_the_start_is_named(changes: dict[str, Callable], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)
