"""A user's own program."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.envs.constrained import functions


def make(equality: Any = None, **keywords: Any) -> Any:
    return optenvs.constrained_from_functions(
        lambda x: (x**2).sum(), equality, **({"start": (1.0, 2.0)} | keywords)
    )


def test_the_example_is_true() -> None:
    assert doctest.testmod(functions).failed == 0


def test_it_passes_the_checker() -> None:
    env = make(
        lambda x: x[0] * x[1] - 2,
        inequality=lambda x: torch.stack((x[0] - 3, torch.sin(x[1]) - 2)),
        lower=(0.0, -torch.inf),
        upper=4.0,
        perturbation=0.1,
    )
    assert (env.size, env.equality_count, env.inequality_count) == (2, 1, 2)
    assert optenvs.check(env, batch=2, steps=2).ok


def test_a_number_is_a_vector_of_one() -> None:
    one, other = make(lambda x: x.sum() - 1), make(lambda x: x.sum().reshape(1) - 1)
    keys = keys_from_seed(0, 2)
    assert torch.equal(
        one.reset(keys).observation["constraints"], other.reset(keys).observation["constraints"]
    )


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({}, "equality, inequality: expected one of them"),
        ({"equality": 3}, "equality: expected a function, got 3"),
        ({"equality": lambda x: x[None].expand(4, 2)}, r"equality: expected a vector .* got \(4, 2\)"),
        ({"equality": lambda x: x[:0]}, "equality: expected a constraint at least"),
        (
            {"equality": lambda x: torch.log(x[0] - 2)},
            r"equality: expected finite numbers at the start, got \[nan\]",
        ),
        ({"inequality": lambda x: torch.sqrt(x[0] - 1)}, "inequality: expected a derivative at the start"),
        (
            {"equality": lambda x: x[5]},
            "equality: cannot be called on a float64 tensor of shape .*IndexError",
        ),
        ({"equality": lambda x: (x[0] > 1.005).double()}, "equality: its answer changes with x in a way"),
        ({"equality": lambda x: x[0].item()}, "equality: cannot be called .* vectorised"),
        (
            {"equality": lambda x: torch.cat((x, x[:1]))},
            "equality: expected at most as many equations as the 2",
        ),
        (
            {"equality": lambda x: torch.stack((x[0] + x[1] - 1, x[0] + x[1] - 2))},
            "equality: linear ones: expected equations with a solution",
        ),
        (
            {"equality": lambda x: x[0], "lower": 3.0, "upper": 2.0},
            "lower, upper: expected lower <= upper, got 3.0",
        ),
        ({"equality": lambda x: x[0], "lower": 1.5}, "start: 1.0 at 0 lies outside the bounds 1.5 to inf"),
        ({"equality": lambda x: x[0], "lower": (1.0,) * 3}, "lower: expected a number or 2 of them"),
        ({"equality": lambda x: x[0], "start": None}, "start: expected a vector of finite numbers, got None"),
        (
            {"equality": lambda x: x[0], "start_multipliers": (1.0, 2.0)},
            "start_multipliers: expected 1 finite",
        ),
        ({"equality": lambda x: x[0], "perturbation": -1.0}, "perturbation: expected a number >= 0"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(keywords: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make(**keywords)


def test_an_objective_must_be_one_number() -> None:
    with pytest.raises(
        ValueError, match=r"objective: expected one number for a point of 2 numbers, got \(2,\)"
    ):
        optenvs.constrained_from_functions(lambda x: x, lambda x: x[0], start=(1.0, 2.0))


def test_constraints_that_say_one_thing_twice_are_told_of() -> None:
    twice = make(lambda x: torch.stack((x.sum() - 3, 2 * x.sum() - 6))).reset(keys_from_seed(0, 1))
    assert twice.metrics["singular"] == 1
    assert make(lambda x: x.sum() - 3).reset(keys_from_seed(0, 1)).metrics["singular"] == 0


def test_equal_bounds_fix_a_variable() -> None:
    # min x1^2 + x2^2 with x1 x2 = 2 and x1 = 1: x = (1, 2), whatever the gradient by x1
    env = make(lambda x: x[0] * x[1] - 2, lower=(1.0, -5.0), upper=(1.0, 5.0))
    state = env.reset(keys_from_seed(0, 1))
    there = env.step(state, env.card.offer.query({"value": True}, x=state.observation["x"]))
    assert there.terminated.all()
    assert there.metrics["kkt"] < 1e-12
