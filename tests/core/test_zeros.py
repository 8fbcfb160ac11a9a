"""Zeros whose memory is not touched before somebody looks at it."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
import torch

from optenvs.core import zeros as module
from optenvs.core.tracing import recording
from optenvs.core.zeros import WORTH_BYTES, zeros

CPU = torch.device("cpu")
LARGE = (WORTH_BYTES // 8, 2)


@pytest.mark.parametrize("shape", [(3, 2), (0, 4), LARGE])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64])
def test_they_are_zeros_of_ones_own(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    first, second = zeros(shape, dtype, CPU), zeros(shape, dtype, CPU)
    assert first.shape == shape
    assert first.dtype == dtype
    assert first.is_contiguous()
    first += 1
    assert not second.any()
    assert not zeros(shape, dtype, CPU).any()


def test_large_ones_are_pages_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    taken = mmap.mmap

    def noted(fileno: int, length: int, **keywords: Any) -> Any:
        asked.append(length)
        return taken(fileno, length, **keywords)

    monkeypatch.setattr(module.mmap, "mmap", noted)
    zeros((4,), torch.float64, CPU)
    with recording():  # what is recorded is an operation
        zeros(LARGE, torch.float64, CPU)
    assert asked == []
    zeros(LARGE, torch.float64, CPU)
    assert asked == [2 * WORTH_BYTES]


def test_without_pages_they_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> None:
        raise OSError("cannot allocate memory")

    monkeypatch.setattr(module.mmap, "mmap", none_left)
    assert not zeros(LARGE, torch.float64, CPU).any()
