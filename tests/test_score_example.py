"""The example of scores runs from end to end at toy size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import optenvs

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "score_optimizers", raising=False)
    return importlib.import_module("score_optimizers")


def test_classics_are_tuned_and_scored(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "GRID", torch.tensor([1e-3, 1e-2], dtype=torch.float64))
    names = ["SGD", "NAdamW, cosine"]
    example.main(["quadratics", "--steps", "5", "--only", *names, "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[0] == "agent"
    for name, line in zip(names, lines[3:5], strict=True):
        assert line.startswith(f"{name} (lr 0.01)")
        assert "0/15" in line and "90 gradient" in line
        score = optenvs.Score.load(tmp_path / f"quadratics {name}.safetensors")
        assert 0.1 < score.speedup < 4
    assert (tmp_path / "quadratics.png").stat().st_size > 10_000
