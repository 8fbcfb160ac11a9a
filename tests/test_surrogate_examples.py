"""The examples of surrogates run from end to end at toy size."""

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


@pytest.mark.parametrize("example", ["surrogate_profiles"], indirect=True)
def test_the_solvers_are_compared_and_what_is_kept_is_not_run_again(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("PyNomad")
    monkeypatch.setattr(example, "TOGETHER", 2)
    options = ["--only", "ReluBox", "--instances", "3", "--points", "12"]
    options += ["--keep", str(tmp_path / "runs"), "--out", str(tmp_path / "picture.png")]
    example.main(options)
    printed = capsys.readouterr().out
    assert [line.split()[:2] for line in printed.splitlines()[1:4]] == [
        ["ReluBox", solver] for solver in example.SOLVERS
    ]
    assert (tmp_path / "picture.png").stat().st_size > 5_000
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 6
    # the instances are those of one batch, at equal points
    whole = example.run("ReluBox", "mads", example.PROBLEMS["ReluBox"]._replace(points=12), 0, 3)
    kept = example.curves("ReluBox", example.PROBLEMS["ReluBox"]._replace(points=12), 3, tmp_path / "runs")
    for i in range(3):
        assert np.array_equal(kept["mads"][i][1], whole["best"][:, i])
        starts = [kept[solver][i][1][0] for solver in example.SOLVERS]
        assert starts == pytest.approx([starts[0]] * 3, rel=1e-12), "another start"
        assert all(kept[solver][i][0][0] == 1 for solver in example.SOLVERS)
    monkeypatch.setattr(example, "run", None)
    example.main(options)
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("example", ["surrogate_profiles"], indirect=True)
def test_points_are_counted_to_the_best_of_all_and_to_the_end_of_nomad(example: ModuleType) -> None:
    calls = np.array([1, 2, 3, 4])
    found = {
        "barrier_attack": [(calls, np.array([10.0, 1.0, 0.0, 0.0]))],
        "mads": [(calls, np.array([10.0, 9.0, 9.0, 9.0]))],
        "nomad": [(calls, np.array([10.0, 8.0, 5.0, 4.999]))],
    }
    passed, as_good, ends = example.points_needed(found)
    assert ends.tolist() == [[0.0, 9.0, 4.999]]
    never = np.inf
    assert passed[0].tolist() == [[2, 3, 3], [never] * 3, [never] * 3]
    assert as_good[0].tolist() == [[2, 2, 2], [never] * 3, [3, 3, 3]]


@pytest.mark.parametrize("example", ["biodiesel_agents"], indirect=True)
def test_four_agents_travel_on_the_map(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(["--points", "6", "--side", "12", "--out", str(tmp_path / "picture.png")])
    lines = capsys.readouterr().out.splitlines()
    ends = {line.split()[0]: float(line.split()[5]) for line in lines[1:5]}
    assert list(ends) == list(example.COLOURS)
    assert ends["barrier_attack"] == pytest.approx(1.8626, abs=1e-3)
    assert max(ends[name] for name in ends if name != "barrier_attack") < 1.2
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    times, powers, value, limits = example.map_of_yields(13)
    assert (times[4], powers[9]) == (40.0, 15.0)
    energy, *others = (limit[9, 4] for limit in limits)
    assert energy == pytest.approx(1000 * (40 * 15 - 500)) and max(others) < 0
    assert value[3, 4] < value[3, 8]  # longer is better
