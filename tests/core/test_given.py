"""What users give by keyword is named where it is wrong, and so is an agent for problems of another kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.errors import OracleMismatch, UnknownKeyword


def square(x: Any) -> Any:
    return (x**2).sum()


def made(**keywords: Any) -> Any:
    equation: Callable[..., Any] = lambda x: (x.sum() - 1).reshape(1)  # noqa: E731
    return optenvs.constrained_from_functions(square, equation, start=(0.0, 0.0), **keywords)


USERS: dict[str, Callable[..., Any]] = {
    "from_function": lambda **k: optenvs.from_function(square, dim=2, **k),
    "constrained_from_functions": made,
    "bilevel_from_functions": lambda **k: optenvs.bilevel_from_functions(
        lambda x, y: square(y) + square(x), lambda x, y: square(y - x), x=[1.0], y=[0.0], **k
    ),
    "network_from_functions": lambda **k: optenvs.network_from_functions(
        [square, square], dim=2, mu=2.0, L=2.0, **k
    ),
    "surrogate_from_module": lambda **k: optenvs.surrogate_from_module(
        torch.nn.Linear(2, 1), lambda y: y.sum(-1), dim=2, **k
    ),
}


@pytest.mark.parametrize("name", USERS)
def test_a_keyword_that_is_none_and_a_dtype_that_is_none_are_named(name: str) -> None:
    with pytest.raises(UnknownKeyword, match=f"{name} got an unexpected keyword argument 'budgte'.*'budget'"):
        USERS[name](budgte=3)
    with pytest.raises(ValueError, match=r"dtype: expected 'float32' or 'float64', got torch\.float64"):
        USERS[name](dtype=torch.float64)


@pytest.mark.parametrize("name", ["adam", "lbfgs", "gns_newton"])
def test_an_agent_for_problems_of_another_kind_is_told_what_it_misses(name: str) -> None:
    expected = r"agent \w+ reads 'point' of an answer, but ConstrainedFunctions answers x, multipliers, "
    with pytest.raises(OracleMismatch, match=expected):
        optenvs.rollout(made(), agents.make(name), steps=2)
    env = optenvs.GymEnv(made())
    seen, _ = env.reset(seed=0)
    with pytest.raises(OracleMismatch, match=expected):
        agents.bind(agents.make(name), env)(seen)


def test_a_field_that_an_agent_misses_later_is_told_too() -> None:
    agent = agents.from_function(lambda seen: seen["velocity"])
    with pytest.raises(OracleMismatch, match="FunctionAgent reads 'velocity' of an answer, but Quadratic"):
        optenvs.rollout(optenvs.make("Quadratic"), agent, steps=2)
    broken = agents.from_function(lambda seen: {}[("a", "b")])
    with pytest.raises(KeyError, match="'a', 'b'"):
        optenvs.rollout(optenvs.make("Quadratic"), broken, steps=2)
