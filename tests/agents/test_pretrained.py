"""Trained weights that the project ships: what there is, what they reach, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import agents
import optenvs
from optenvs.core.errors import UnknownKeyword
from optenvs.core.random import keys_from_seed

ROOT = Path(__file__).parents[2]


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
