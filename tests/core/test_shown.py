"""What environments, agents and states print: keywords, and large things by shape and dtype."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.core.shown import shown
from optenvs.core.struct import struct
from optenvs.wrappers import StepSizeControl

LARGE = np.random.default_rng(0).standard_normal((40, 40))


def quadratic(**keywords: Any) -> Any:
    data = {"Q": LARGE @ LARGE.T + np.eye(40), "q": LARGE[0], "A": LARGE[:1], "b": [1.0]}
    return optenvs.make("ConstrainedQuadratic", data=data, **keywords)


def test_an_environment_prints_shapes_in_place_of_data() -> None:
    env = quadratic()
    text = repr(env)
    assert text.startswith("ConstrainedQuadratic(budget=10000, ")
    assert "data={'Q': <array (40, 40) float64>, 'q': <array (40,) float64>, " in text
    assert "'b': [1.0]}" in text
    assert str(LARGE[0, 0])[:6] not in text
    assert len(text) < 600


def test_states_and_runs_and_wrappers_are_short_too() -> None:
    env = quadratic()
    state = env.reset(keys_from_seed(0, 3))
    assert "Q=<tensor (3, 40, 40) float64>" in repr(state)
    assert "reward=tensor([0.0, 0.0, 0.0], float64)" in repr(state)
    run = optenvs.rollout(env, agents.SLSQP(), batch=2, steps=2)
    assert "merit=<tensor (3, 2) float64>" in repr(run) and len(repr(run)) < 9_000
    control = StepSizeControl(optenvs.make("Beale"), agents.SGD())
    assert "env=Beale(budget=" in repr(control)


def test_agents_print_their_networks_and_rates_in_a_few_words() -> None:
    assert "lr=<tensor (50,) float32>" in repr(agents.SGD(lr=torch.full((50,), 0.1)))
    assert "lr=tensor([0.5, 0.25], float32)" in repr(agents.SGD(lr=torch.tensor([0.5, 0.25])))
    assert "net=<LSTMNet of 5141 weights>" in repr(agents.LSTMOptimizer())
    with pytest.raises(ValueError, match=r"SGD: lr: expected a number > 0, got <tensor \(50,\) float32>"):
        agents.SGD(lr=torch.zeros(50))


@dataclass
class Written:
    """One that prints itself."""

    numbers: Any

    def __repr__(self) -> str:
        return "as written"


@dataclass
class Plain:
    """One that does not."""

    numbers: Any


@struct
class Own:
    """A struct that prints itself."""

    x: Tensor

    def __repr__(self) -> str:
        return "own"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (None, "None"),
        ("a", "'a'"),
        ("a" * 300, "'" + "a" * 199 + "..."),
        ((1,), "(1,)"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, ... 9 in all]"),
        (torch.tensor(2.0), "tensor(2.0, float32)"),
        (torch.zeros(2, 2), "<tensor (2, 2) float32>"),
        (np.zeros(3), "array([0.0, 0.0, 0.0], float64)"),
        (np.zeros(7, int), "<array (7,) int64>"),
        (torch.nn.Linear(2, 3), "<Linear of 9 weights>"),
        (len, "<function len>"),
        (Written(LARGE), "as written"),
        (Plain(LARGE), "Plain(numbers=<array (40, 40) float64>)"),
        (Own(torch.zeros(9)), "own"),
    ],
)
def test_each_kind_has_a_few_words(value: Any, text: str) -> None:
    assert shown(value) == text


def test_within_a_transform_there_are_no_numbers() -> None:
    texts = []

    def spy(x: Tensor) -> Tensor:
        texts.append(shown(x))
        return x

    with warnings.catch_warnings(action="error"):
        torch.func.vmap(spy)(torch.zeros(4, 2))
    assert texts == ["<tensor (2,) float32>"]


def test_a_class_of_a_users_own_repr_keeps_it() -> None:
    @dataclass(frozen=True, eq=False)
    class Named(agents.SGD):
        def __repr__(self) -> str:
            return "mine"

    @dataclass(frozen=True, eq=False)
    class Heir(Named):
        more: int = 0

    assert repr(Named()) == "mine" and repr(Heir()) == "mine"
