"""How an id becomes a problem: the package says so at its import, and whoever is given an id asks here.

This lies below the core, which knows no registry, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_makers: list[Callable[[str], Any]] = []


def made_by(maker: Callable[[str], Any]) -> None:
    """Have ``maker`` make the problem of every id, in place of the maker before it."""
    _makers[:] = [maker]


def problem_of(env_id: str) -> Any:
    """The problem of an id.

    Raises:
        UnknownName: no such id.
    """
    (maker,) = _makers
    return maker(env_id)
