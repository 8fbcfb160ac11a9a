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


def test_each_estimator_is_asked_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "meta_estimators", raising=False)
    example = importlib.import_module("meta_estimators")
    monkeypatch.setattr(example, "LENGTH", 5)
    for name, (keywords, _, rate) in list(example.ESTIMATORS.items()):
        toy = keywords() | {"particles": 2}
        monkeypatch.setitem(example.ESTIMATORS, name, (lambda toy=toy: toy, 3, rate))
    example.main(["all"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:5] == ["estimator", "queries", "inner", "seconds", "before"]
    assert [line.split()[0] for line in printed[1:]] == list(example.ESTIMATORS)
    assert len(example.ESTIMATORS) == 6
    for line in printed[1:]:
        queries, inner, _, before, after, long = map(float, line.split()[1:])
        assert queries == 4
        assert inner >= 20
        assert 0 < after <= before * 1.5 < 150
        assert 0 < long <= 100
    # the least of a tiny training is what it began with, or better on its held-out tasks
    assert len({line.split()[4] for line in printed[1:]}) == 1
