"""The CIFAR-10 example from end to end, on generated files in the true format: resumed, refused, told."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

import optenvs
from optenvs import data

FOLDER = Path(__file__).parents[1] / "examples"
SMALL = ["--smoke", "--epochs", "3", "--optimizers", "adabelief", "--width", "2", "--batch-size", "64"]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as a module; no folder of the user's is seen."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delenv("OPTENVS_DATA", raising=False)
    return importlib.import_module("cifar10_optimizers")


def epochs_of(out: Path) -> list[dict[str, float]]:
    (path,) = out.glob("*.safetensors")
    saved = optenvs.load(path)
    assert saved["done"] and saved["run"] is None
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in saved["history"]]


def test_a_killed_run_goes_on_as_if_nothing_had_been(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    example.main([*SMALL, "--out", str(whole)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[0] == "adabelief" and "95.44" in printed[1] and printed[1].endswith(" 3")
    assert printed[-1].startswith("generated images")
    losses = [epoch["train_loss"] for epoch in epochs_of(whole)]
    assert len(losses) == 3 and losses[-1] < losses[0]

    replaced = []

    def dies_at_the_second(source: str, target: Path) -> None:
        replaced.append(target)
        if len(replaced) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(os, "replace", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        example.main([*SMALL, "--out", str(killed)])
    monkeypatch.setattr(os, "replace", rename)
    (path,) = killed.iterdir()  # nothing half written is left
    assert len(optenvs.load(path)["history"]) == 1
    example.main([*SMALL, "--out", str(killed)])
    assert epochs_of(killed) == epochs_of(whole)

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(example.optenvs, "rollout", must_not_run)
    example.main([*SMALL, "--out", str(killed)])
    with pytest.raises(SystemExit, match=r"made with widths \(2,\), now \(4,\).*another --out"):
        example.main([*SMALL, "--width", "4", "--out", str(killed)])


def test_rates_fall_at_the_published_epoch(example: ModuleType) -> None:
    for recipe, epoch in ((example.RECIPES["adabelief"], 150), (example.RECIPES["diffgrad"], 80)):
        schedule = example.agents.schedules.Steps(at=(recipe.decay_at,), factor=0.1)
        horizon = torch.full((3, 1), 390.0 * recipe.epochs)
        # the update after k queries answered is number k + 1
        k = torch.tensor([[0.0], [390.0 * epoch - 1], [390.0 * epoch]])
        torch.testing.assert_close(schedule(k, horizon), torch.tensor([[1.0], [1.0], [0.1]]))


def test_the_horizon_is_the_recipe(example: ModuleType, tmp_path: Path) -> None:
    example.generate(tmp_path, count=40)
    core = optenvs.make("optenvs/TrainCifar10-v0", folder=tmp_path, check=False, batch_size=32, epochs=200)
    assert core.evaluations == 6 and core.horizon == 1200


def test_generated_files_are_learnable_and_their_own(example: ModuleType, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        example.generate(tmp_path / folder)
    one, other = (data.load("cifar10", folder=tmp_path / folder, check=False) for folder in ("a", "b"))
    assert one.train_x.shape == (320, 3, 32, 32) and (one.train_x == other.train_x).all()
    with pytest.raises(data.CorruptData):
        data.load("cifar10", folder=tmp_path / "a")


def test_mistakes_are_named(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="cifar10_optimizers: .*neither cifar-10-batches-py.*OPTENVS_DATA"):
        example.main(["--folder", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="no folder given"):
        example.main(["--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        example.main(["--recipe", "diffgrad", "--optimizers", "adabelief"])
    assert "no 'adabelief' in the recipe 'diffgrad'" in capsys.readouterr().err


def test_table_and_claims(example: ModuleType) -> None:
    recipe = example.RECIPES["adabelief"]

    def history(*accuracies: float) -> list[dict[str, float]]:
        return [{"test_accuracy": a} for a in accuracies]

    found = {"adam": [history(0.5, 0.93), history(0.92, 0.91)], "adabelief": [history(0.9, 0.951, 0.95)]}
    head, adam, adabelief = example.table(recipe, found).splitlines()
    assert adam.split() == ["adam", "92.50", "92.00", "93.02", "92.94", "-0.52", "2"]
    assert adabelief.split() == ["adabelief", "95.10", "95.00", "95.44", "95.20", "-0.34", "3"]
    assert head.split()[:3] == ["optimizer", "best", "last"]
    lines = example.verdicts(recipe, found).splitlines()
    assert lines[0].endswith("yes") and lines[1].endswith("NO") and lines[2].endswith("yes")
    del found["adam"]
    assert example.verdicts(recipe, found).splitlines()[2].endswith("adam was not run")
