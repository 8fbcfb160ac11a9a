"""``optenvs score`` and ``optenvs splits``: what they print and write, and that mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import agents
import optenvs
from optenvs.bench.cli import main

TINY = ("seeds", "--tasks", "LeastSquares", "--set", "dim=2", "--steps", "6")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTENVS_CACHE", str(tmp_path / "cache"))


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def mistake(*arguments: Any) -> str:
    result = call(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


def test_splits_are_listed() -> None:
    told = call("splits")
    assert told.exit_code == 0
    assert all(f"{name} " in told.stdout for name in optenvs.list_splits())
    assert "Rosenbrock(dim=4)" in told.stdout
    assert "2500" in told.stdout
    (line,) = (line for line in told.stdout.splitlines() if line.startswith("quadratics "))
    assert "shipped" in line and "5 of each" in line


def test_a_score_from_the_name_to_the_files(tmp_path: Path) -> None:
    result = call("score", "sgd", *TINY, "--param", "lr=0.05", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    tasks = {"env": "LeastSquares", "dim": 2}
    found = optenvs.score(agents.SGD(lr=0.05), "seeds", tasks=tasks, steps=6, name="sgd")
    kept = optenvs.Score.load(tmp_path / "out" / "score.safetensors")
    assert kept.speedups.tolist() == found.speedups.tolist()
    assert "sgd on seeds, 6 steps\n" in result.stdout
    assert f"{found.speedup:.2f}" in result.stdout
    assert (tmp_path / "out" / "score.txt").read_text() == f"{kept.table()}\n"
    assert kept.table() in result.stdout
    assert (tmp_path / "out" / "score.png").stat().st_size > 10_000


def test_a_published_split_needs_no_table(tmp_path: Path) -> None:
    result = call("score", "adam", "quadratics", "--steps", 3)
    assert result.exit_code == 0
    assert "adam on quadratics, 3 steps" in result.stdout
    assert not (tmp_path / "cache").exists()


def test_weights_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rule.safetensors"
    agents.LOLv2(hidden=3, seed=5, step_multiplier=0.1).save(file)
    told = call("score", "lolv2", *TINY, "--pretrained", file, "--out", tmp_path)
    assert told.exit_code == 0
    tasks = {"env": "LeastSquares", "dim": 2}
    found = optenvs.score(agents.LOLv2.load(file), "seeds", tasks=tasks, steps=6)
    assert optenvs.Score.load(tmp_path / "score.safetensors").speedup == found.speedup
    assert "agent 'sgd' has no weights to bring" in mistake("score", "sgd", *TINY, "--pretrained", file)
    assert "hidden: expected 3" in mistake(
        "score", "lolv2", *TINY, "--pretrained", file, "--param", "hidden=4"
    )
    assert "has no weights 'nothing'" in mistake("score", "lolv2", *TINY, "--pretrained", "nothing")


def test_mistakes_are_one_line() -> None:
    assert "no 'quadratic'; did you mean 'quadratics'" in mistake("score", "sgd", "quadratic")
    assert "no agent 'sgdd'; did you mean 'sgd'" in mistake("score", "sgdd", "quadratics")
    assert "501 are more than the 500" in mistake("score", "sgd", "quadratics", "--steps", 501)
    assert "needs the oracle(s) ranking" in mistake("score", "zo_ranksgd", "quadratics")
    assert "--set: it is about --tasks" in mistake("score", "sgd", "quadratics", "--set", "dim=2")
    assert "--param: expected KEY=VALUE" in mistake("score", "sgd", "quadratics", "--param", "lr")
