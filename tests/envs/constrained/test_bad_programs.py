"""Programs whose author is wrong: a clear error, or a word of the checker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import optenvs
from optenvs.core.checker import CheckFailed
from optenvs.core.random import keys_from_seed
from optenvs.envs.constrained.base import Constrained
from optenvs.envs.constrained.parts import Draw


@dataclass(frozen=True, eq=False, kw_only=True)
class Program(Constrained):
    """|x|^2 subject to two equations that ``wrong`` spoils."""

    wrong: str = ""

    @property
    def size(self) -> int:
        return 3

    @property
    def equality_count(self) -> int:
        return 1 if self.wrong == "scalar" else 2

    def draw(self, keys: Any) -> Draw:
        return Draw(data=None, start=torch.ones(len(keys), 3, dtype=self.torch_dtype))

    def objective(self, data: Any, x: Tensor) -> Tensor:
        return x.square().sum(-1, keepdim=self.wrong == "column")

    def constraints(self, data: Any, x: Tensor) -> Tensor:
        c = torch.stack((x[:, 0] * x[:, 1] - 1, x[:, 2] - 1, x[:, 0]), -1)
        return c[:, 0] if self.wrong == "scalar" else c[:, : 3 if self.wrong == "long" else 2]

    def lagrangian_hessian(self, data: Any, x: Tensor, multipliers: Tensor | None) -> Tensor:
        H = super().lagrangian_hessian(data, x, multipliers)
        return H.tril() if self.wrong == "triangle" and multipliers is not None else H


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("long", r"constraints: expected shape \(4, 2\), rows first, got \(4, 3\)"),
        ("scalar", r"constraints: expected shape \(4, 1\), rows first, got \(4,\)"),
        ("column", r"objective: expected shape \(4,\), rows first, got \(4, 1\)"),
    ],
)
def test_what_has_another_shape_is_named(wrong: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Program(wrong=wrong).reset(keys_from_seed(0, 4))


def test_the_checker_sees_a_hessian_that_is_not_symmetric() -> None:
    assert optenvs.check(Program(), batch=2, steps=2).ok
    with pytest.raises(CheckFailed, match="expected a symmetric matrix: transposed, hessian"):
        optenvs.check(Program(wrong="triangle"), batch=2, steps=2)


def test_more_equations_than_variables_and_starts_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="equalities: expected at most dim = 3, got 4"):
        optenvs.make("ConstrainedQuadratic", dim=3, equalities=4)
    data = {"Q": [[1.0]], "q": [0.0], "A": [[1.0]], "b": [1.0], "lower": [0.0], "upper": [2.0]}
    with pytest.raises(ValueError, match="start: 3.0 at 0 lies outside the bounds 0.0 to 2.0"):
        optenvs.make("ConstrainedQuadratic", data=data, start=(3.0,))
    # some that say one thing several times have a solution
    many = {"Q": [[1.0]], "q": [0.0], "A": [[1.0], [2.0]], "b": [1.0, 2.0]}
    state = optenvs.make("ConstrainedQuadratic", data=many).reset(keys_from_seed(0, 1))
    assert state.metrics["singular"] == 1
    assert float(state.hidden.optimum) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"q": [[0.0], [0.0]]}, r"data: q: expected shape \(2,\), got \(2, 1\)"),
        ({"q": [0.0, 0.0, 0.0]}, r"data: q: expected shape \(2,\), got \(3,\)"),
        ({"Q": [[1.0]]}, r"data: Q: expected shape \(2, 2\), got \(1, 1\)"),
        ({"A": [[1.0]]}, r"data: A: expected shape \(k, 2\), got \(1, 1\)"),
        ({"A": [1.0, 1.0]}, r"data: A: expected shape \(k, 2\), got \(2,\)"),
        ({"b": [1.0, 2.0]}, r"data: b: expected shape \(1,\), one for each row of A, got \(2,\)"),
        ({"G": [[1.0, 0.0]]}, r"data: h: expected shape \(1,\), one for each row of G, got \(0,\)"),
        ({"lower": [0.0]}, r"data: lower: expected shape \(2,\), got \(1,\)"),
        ({"b": [True]}, "data: b: expected an array of numbers"),
    ],
)
def test_the_array_that_is_wrong_is_named(changed: dict[str, Any], told: str) -> None:
    data = {"Q": [[1.0, 0.0], [0.0, 1.0]], "q": [0.0, 0.0], "A": [[1.0, 1.0]], "b": [1.0]}
    with pytest.raises(ValueError, match=told):
        optenvs.make("ConstrainedQuadratic", data=data | changed)


def test_a_scale_beside_a_start_has_no_effect() -> None:
    with pytest.raises(ValueError, match=r"scale: 100.0 would have no effect beside start="):
        optenvs.make("ConstrainedQuadratic", dim=2, equalities=1, start=(1.0, 2.0), scale=100.0)
    with pytest.raises(ValueError, match="scale: expected a number >= 0, got '1'"):
        optenvs.make("ConstrainedQuadratic", scale="1")
