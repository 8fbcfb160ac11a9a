"""Groups, their irreps, and expressions."""

from __future__ import annotations

import numpy as np
import pytest

from optenvs.envs.grokking.expressions import evaluate
from optenvs.envs.grokking.groups import group_of

ORDERS = {
    "Z7": 7,
    "Z4xZ2": 8,
    "Z2xZ2xZ9": 36,
    "D5": 10,
    "Q8": 8,
    "Q12": 12,
    "S3": 6,
    "S4": 24,
    "A4": 12,
    "A5": 60,
    "Z7:Z3": 21,
    "Z3xS3": 18,
}


@pytest.mark.parametrize("name", ORDERS)
def test_a_named_group_is_one_and_its_characters_are_orthonormal(name: str) -> None:
    group = group_of(name)
    assert group.order == ORDERS[name]
    assert (
        group_of(group.table.tolist()).order == group.order
    )  # the laws are checked of tables that are given
    irreps, order = group.irreps, group.order
    assert (irreps.dims**2).sum() == order
    gram = irreps.characters @ irreps.characters.conj().T / order
    assert np.allclose(gram, np.eye(len(gram)), atol=1e-12)
    assert np.allclose(irreps.characters[0], 1)
    assert np.allclose(irreps.basis.T @ irreps.basis, np.eye(order), atol=1e-10)
    conjugate = group.table[group.table, group.inverse[:, None]]  # x g x^-1
    assert np.allclose(irreps.characters[:, conjugate], irreps.characters[:, None, :], atol=1e-10)


def test_what_is_known_of_some_groups() -> None:
    assert not group_of("S3").abelian and group_of("Z4xZ2").abelian
    assert sorted(group_of("S4").irreps.dims) == [1, 1, 2, 3, 3]
    assert sorted(group_of("A5").irreps.dims) == [1, 3, 3, 4, 5]
    assert group_of("Q8").irreps.types[-1] == "quaternionic"
    assert group_of("D4").irreps.types[-1] == "real"
    assert group_of("Z7:Z3").irreps.types == ("real", "complex", "complex")
    cyclic = group_of("Z5").irreps.characters  # by frequency, a conjugate after each
    assert np.allclose(cyclic[1], np.exp(2j * np.pi * np.arange(5) / 5)) or np.allclose(
        cyclic[2], np.exp(2j * np.pi * np.arange(5) / 5)
    )
    permutations = group_of("S3")
    a, b = 1, 2  # (0, 2, 1) and (1, 0, 2): first b, then a
    assert permutations.table[a, b] == 4 and permutations.table[b, a] == 3


def test_an_identity_that_is_not_first() -> None:
    table = (np.add.outer(np.arange(3), np.arange(3)) + 1) % 3  # 2 is neutral
    group = group_of(table)
    assert group.identity == 2
    assert (group.table[np.arange(3), group.inverse] == 2).all()
    assert group.irreps.dims.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("Z0", "Zm: expected a number in 1 .. 1024"),
        ("Q6", "a multiple of 4"),
        ("S9", "a number in 1 .. 6"),
        ("E8", "expected Zm, Dm"),
        ("", "expected Zm, Dm"),
        ("Z7:Z4", "the order of some number modulo p"),
        ("Z100xZ100", "at most 1024"),
        ([[0, 1], [1]], "expected"),
        ([[0.0, 1.0], [1.0, 0.0]], "whole numbers"),
        ([[0, 1, 2]], "whole numbers"),
        ([[0, 0], [1, 1]], "row 0 of the table does not hold"),
        ([[0, 1], [0, 1]], "column 0"),
        ([[0, 2, 1], [2, 1, 0], [1, 0, 2]], "no neutral element"),
        (
            [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]],
            "not associative",
        ),
        (7, "whole numbers"),
    ],
)
def test_what_is_no_group_is_told(given: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"group: .*{told}"):
        group_of(given)


def test_expressions() -> None:
    pairs = np.array([[3, 5], [6, 2]])
    assert evaluate("x^2 + x*y + y^2", pairs, 7).tolist() == [(9 + 15 + 25) % 7, (36 + 12 + 4) % 7]
    assert evaluate("-x + 3 - y**3", pairs, 7).tolist() == [(-3 + 3 - 125) % 7, (-6 + 3 - 8) % 7]


@pytest.mark.parametrize(
    "expression", ["x/y", "z", "x +", "__import__('os')", "x^y", "x^-1", "x^100", "1.5*x", "x if y else x", 3]
)
def test_other_expressions_are_refused(expression: object) -> None:
    with pytest.raises(ValueError, match="expression: "):
        evaluate(expression, np.array([[1, 2]]), 5)  # type: ignore[arg-type]
