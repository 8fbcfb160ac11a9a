"""The scripts that made the shipped networks, with a few steps: they learn, and their files are accepted."""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.data.weights import load_weights
from optenvs.envs.surrogate import barycenter, terrain

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPTS = {"barycenter": barycenter.SHAPES, "counterfactual": terrain.SHAPES}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    threads = torch.get_num_threads()
    yield importlib.import_module(f"train_{request.param}")
    torch.set_num_threads(threads)


def run(script: Any, steps: int, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--steps", str(steps), "--out", str(file)])
    script.main()


def test_it_writes_a_file_that_the_environment_takes(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = script.__name__.removeprefix("train_")
    file, again = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    run(script, 20, file, monkeypatch)
    printed = capsys.readouterr().out
    found = re.search(r"SHA-256 ([0-9a-f]{64})", printed)
    assert found and found[1] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_weights(name, file, dict(SCRIPTS[name])).keys() == dict(SCRIPTS[name]).keys()
    run(script, 20, again, monkeypatch)
    assert again.read_bytes() == file.read_bytes()  # the seed fixes it
    env = optenvs.make(f"optenvs/{name.capitalize()}-v0", weights=str(file))
    if name == "barycenter":
        assert env.reset(keys_from_seed(0, 2)).merit.isfinite().all()
    assert env.replace(weights=str(again)).task.weights == str(again)


def test_more_steps_learn_more(script: Any) -> None:
    (_, few), (_, many) = script.train(2), script.train(60)
    if script.__name__ == "train_barycenter":
        assert many > few + 0.2
    else:
        assert all(many[what] < few[what] for what in few if "error" in what)
