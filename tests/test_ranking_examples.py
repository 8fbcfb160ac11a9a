"""The examples of rankings run from end to end at toy size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module, without the optional package cma."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, request.param, raising=False)
    module = importlib.import_module(request.param)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    return module


@pytest.mark.parametrize("example", ["ranking_methods"], indirect=True)
def test_the_methods_are_compared_and_drawn(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "DIM", 5)
    example.main(["--points", "320", "--batch", "2", "--out", str(tmp_path / "picture.png")])
    printed = capsys.readouterr().out
    assert printed.count("at 320") == 10
    assert "CMA-ES is left out" in printed
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    for method in example.methods(1.0).values():
        shown, value = example.curve(example.problem(example.square, method), method, 320, 2)
        assert 290 <= shown[-1] <= 320, "the methods are not compared at equal cost"
        assert value[-1] < value[0]


@pytest.mark.parametrize("example", ["ranking_policy"], indirect=True)
def test_policies_learn_on_a_task_without_mujoco(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(["--task", "cartpole", "--rounds", "16", "--length", "60", "--batch", "5"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ZO-RankSGD")]
    first, *_, last = (float(line.split("median ")[1].split()[0]) for line in lines)
    assert first < 45
    assert last > 50
