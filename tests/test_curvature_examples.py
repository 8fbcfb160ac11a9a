"""The examples of curvature run from end to end at toy size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example, or the benchmark, as a module."""
    for folder in (FOLDER, FOLDER / "benchmarks"):
        monkeypatch.syspath_prepend(str(folder))
    for name in (request.param, "timing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(request.param)


@pytest.mark.parametrize("example", ["curvature_methods"], indirect=True)
def test_methods_are_compared_at_an_equal_bill(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    example.main(["--bill", "150", "--batch", "2", "--only", "valley", "--out", str(picture)])
    printed = capsys.readouterr().out
    assert all(name in printed for name in example.METHODS)
    assert picture.stat().st_size > 10_000
    make, kind = example.problems()["valley^5"]
    bills, curves = example.compare(make, kind, 60, 1.0, 2)
    assert bills[-1] == 60
    for curve in curves.values():
        assert (np.diff(curve) <= 0).all()
        assert curve[-1] < 1


@pytest.mark.parametrize("example", ["curvature_paper_size"], indirect=True)
def test_published_counts_at_a_small_size(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(["--small", "--only", "n=50 m=50"])
    counts = [line.split(",")[1].split()[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert counts == ["10", "14", "37"]


@pytest.mark.parametrize("example", ["ppo_gns"], indirect=True)
def test_a_policy_and_the_search_meet_held_out_instances(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(["--iterations", "1", "--trials", "8", "--instances", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["PPO", "search (gns_search)"]
    assert "PPO 256" in lines[-1]


@pytest.mark.parametrize("example", ["curvature"], indirect=True)
def test_the_batch_and_scipy_solve_the_same_instances(example: ModuleType) -> None:
    found = example.measure(batch=6, operators=2, repeats=1)
    for row in found.values():
        assert row["batch"] > 0
        assert row["loop"] > 0
        assert row["values of scipy"] > 5
        assert row["values"] > 5
