"""What the commands share: the terminal, mistakes in a line, keywords as TOML.

It loads typer and rich, and nothing else before it is used.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:
    raise SystemExit(f"error: {error}; the command line needs: pip install 'optenvs[bench]'") from None

_PIPE_WIDTH = 160  # of a table that no terminal limits


def new_console() -> Console:
    """Where tables are printed: as wide as the terminal, or as a pipe takes them."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


_MISTAKES = (ValueError, TypeError, LookupError, OSError, ImportError)


@contextmanager
def one_line(kinds: tuple[type[Exception], ...] = _MISTAKES) -> Iterator[None]:
    """A mistake of the user's (an unknown name, a bad value, absent data) is one line and exit code 2."""
    try:
        yield
    except kinds as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def keywords_of(settings: list[str] | None, option: str = "--set") -> dict[str, Any]:
    """``["dim=10", "oracle=hvp"]`` as keywords; a value that is no TOML is text."""
    keywords: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not (equals and name.isidentifier()):
            raise ValueError(f"{option}: expected KEY=VALUE, got {setting!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        keywords[name] = tuple(value) if isinstance(value, list) else value
    return keywords
