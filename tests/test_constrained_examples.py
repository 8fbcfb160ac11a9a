"""The examples of constrained programs run from end to end at toy size."""

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
    """The example as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, request.param, raising=False)
    return importlib.import_module(request.param)


@pytest.mark.parametrize("example", ["constrained_agents"], indirect=True)
def test_agents_are_compared_at_an_equal_bill(
    example: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(example, "BUDGET", 25)
    picture = tmp_path / "picture.png"
    example.main(["--batch", "2", "--only", "HS40", "--out", str(picture)])
    printed = capsys.readouterr().out
    assert all(name in printed for name in example.AGENTS)
    assert picture.stat().st_size > 5_000
    costs = example.costs("HS40", "adasketch_newton", 2)
    assert np.isfinite(costs).all() and (costs > 10).all()


@pytest.mark.parametrize("example", ["sketched_newton"], indirect=True)
def test_published_iterations_and_ours_stand_side_by_side(example: ModuleType) -> None:
    assert example.PUBLISHED["ORTHREGB"] == 42 and example.PUBLISHED["BT2"] == 12
    assert example.WHY.keys() <= example.PUBLISHED.keys()
    for row in example.problems(("HS28", "HS40")):
        assert row["published"] == row["ours"] == row["at 1e-8"]
        assert row["residual"] <= 1e-4
    residuals, sketches = example.pde("exact", 1, 0)
    assert len(residuals) == 2 and residuals[-1] < 1e-12 and sketches == 0
    assert example.logistic(range(1)) == [8]
