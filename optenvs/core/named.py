"""What is named by its place in place of an import: loaded when it is used, and no arrow between files."""

from __future__ import annotations

import importlib
from typing import Any


def named(place: str) -> Any:
    """The attribute that ``"package.module:name"`` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
