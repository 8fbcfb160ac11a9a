"""CIFAR-10 (Krizhevsky 2009) from a folder of the user's, in either layout of its author.

No package carries the images. :func:`download_cifar10` fetches them when it is called, and nothing
else in the project does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from . import safe_pickle
from .base import CorruptData, Dataset, MissingData, check_labels, reading
from .idx import data_folder

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
# MD5 is what the author and torchvision publish; it tells damage, and what is read cannot run code.
_BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_PICKLED, _BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_CHUNK = 1 << 20


def _pickled(path: Path, check: bool) -> tuple[np.ndarray, np.ndarray]:
    content = path.read_bytes()
    if check and hashlib.md5(content, usedforsecurity=False).hexdigest() != _BATCHES[path.name]:
        raise CorruptData(f"data set 'cifar10': {path.name} is not the published file (MD5 differs)")
    batch = safe_pickle.loads(content)
    if not isinstance(batch, dict):
        raise CorruptData(f"data set 'cifar10': {path.name} holds no dictionary")
    values = {key.decode() if isinstance(key, bytes) else key: item for key, item in batch.items()}
    pixels, labels = values.get("data"), values.get("labels")
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise CorruptData(f"data set 'cifar10': {path.name} lacks 'data' or 'labels'")
    if pixels.shape != (len(labels), _PIXELS):
        raise CorruptData(f"data set 'cifar10': {path.name} has pixels of shape {pixels.shape}")
    return pixels, np.array(labels, dtype=np.int64)


def _binary(path: Path, check: bool) -> tuple[np.ndarray, np.ndarray]:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if len(content) % (1 + _PIXELS) or (check and len(content) != 10_000 * (1 + _PIXELS)):
        raise CorruptData(f"data set 'cifar10': {path.name} has {len(content)} bytes")
    rows = content.reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _batch(
    read: Callable[[Path, bool], tuple[np.ndarray, np.ndarray]], path: Path, check: bool
) -> tuple[np.ndarray, np.ndarray]:
    with reading("cifar10", path):
        pixels, labels = read(path, check)
        check_labels(labels, 10)
        return pixels, labels


def cifar10(
    folder: str | os.PathLike[str] | None = None, subset: int | None = None, check: bool = True
) -> Dataset:
    """CIFAR-10: colour photographs of 32x32 pixels, 50,000 for training, 10,000 for the test.

    The whole set takes 740 MB as float32; ``subset`` saves the memory.

    Args:
        folder: The folder ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or the one above it;
            ``OPTENVS_DATA`` when not given.
        subset: Keep the first ``subset`` training images only.
        check: Compare with the published files (MD5; the binary layout has no published sums of its
            files, there the length is checked); ``False`` for files of one's own.
    """
    root = data_folder(folder)
    places = [] if root is None else [root / _PICKLED, root / _BINARY, root]
    for place in places:
        for suffix, read in (("", _pickled), (".bin", _binary)):
            paths = [place / (name + suffix) for name in _BATCHES]
            if all(path.is_file() for path in paths):
                with reading("cifar10", place):
                    return _assemble([_batch(read, path, check) for path in paths], subset)
    where = f"neither {_PICKLED} nor {_BINARY} in {root}" if root is not None else "no folder given"
    raise MissingData(
        "cifar10",
        where,
        "give the folder that holds cifar-10-batches-py as folder= or in OPTENVS_DATA, or fetch "
        "it once with optenvs.data.download_cifar10(folder)",
    )


def _assemble(batches: list[tuple[np.ndarray, np.ndarray]], subset: int | None) -> Dataset:
    pixels = np.concatenate([x for x, _ in batches[:-1]])[:subset]
    labels = np.concatenate([y for _, y in batches[:-1]])[:subset]
    test_pixels, test_labels = batches[-1]

    def image(rows: np.ndarray) -> np.ndarray:
        x = rows.astype(np.float32)
        x /= 255  # in place: these are the large arrays
        return x.reshape(-1, *_SHAPE)

    return Dataset("cifar10", image(pixels), labels, image(test_pixels), test_labels.copy(), 10, _SHAPE)


def download_cifar10(folder: str | os.PathLike[str]) -> Path:
    """Fetch CIFAR-10 (170 MB) from its author's page into ``folder``, check it and unpack it.

    Nothing calls this function but the user. It does nothing when the batches are already there,
    and leaves nothing behind when the archive is not the published one.

    Returns:
        The folder ``cifar-10-batches-py`` inside ``folder``.
    """
    folder = Path(folder).expanduser()
    target = folder / _PICKLED
    if all((target / name).is_file() for name in _BATCHES):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as archive:
        digest = hashlib.md5(usedforsecurity=False)
        with urllib.request.urlopen(_URL, timeout=60) as answer:
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
                archive.write(chunk)
        if digest.hexdigest() != _ARCHIVE_MD5:
            raise CorruptData("data set 'cifar10': the downloaded archive is not the published one")
        archive.seek(0)
        unpack(archive, target)
    return target


def unpack(archive: IO[bytes], target: Path) -> None:
    """Write the six batches of an open ``cifar-10-python.tar.gz`` to ``target``, only those."""
    target.mkdir(exist_ok=True)
    with tarfile.open(fileobj=archive, mode="r:gz") as tar:
        for name in _BATCHES:
            member = tar.extractfile(f"{_PICKLED}/{name}")
            if member is None:
                raise CorruptData(f"data set 'cifar10': the archive lacks {name}")
            # A name is taken out by itself, under our own path: no member can leave the folder.
            with member, open(target / name, "wb") as file:
                shutil.copyfileobj(member, file)
