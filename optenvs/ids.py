"""How an id becomes a problem: the package says so at its import, and whoever is given an id asks here.

This lies below the core, which knows no registry, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_makers: list[Callable[..., Any]] = []


def made_by(maker: Callable[..., Any]) -> None:
    """Have ``maker`` make the problem of every id and its keywords, in place of the maker before it."""
    _makers[:] = [maker]


def problem_of(env_id: str, **keywords: Any) -> Any:
    """The problem of an id.

    Raises:
        UnknownName: no such id. UnknownKeyword: no such keyword. ValueError: a value out of range.
    """
    (maker,) = _makers
    return maker(env_id, **keywords)
