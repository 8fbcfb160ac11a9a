"""The example of policy search runs from end to end at toy size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def test_methods_are_compared_at_equal_trajectories(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "policy_search", raising=False)
    example = importlib.import_module("policy_search")
    example.main(["--budget", "24", "--batch", "2", "--methods", "n_pg_igt", "n_harpg"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("merit at 4, 12, 24 trajectories: median (mean)")
    assert [line.split()[0] for line in printed[1:]] == ["n_pg_igt", "n_harpg"]
    assert all(float(line.split()[1]) in example.RATES for line in printed[1:])


def test_models_are_compared_at_equal_transitions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "policy_search", raising=False)
    example = importlib.import_module("policy_search")
    sizes = ["--transitions", "60", "--batch", "1", "--rates", "0.1", "0.3"]
    example.main([*sizes, "--methods", "vanilla_pg", "--models", "ppo", "a2c"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("merit at 10, 30, 60 transitions: median (mean)")
    assert [line.split()[0] for line in printed[1:]] == ["vanilla_pg", "ppo", "a2c"]
    assert float(printed[1].split()[1]) in (0.1, 0.3)
    assert all(float(line.split()[1]) in example.MODELS[line.split()[0]][3] for line in printed[2:])
    with pytest.raises(SystemExit):
        example.main(["--models", "ppo"])
