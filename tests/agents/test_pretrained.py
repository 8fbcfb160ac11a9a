"""Trained weights that the project ships: what there is, what they reach, and what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import agents
import optenvs
from agents.learned import shipped
from optenvs.core.errors import UnknownKeyword, UnknownName
from optenvs.core.random import keys_from_seed

ROOT = Path(__file__).parents[2]
DIGITS = {"env": "TrainDigits", "samples": 256, "widths": (8,), "batch_size": 32, "budget": 41}
CASES: dict[str, tuple[dict[str, Any], float, Any, float]] = {
    # on what, the mean loss over 40 steps, and what of the classics has which
    "adafac_mlp-small-networks": (DIGITS, 0.877143641, agents.SGD(lr=0.3), 1.226664037),
    "lolv2-small-networks": (DIGITS, 0.924103231, agents.SGD(lr=0.3), 1.226664037),
    "lstm_optimizer-quadratics": (
        {"env": "LeastSquares", "dim": 10, "budget": 41},
        0.798654615,
        agents.Adam(lr=0.2),
        1.357474613,
    ),
    "step_size_policy-digits": (DIGITS, 1.174561903, agents.SGD(lr=0.3), 1.226664037),
}
ENTRIES = {f"{entry.agent}-{entry.name}": entry for entry in agents.pretrained()}


def test_what_there_is() -> None:
    assert {entry[:2] for entry in agents.pretrained()} == {
        ("adafac_mlp", "small-networks"),
        ("lolv2", "small-networks"),
        ("lstm_optimizer", "quadratics"),
        ("lpg", "tiny-grids"),
        ("step_size_policy", "digits"),
    }
    assert [entry.name for entry in agents.pretrained("lstm_optimizer")] == ["quadratics"]
    assert agents.pretrained("adam") == ()
    files = {path.name for path in shipped._FOLDER.glob("*.safetensors")}
    assert files == {entry.file.name for entry in agents.pretrained()}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_file_is_the_one_that_is_declared(entry: shipped.Pretrained) -> None:
    content = entry.file.read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert len(content) <= 1_000_000
    assert (ROOT / entry.script).is_file()
    assert entry.name in (ROOT / entry.script).read_text()
    assert all(entry)
    assert len(entry.date) == 10


@pytest.mark.parametrize("name", CASES)
def test_what_it_reaches(name: str) -> None:
    table, expected, classic, classics = CASES[name]
    entry, keywords = ENTRIES[name], dict(table)
    env = optenvs.make(keywords.pop("env"), tolerance=None, dtype="float64", **keywords)
    agent = agents.make(entry.agent, pretrained=entry.name, dtype="float64")
    found, beside = (
        optenvs.rollout(env, one, seed=77, batch=8, steps=40).merit[1:].mean() for one in (agent, classic)
    )
    assert float(found) == pytest.approx(expected, rel=1e-3)
    assert float(beside) == pytest.approx(classics, rel=1e-3)
    assert found < beside
    # another set of weights reaches something else
    with torch.no_grad():
        next(iter(agent.parameters())).mul_(1.1)
    changed = optenvs.rollout(env, agent, seed=77, batch=8, steps=40).merit[1:].mean()
    assert float(changed) != pytest.approx(expected, rel=1e-3)


def test_the_list_is_light() -> None:
    code = "import sys, agents; agents.pretrained(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "False"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of one's own, of an architecture of one's own."""
    file = tmp_path / "mine.safetensors"
    agents.LOLv2(hidden=4, layers=1, seed=5).save(file)
    return file


def test_a_file_of_ones_own(own: Path) -> None:
    expected = agents.LOLv2(hidden=4, layers=1, seed=5)
    for given in (own, str(own)):
        found = agents.make("lolv2", pretrained=given, hidden=4)
        assert torch.equal(found.flat, expected.flat)
        assert found.settings() == expected.settings()


def test_weights_in_another_precision(own: Path) -> None:
    found = agents.make("lolv2", pretrained=own, dtype="float64")
    assert found.dtype == "float64" and found.flat.dtype == torch.float64
    assert torch.equal(found.flat.float(), agents.make("lolv2", pretrained=own).flat)
    rule = {"name": "lolv2", "pretrained": str(own)}
    env = optenvs.make("MetaTraining", tasks="LeastSquares", dim=2, rule=rule, length=2, window=2)
    assert torch.equal(env.sample(keys_from_seed(0, 1)).start[0], found.flat.detach())


@pytest.mark.parametrize(
    ("name", "keywords", "error", "message"),
    [
        ("lolv2", {"hidden": 8}, ValueError, "lolv2: hidden: expected 4, with which the weights of .* got 8"),
        ("lolv2", {"seed": 1}, ValueError, "lolv2: seed: expected 5, with which"),
        ("lolv2", {"weights": None}, ValueError, "lolv2: weights: expected none beside pretrained="),
        ("lolv2", {"net": torch.nn.Identity()}, ValueError, "lolv2: net: expected none beside pretrained="),
        ("lolv2", {"hiden": 4}, UnknownKeyword, "unexpected keyword argument 'hiden'; did you mean 'hidden'"),
        ("lolv2", {"dtype": "float16"}, ValueError, "dtype: expected 'float32' or 'float64', got 'float16'"),
        ("lstm_optimizer", {}, ValueError, "expected the weights of LSTMOptimizer, got 'LOLv2'"),
        ("adam", {}, TypeError, "pretrained: agent 'adam' has no weights to bring"),
    ],
)
def test_what_contradicts_the_weights_is_named(
    own: Path, name: str, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        agents.make(name, pretrained=own, **keywords)


def test_unknown_weights_are_named() -> None:
    with pytest.raises(
        UnknownName, match="'lstm_optimizer' has no weights 'quadratic'; did you mean 'quadratics'"
    ):
        agents.make("lstm_optimizer", pretrained="quadratic")
    with pytest.raises(
        UnknownName, match="none are shipped of agent 'velo', got 'x' .known: .*lstm_optimizer 'quad"
    ):
        agents.make("velo", pretrained="x")
    with pytest.raises(TypeError, match="pretrained: expected a name or the path of a file, got 3"):
        agents.make("lolv2", pretrained=3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        agents.make("lolv2", pretrained="nowhere.safetensors")


def test_a_damaged_file_is_refused(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = agents.pretrained("lstm_optimizer")[0]
    content = bytearray(entry.file.read_bytes())
    content[-3] ^= 4
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=f"{entry.name}' of lstm_optimizer: no file .*{entry.script} makes it"
    ):
        agents.make("lstm_optimizer", pretrained=entry.name)
    entry.file.write_bytes(content)
    with pytest.raises(ValueError, match=f"expected SHA-256 {entry.sha256}, got .* is damaged"):
        agents.make("lstm_optimizer", pretrained=entry.name)
    # whole, and yet not what is declared
    entry.file.write_bytes(own.read_bytes())
    with pytest.raises(ValueError, match="expected SHA-256"):
        agents.make("lstm_optimizer", pretrained=entry.name)
    own.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable learned optimizer .its checksum"):
        agents.make("lstm_optimizer", pretrained=own)
