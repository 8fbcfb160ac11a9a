"""The tests' own check of shapes says what jaxtyping says, at the first call of a kind and at later ones."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import typechecking
from jaxtyping import Float, Int64, TypeCheckError
from torch import Tensor

from agents.gradient.adabelief import AdaBeliefState
from optenvs.core.random import keys_from_seed, uniform_at

zeros = functools.partial(torch.zeros, dtype=torch.float64)


def weigh(
    x: Float[Tensor, "B n"], w: Float[Tensor, "n"] | None = None, *, shift: Float[Tensor, "B"] | float = 0.0
) -> Float[Tensor, "B"]:
    if w is not None and w[0] == 7.0:
        return zeros(len(x) + 1)  # what it must not answer
    return x.sum(-1) + shift


def parts(d: dict[str, Float[Tensor, "B"]], *more: Float[Tensor, "B"]) -> tuple[Float[Tensor, "B"], ...]:
    return (*d.values(), *more)


@dataclasses.dataclass
class Point:
    x: Float[Tensor, "B n"]
    step: Int64[Tensor, "B"]


BAD: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (weigh, (zeros(3),), {}),
    (weigh, (zeros(3, 2), zeros(3)), {}),
    (weigh, (zeros(3, 2),), {"w": zeros(3)}),
    (weigh, (zeros(3, 2),), {"shift": zeros(2)}),
    (weigh, (zeros(3, 2).long(),), {}),
    (weigh, (zeros(3, 2),), {"shift": None}),
    (weigh, (zeros(3, 2).numpy(),), {}),
    (weigh, (zeros(3, 2), torch.tensor([7.0, 0.0])), {}),
    (parts, ({"a": zeros(3, 1)},), {}),
    (parts, ({"a": zeros(3)}, zeros(2)), {}),
    (Point, (zeros(3, 2), zeros(2).long()), {}),
    (Point, (zeros(3, 2), zeros(3)), {}),
    (Point, (), {"x": zeros(3), "step": zeros(3).long()}),
]
GOOD: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (weigh, (zeros(3, 2),), {}),
    (weigh, (zeros(3, 2), zeros(2)), {"shift": zeros(3)}),
    (weigh, (zeros(3, 2), None), {"shift": 1}),  # an int is a float
    (weigh, (), {"x": zeros(4, 1).float()}),
    (parts, ({"a": zeros(3), "b": zeros(3)},), {}),
    (parts, ({}, zeros(2)), {}),
    (Point, (zeros(3, 2), zeros(3).long()), {}),
]


def fresh(what: Any) -> Any:
    """Checked, with a copy of a class, which the check changes."""
    if isinstance(what, type):
        what = dataclasses.dataclass(type(what.__name__, (), {"__annotations__": what.__annotations__}))
        what.__module__ = __name__
    return typechecking.jaxtyped(typechecker=None)(what)


@pytest.mark.parametrize("case", range(len(BAD)))
def test_a_wrong_shape_is_found_whatever_was_called_before(case: int) -> None:
    what, args, kwargs = BAD[case]
    checked = fresh(what)
    for _ in range(2):
        with pytest.raises(TypeCheckError, match=what.__name__):
            checked(*args, **kwargs)
        for good, right, named in GOOD:
            if good is what:
                checked(*right, **named)
                checked(*right, **named)


def test_a_known_combination_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, seen = fresh(weigh), []
    asked = typechecking._Checks._check

    def counted(self: Any, check: Any, with_answer: bool) -> Any:
        made = asked(self, check, with_answer)
        return lambda *args, **kwargs: (seen.append(with_answer), made(*args, **kwargs))

    monkeypatch.setattr(typechecking._Checks, "_check", counted)
    monkeypatch.setattr(typechecking, "_seen", {})
    checked = fresh(weigh)
    for _ in range(5):
        checked(zeros(3, 2))
    assert seen == [False, True]
    checked(zeros(4, 2))
    assert seen == [False, True] * 2


def test_environments_and_agents_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="uniform_at"):
        uniform_at(keys_from_seed(0, 2), "noise", torch.arange(3))
    with pytest.raises(TypeCheckError, match="__init__"):
        AdaBeliefState(zeros(3, 2), zeros(2, 2), None, zeros(3, 1))


def test_functions_without_shapes_are_left_as_they_are() -> None:
    def plain(x: Tensor, n: int) -> int:
        return n

    assert typechecking.jaxtyped(typechecker=None)(plain) is plain


def test_a_bad_call_gets_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        fresh(weigh)(zeros(3, 2), y=1)


def test_pythons_generator_of_random_numbers_is_left_alone() -> None:
    before = random.getstate()
    fresh(parts)({"a": zeros(3), "b": zeros(3)})
    assert random.getstate() == before
