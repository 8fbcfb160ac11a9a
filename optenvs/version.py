"""The version that is installed; looking it up takes a twentieth of the whole ``import optenvs``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed() -> str:
    """The version of this package, ``0.0.0`` where it runs from a source tree that is not installed."""
    try:
        return version("optenvs")
    except PackageNotFoundError:
        return "0.0.0"
