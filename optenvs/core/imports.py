"""Names of the user's own: ``module:Class``, for what no registry knows."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from .errors import UnknownName, suggest


def imported(name: str, what: str) -> tuple[ModuleType, str]:
    """The module of ``module:Class``, and the name after the colon.

    Args:
        name: for example ``mine:SignSGD``.
        what: what it is to be, for messages.

    Raises:
        UnknownName: there is no such module. ImportError: it raises something when it is imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UnknownName(f"{what} {name!r}: expected 'module:Class'")
    try:
        return importlib.import_module(module), attribute
    except Exception as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent is not None and f"{module}.".startswith(f"{absent}."):
            raise UnknownName(
                f"{what} {name!r}: no module {absent!r} on Python's path, nor beside the experiment's file"
            ) from error
        raise ImportError(
            f"{what} {name!r}: importing the module {module!r} raised {type(error).__name__}: {error}"
        ) from error


def part(module: ModuleType, name: str, what: str) -> Any:
    """What a module calls ``name``.

    Raises:
        UnknownName: nothing.
    """
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UnknownName(f"{what}: the module {module.__name__!r} has no {name!r}{suggest(name, known)}")
    return getattr(module, name)
