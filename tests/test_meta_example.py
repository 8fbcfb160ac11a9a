"""The example of meta-training runs from end to end at toy size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def test_estimators_train_and_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "meta_train", raising=False)
    example = importlib.import_module("meta_train")
    small = {
        "LENGTH": 2,
        "WINDOW": 2,
        "PARTICLES": 2,
        "RATES": (0.03,),
        "ESTIMATORS": ("bptt", "pes", "open_es"),
    }
    for name, value in small.items():
        monkeypatch.setattr(example, name, value)
    example.main(["--estimator", "all", "--budget", "30", "--out", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:4]] == list(example.ESTIMATORS)
    assert [line.split()[0] for line in printed[4:7]] == ["untrained", "SGD", "Adam"]
    for line in printed[1:4]:
        queries, _, held_out, unseen, long = map(float, line.split()[1:])
        assert 2 <= queries <= 20
        assert 0 < held_out < 100
        assert 0 < unseen < 100
        assert 0 < long <= 100
    assert (tmp_path / "held_out.png").stat().st_size > 10_000
