"""Functions of users that are not torch's: whichever of the makers meets one says to write it in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import optenvs
from optenvs.core.errors import cause

MAKERS: dict[str, Callable[[Any], Any]] = {
    "objective": lambda f: optenvs.constrained_from_functions(f, lambda x: x.sum() - 1, start=(1.0, 2.0)),
    "equality": lambda f: optenvs.constrained_from_functions(lambda x: (x**2).sum(), f, start=(1.0, 2.0)),
    "upper": lambda f: optenvs.bilevel_from_functions(lambda x, y: f(y) + (x**2).sum(), near, x=2, y=2),
    "lower": lambda f: optenvs.bilevel_from_functions(near, lambda x, y: f(y - x), x=2, y=2),
    "inequality": lambda f: optenvs.bilevel_from_functions(
        near, near, x=2, y=2, inequality=lambda x, y: f(y)
    ),
    "functions": lambda f: optenvs.network_from_functions([f, f, f], dim=2, mu=1.0, L=2.0),
    "function": lambda f: optenvs.from_function(f, dim=2, backend="torch"),
}
FOREIGN: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda x: np.sum(np.sin(x) ** 2),
    "an array": lambda x: np.dot(np.array([1.0, 2.0]), np.asarray(x)),
    "a float": lambda x: math.sin(x[0]) + float(x[1]),
    "a list": lambda x: [float(value) for value in x],
}


def near(x: Tensor, y: Tensor) -> Tensor:
    return ((y - x) ** 2).sum()


@pytest.mark.parametrize("form", FOREIGN)
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's, of tensors
def test_a_function_of_numpy_or_of_floats_is_told_to_be_torchs(name: str, form: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: .*write it in torch"):
        MAKERS[name](FOREIGN[form])


@pytest.mark.parametrize("name", ["objective", "lower", "functions"])
def test_a_branch_on_a_number_is_told_to_be_where(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: .*torch.where\(a > b, ...\) answers all instances"):
        MAKERS[name](lambda x: x[0] if x[0] > 0 else x[1])


def test_other_errors_are_told_as_they_are() -> None:
    assert cause(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert cause(KeyError()) == "KeyError: without a message"
    assert cause(ValueError("one\ntwo")) == "ValueError: one"
