"""Every registered environment, at a size that fits a test, with data that need no download."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import optenvs
from optenvs import data
from optenvs.core.env import OptimizationEnv
from optenvs.data import cifar, idx
from optenvs.envs.bilevel import curvature
from optenvs.envs.landscapes.curvature import samples
from optenvs.envs.surrogate import biodiesel

ONE_OBJECT: dict[str, Any] = {
    "base": "tiny",
    "grid": (3, 3),
    "types": (0,),
    "rewards": ((0.0, 1.0),),
    "p_term": ((1e-2, 1.0),),
    "p_respawn": ((1e-3, 1e-1),),
    "objects": (1, 1),
    "share": None,
}
"""A level for learners: its one object is always there."""

SMALL: dict[str, dict[str, Any]] = {
    "optenvs/BilevelToy-v0": {"dim": 4},
    "optenvs/BilevelSvm-v0": {"train": 12, "validation": 9},
    "optenvs/BilevelCleaning-v0": {"train": 12, "validation": 9},
    "optenvs/BilevelLongTail-v0": {"clients": 3, "widths": (3,), "batch_size": 4, "solve_steps": 2},
    "optenvs/BilevelStrong-v0": {"dim": 5, "equations": 3, "upper_equations": 2},
    "optenvs/GroupGrokking-v0": {"group": "Z5", "width": 6},
    "optenvs/FeatureEnergy-v0": {"group": "Z5", "nodes": 3},
    "optenvs/RidgeTop-v0": {"group": "Z5", "width": 6},
    "optenvs/Particles-v0": {"particles": 6, "start_mean": (8.0, 8.0), "start_std": 0.5},
    "optenvs/ParticlesDigits-v0": {
        "particles": 3,
        "samples": 48,
        "batch_size": 8,
        "queries_per_minibatch": 2,
    },
    "optenvs/MetaTraining-v0": {
        "dim": 2,
        "rule": {"name": "lolv2", "hidden": 2, "layers": 1},
        "estimator": "full_es",
        "particles": 2,
        "length": 1,
        "held_out_tasks": 1,
    },
    "optenvs/DacToySgd-v0": {"points": 4},
    "optenvs/DacSgd-v0": {"widths": (3,), "samples": 24, "batch_size": 8},
    "optenvs/Discovery-v0": {
        "level": ONE_OBJECT | {"max_steps": (1, 2)},
        "rule": {"name": "lpg", "timed": True, "categories": 2, "embedding": 2, "hidden": 2},
        "particles": 2,
        "workers": 2,
        "rollout": 1,
        "lifetime": 1,
        "updates": 1,
        "held_out_levels": 1,
    },
    "optenvs/GridWorldLifetime-v0": {
        "level": ONE_OBJECT | {"max_steps": (2, 2)},
        "rule": "reinforce",
        "workers": 2,
        "rollout": 2,
        "lifetime": 20,
        "tolerance": None,
    },
    "optenvs/ReluTrain-v0": {"units": 2, "samples": 4},
    "optenvs/ConvexRelu-v0": {"samples": 6, "dim": 2, "patterns": 3},
    "optenvs/ConstrainedLogistic-v0": {"samples": 24, "dim": 6, "rows": 2},
    "optenvs/TrainDigits-v0": {"widths": (4,), "samples": 48, "batch_size": 8},
    "optenvs/TrainBreastCancer-v0": {"batch_size": 16},
    "optenvs/TrainMnist-v0": {"widths": (2, 2), "samples": 24, "batch_size": 4},
    "optenvs/TrainFashionMnist-v0": {"widths": (3,), "samples": 24, "batch_size": 4},
    "optenvs/TrainCifar10-v0": {"model": "cnn", "widths": (2, 2), "samples": 24, "batch_size": 4},
    "optenvs/RankingLatent-v0": {"steps": 3},
    "optenvs/RankingPolicy-v0": {"task": "pendulum", "episode_length": 10},
    "optenvs/NetworkLinear-v0": {"nodes": 4, "samples": 12},
    "optenvs/NetworkLogistic-v0": {"nodes": 4, "samples": 12},
    "optenvs/NetworkDigits-v0": {"nodes": 3, "widths": (4,), "samples": 48, "batch_size": 8},
}
"""Keywords that make a registered environment small. An id that is not here is tested as it is registered."""


class Environment(NamedTuple):
    """A registered environment of the tests."""

    id: str
    keywords: dict[str, Any]

    def make(self, **changes: Any) -> OptimizationEnv:
        """With these changes. It holds no episode, so that all tests share what it keeps of its data."""
        keywords = self.keywords | changes
        name = self.id, repr(sorted(keywords.items()))
        if name not in _MADE:
            _MADE[name] = optenvs.make(self.id, **keywords)
        return _MADE[name]


_MADE: dict[tuple[str, str], OptimizationEnv] = {}


FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "a menu": ("optenvs/Rosenbrock-v0", {"oracle": "hessian", "dim": 3}),
}
"""Other forms of query of registered environments, which are held to the same."""


@pytest.fixture(scope="module", autouse=True)
def few_steps_to_a_minimum() -> Iterator[None]:
    """Regressions look for their minimum at each draw: recorded line by line, three steps show as much.

    So do those of the power method, which tell agents of two levels how curved a problem is.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STEPS", "STEPS_NEAR"):
            patch.setattr(samples, name, 3)
        patch.setattr(curvature, "STEPS", 3)
        yield


@pytest.fixture(scope="module", autouse=True)
def few_times_of_a_reactor() -> Iterator[None]:
    """Its equations take four stages for each of a hundred times: ten show as much."""
    times = 10
    unused = tuple(i for i in biodiesel.Reactor.unused if i < times * biodiesel._FIELDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(biodiesel, "TIMES", times)
        patch.setattr(biodiesel.Reactor, "unused", unused)
        yield


@pytest.fixture(scope="module", params=[*optenvs.list_envs(), *FORMS])
def environment(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Environment:
    """Each registered environment in turn: its tests follow each other, and share what is made for it."""
    if request.param in FORMS:
        return Environment(*FORMS[request.param])
    keywords = dict(SMALL.get(request.param, {}))
    if request.param in folders:
        keywords["folder"] = str(folders[request.param])
    return Environment(request.param, keywords)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small data sets in the true formats of those that no package carries, in the loaders' cache."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        # the loaders compare with the published files; here they compare with ours
        patch.setitem(idx._HASHES, "fashion_mnist", _write_idx(root / "fashion", rng))
        patch.setattr(cifar, "_BATCHES", _write_cifar(root / "cifar", rng))
        data.load("fashion_mnist", folder=root / "fashion")
        data.load("cifar10", folder=root / "cifar")
    return {
        "optenvs/TrainFashionMnist-v0": root / "fashion",
        "optenvs/TrainCifar10-v0": root / "cifar",
    }


def _write_idx(folder: Path, rng: np.random.Generator) -> tuple[str, ...]:
    folder.mkdir()
    hashes = []
    for name in idx._NAMES:
        count = 40 if name.startswith("train") else 20
        shape = (count, 28, 28) if "images" in name else (count,)
        array = rng.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
        content = bytes((0, 0, 8, array.ndim)) + np.array(shape, ">i4").tobytes() + array.tobytes()
        (folder / name).write_bytes(content)
        hashes.append(hashlib.sha256(content).hexdigest())
    return tuple(hashes)


def _write_cifar(folder: Path, rng: np.random.Generator) -> dict[str, str]:
    folder.mkdir()
    hashes = {}
    for name in cifar._BATCHES:
        pixels = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        labels = rng.integers(0, 10, 10).tolist()
        content = pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2)
        (folder / name).write_bytes(content)
        hashes[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return hashes
