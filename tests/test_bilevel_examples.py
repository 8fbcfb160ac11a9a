"""The examples of two levels run from end to end at toy size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import optenvs

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, request.param, raising=False)
    return importlib.import_module(request.param)


@pytest.mark.parametrize("example", ["bilevel_methods"], indirect=True)
def test_methods_run_or_refuse_at_an_equal_bill(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "METHODS", ("lv_hba", "hypergradient", "unrolled"))
    picture = tmp_path / "picture.png"
    example.main(["--bill", "24", "--batch", "2", "--only", "inequality", "--out", str(picture)])
    printed = capsys.readouterr().out
    assert "Unrolled needs a lower problem without constraints" in printed
    assert "lv_hba" in printed and "hypergradient" in printed
    assert picture.stat().st_size > 5_000


@pytest.mark.parametrize("example", ["bilevel_residual"], indirect=True)
def test_the_residual_is_measured_between_iterations(example: ModuleType) -> None:
    env = optenvs.make("BilevelToy", dim=3, budget=None, tolerance=None)
    first, left = example.course(env, (5, 60), batch=3)
    assert first.shape == (3,) and (first > 0).all()
    assert (left[60] < left[5]).all() and (left[60] < 0.3).all()
