"""The example of ranked latents runs from end to end at toy size."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def test_the_taste_is_met_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    example = importlib.import_module("ranking_latents")
    example.main(["--batch", "8", "--rounds", "8", "--out", str(tmp_path / "latents.png")])
    lines = [line for line in capsys.readouterr().out.splitlines() if "probability" in line]
    means = [float(line.split("digit ")[1].split(",")[0]) for line in lines]
    assert [int(line.split()[0]) for line in lines] == [0, 2, 4, 8]
    assert means == sorted(means), "a search without mistakes went down"
    assert means[-1] > means[0] + 0.3
    assert (tmp_path / "latents.png").stat().st_size > 10_000
