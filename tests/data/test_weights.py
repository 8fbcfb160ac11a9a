"""Shipped networks: their checksums, their shapes, and files in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from optenvs.core.errors import UnknownName
from optenvs.data import CorruptData, weights
from optenvs.data.weights import WEIGHTS, load_weights, placed_weights
from optenvs.envs.surrogate import barycenter, terrain

ROOT = Path(__file__).parent.parent.parent
SMALL = {"a": (2, 3), "b": (2,)}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(2, 3), "b": torch.zeros(2)}, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_each_network_is_whole_and_small(name: str) -> None:
    assert load_weights(name)
    assert (ROOT / WEIGHTS[name].script).is_file()
    file = ROOT / "optenvs" / "data" / "networks" / f"{name}.safetensors"
    assert file.stat().st_size <= 1 << 20


def test_each_file_is_named() -> None:
    folder = ROOT / "optenvs" / "data" / "networks"
    assert {file.stem for file in folder.iterdir()} == set(WEIGHTS)


@pytest.mark.parametrize(
    ("name", "shapes"), [("barycenter", barycenter.SHAPES), ("counterfactual", terrain.SHAPES)]
)
def test_the_shapes_are_those_that_the_environment_asks_for(
    name: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]
) -> None:
    assert {key: tuple(t.shape) for key, t in load_weights(name, shapes=dict(shapes)).items()} == dict(shapes)


def test_another_file_under_a_shipped_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "barycenter", WEIGHTS["barycenter"]._replace(sha256="0" * 64))
    with pytest.raises(CorruptData, match=r"barycenter.*expected SHA-256 000.*got 47d7.*install again"):
        load_weights("barycenter")


def test_a_shipped_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHTS, "nowhere", weights.Weights("", "examples/train_nowhere.py"))
    with pytest.raises(CorruptData, match=r"missing; examples/train_nowhere\.py makes it"):
        load_weights("nowhere")


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownName, match="no weights 'barycentre'.*barycenter"):
        load_weights("barycentre")


def test_a_file_of_ones_own(own: Path) -> None:
    assert torch.equal(load_weights("barycenter", own, SMALL)["a"], torch.ones(2, 3))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (2, 3)}, r"expected the tensors a; got a, b"),
        ({"a": (2, 3), "b": (2,), "c": ()}, r"expected the tensors a, b, c; got a, b"),
        ({"a": (3, 2), "b": (2,)}, r"expected a of shape \(3, 2\) and floating type, got \(2, 3\)"),
    ],
)
def test_wrong_tensors(own: Path, shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(CorruptData, match=message):
        load_weights("barycenter", own, shapes)


def test_wrong_numbers(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    save_file({"a": torch.ones(2, dtype=torch.int64)}, file)
    with pytest.raises(CorruptData, match="floating type, got .*int64"):
        load_weights("barycenter", file, {"a": (2,)})
    save_file({"a": torch.tensor([1.0, torch.nan])}, file)
    with pytest.raises(CorruptData, match="a holds numbers that are not finite"):
        load_weights("barycenter", file, {"a": (2,)})


def test_no_safetensors_file(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"not a network")
    with pytest.raises(CorruptData, match="is no safetensors file"):
        load_weights("barycenter", file)
    with pytest.raises(CorruptData, match="no file .*absent"):
        load_weights("barycenter", tmp_path / "absent")


def test_placed_weights_are_shared_and_may_be_differentiated() -> None:
    with torch.inference_mode():
        once = placed_weights("barycenter", torch.device("cpu"), torch.float16)
    again = placed_weights("barycenter", torch.device("cpu"), torch.float16)
    assert once is again
    assert once["dense.weight"].dtype == torch.float16
    assert not once["dense.weight"].is_inference()
