"""The scripts that made the shipped weights run from end to end at toy size, and write what is loaded."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import agents

FOLDER = Path(__file__).parents[1] / "examples"
DIGITS = {"env": "optenvs/TrainDigits-v0", "samples": 64, "widths": (2,), "batch_size": 8}


def loaded(name: str, monkeypatch: pytest.MonkeyPatch, **small: Any) -> Any:
    """A script with a table of one small column."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for module in ("against_tuned", name):
        monkeypatch.delitem(sys.modules, module, raising=False)
    against = importlib.import_module("against_tuned")
    column = against.Column("toy", (DIGITS,), 4, seeds=2, tuning=1, fineness=1)
    monkeypatch.setattr(against, "COLUMNS", dict.fromkeys(against.COLUMNS, (column,)))
    monkeypatch.setattr(against, "SMALL_NETWORKS", (DIGITS,))
    script = importlib.import_module(name)
    for field, value in small.items():
        monkeypatch.setattr(script, field, value)
    return script


def check_table(printed: str, first: str) -> None:
    """All rows are there, and the numbers of those that are tuned are losses."""
    lines = printed.split("optimizer ")[-1].splitlines()[1:]
    names = ["Adam, 0.001"]
    for name in ("SGD", "momentum 0.9", "Adam", "AdamW", "NAdamW"):
        names += [name, f"{name}, cosine"]
    assert [line[:22].strip() for line in lines[:12]] == [first, *names]
    for line in lines[:12]:
        mean, last = map(float, line[22:].split())
        assert 0 < mean < 25 and 0 < last < 25


@pytest.mark.parametrize("rule", ["lolv2", "adafac_mlp"])
def test_small_networks(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"LENGTHS": (4, 2), "TRUNCATION": 2, "BATCH": 2, "PERIOD": 1}
    script = loaded("meta_train_small_networks", monkeypatch, **small)
    script.main(["--rule", rule, "--epochs", "3", "--stop", "2", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    agent = agents.make(rule, pretrained=tmp_path / f"{rule}-small-networks.safetensors")
    assert not torch.equal(agent.flat, agents.make(rule, **script.RULES[rule]).flat)
    assert "epoch 2: mean loss" in printed and "epoch 3" not in printed
    check_table(printed, rule)


def test_quadratics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {"SGD": [agents.SGD(lr=0.01)]}
    small = {"STEPS": 4, "TRUNCATION": 2, "BATCH": 2, "CHECKPOINTS": (1,), "GRIDS": one}
    script = loaded("meta_train_lstm", monkeypatch, **small)
    script.main(["--epochs", "1", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    agent = agents.make("lstm_optimizer", pretrained=tmp_path / "lstm_optimizer-quadratics.safetensors")
    assert (agent.preprocess, agent.scale) == ("raw", 0.1)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    check_table(printed, "learned LSTM")


def test_step_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"GRID": torch.tensor([0.1, 0.3]), "EPISODES": 2}
    script = loaded("ppo_step_size", monkeypatch, **small)
    script.main(["--iterations", "1", "--seeds", "2", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    policy = agents.make("step_size_policy", pretrained=tmp_path / "step_size_policy-digits.safetensors")
    assert (policy.low, policy.high, policy.repeat, policy.hidden) == (-2.5, 0.5, 11, (32, 32))
    check_table(printed, "policy")


def test_a_file_against_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = loaded("against_tuned", monkeypatch)
    agents.LearnableSGD(initial_lr=0.1).save(tmp_path / "mine.safetensors")
    arguments = ["--agent", "learnable_sgd", "--pretrained", str(tmp_path / "mine.safetensors")]
    script.main([*arguments, "--columns", "digits"])
    check_table(capsys.readouterr().out, "learnable_sgd")
