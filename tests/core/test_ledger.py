"""The ledger counts, and refuses what it does not know."""

from __future__ import annotations

import pytest
import torch

from optenvs.core.ledger import Ledger


def empty() -> Ledger:
    return Ledger.empty(("gradient", "value"), 3, torch.device("cpu"))


def test_it_reads_like_a_mapping() -> None:
    ledger = empty()
    assert list(ledger) == ["gradient", "value"] == list(ledger.keys())
    assert len(ledger) == 2
    assert "value" in ledger
    assert "hvp" not in ledger
    assert [(kind, count.tolist()) for kind, count in ledger.items()] == [
        ("gradient", [0, 0, 0]),
        ("value", [0, 0, 0]),
    ]


@pytest.mark.parametrize(
    ("bill", "expected"),
    [
        (torch.tensor([1, 2]), [[1, 2], [1, 2], [1, 2]]),
        (torch.tensor([[1, 0], [0, 1], [2, 2]]), [[1, 0], [0, 1], [2, 2]]),
        ({"value": 4}, [[0, 4], [0, 4], [0, 4]]),
        ({"gradient": torch.tensor([1, 2, 3]), "value": 0}, [[1, 0], [2, 0], [3, 0]]),
    ],
    ids=["row", "rows", "by kind", "by kind and instance"],
)
def test_bills(bill, expected: list[list[int]]) -> None:  # type: ignore[no-untyped-def]
    before = empty()
    after = before.bill(bill)
    assert after.counts.tolist() == expected
    assert after.counts.dtype == torch.int64
    assert before.counts.sum() == 0, "a bill makes a new ledger"


def test_bills_add_up_exactly_beyond_float32() -> None:
    ledger = empty().bill({"value": 2**40}).bill({"value": 1})
    assert ledger["value"].tolist() == [2**40 + 1] * 3


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(KeyError, match="no oracle 'hvp' in this ledger; it has gradient, value"):
        empty()["hvp"]
    with pytest.raises(KeyError, match=r"unknown oracle kinds \['hvp'\]"):
        empty().bill({"hvp": 1})


def test_any_spent_budget_ends_it() -> None:
    ledger = empty().bill(torch.tensor([[1, 5], [2, 1], [1, 1]]))
    assert ledger.spent(torch.tensor([2, 5])).tolist() == [True, True, False]


def test_a_recorded_ledger_has_a_time_dimension() -> None:
    counts = torch.zeros(4, 3, 2, dtype=torch.int64)
    assert Ledger(counts=counts, kinds=("gradient", "value"))["value"].shape == (4, 3)
