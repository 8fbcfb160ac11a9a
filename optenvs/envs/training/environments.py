"""The registered training environments: a data set each, with defaults that train in seconds on one core."""

from __future__ import annotations

from dataclasses import dataclass

from optenvs import data

from .base import Training


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainDigits(Training):
    """8x8 handwritten digits (1,437 training and 360 test images; extra ``data``)."""

    def dataset(self) -> data.Dataset:
        return data.load("digits")


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainBreastCancer(Training):
    """The Wisconsin breast cancer table: 30 inputs, 2 classes (extra ``data``)."""

    model: str = "logistic"
    standardise: str = "none"  # the loader has standardised each feature

    def dataset(self) -> data.Dataset:
        return data.load("breast_cancer")


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainMnist(Training):
    """MNIST: 5,000 packaged images (extra ``data``), or all of it.

    Args:
        source: ``packaged``, or ``full`` for all 70,000 from ``folder`` (IDX files, compressed or not).
        folder: where the files of the full set are; the variable ``OPTENVS_DATA`` by default.
    """

    model: str = "cnn"
    widths: tuple[int, ...] = (8, 16)
    batch_size: int = 64
    source: str = "packaged"
    folder: str | None = None

    def dataset(self) -> data.Dataset:
        return data.load("mnist", source=self.source, folder=self.folder)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainFashionMnist(Training):
    """Fashion-MNIST, 60,000 and 10,000 images, from a system package or ``folder`` (IDX files).

    The defaults are the small instance of the diffGrad and AdaBelief specifications: the first 10,000 images,
    an MLP 784-128-10, minibatches of 128, 5 epochs (390 updates).

    Args:
        folder: where the IDX files are, compressed or not; the variable ``OPTENVS_DATA`` by default.
    """

    widths: tuple[int, ...] = (128,)
    batch_size: int = 128
    samples: int | None = 10_000
    folder: str | None = None

    def dataset(self) -> data.Dataset:
        return data.load("fashion_mnist", folder=self.folder)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainCifar10(Training):
    """CIFAR-10 from a folder of the user's.

    Published accuracies are of networks with ``augment="crop_flip"`` and a width of 64.

    Args:
        folder: where ``cifar-10-batches-py`` or ``-bin`` is; the variable ``OPTENVS_DATA`` by default.
        check: compare the files with the published ones; ``False`` for files of one's own.
    """

    model: str = "resnet"
    widths: tuple[int, ...] = (16,)
    batch_size: int = 128
    standardise: str = "channel"
    folder: str | None = None
    check: bool = True

    def dataset(self) -> data.Dataset:
        return data.load("cifar10", folder=self.folder, check=self.check)
