"""The example and the benchmark of grokking run at toy size."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script as a module, under a name of its own: two are called alike."""
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.delitem(sys.modules, "timing", raising=False)
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_methods_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example, picture = loaded(FOLDER / "grokking.py", monkeypatch), tmp_path / "picture.png"
    example.main(["--group", "Z5", "--width", "8", "--epochs", "12", "--seeds", "2", "--out", str(picture)])
    printed = capsys.readouterr().out
    assert all(name in printed for name in example.METHODS)
    assert picture.stat().st_size > 10_000
    run = example.run_of("Adam", 30, 2, group="Z3", width=16, fraction=0.9)
    assert example.reached(run, "train_accuracy", 0.3) < np.inf
    assert example.reached(run, "train_accuracy", 2.0) == np.inf


def test_the_boundary_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = loaded(FOLDER / "grokking_boundary.py", monkeypatch)
    assert example.half((0.5, 1.0, 2.0), (0.1, 0.25, 0.75)) == pytest.approx(1.5)
    assert np.isnan(example.half((0.5, 1.0), (0.1, 0.2)))
    example.main(["--groups", "Z5", "S3", "--ratios", "0.5", "0.8", "--width", "6", "--epochs", "3"])
    assert [row.split()[0] for row in capsys.readouterr().out.splitlines()[1:]] == ["Z5", "S3"]


def test_networks_at_once_and_one_by_one_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = loaded(FOLDER / "benchmarks" / "grokking.py", monkeypatch)
    found = benchmark.measure(batch=2, steps=5, alone=5, repeats=1)
    assert found["loss at once"] == pytest.approx(found["loss one by one"], rel=1e-4)
    assert found["ratio"] == pytest.approx(found["one by one"] / found["at once"])
