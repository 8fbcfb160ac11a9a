"""Strict reading of configuration: messages name the field, what is found, what is expected."""

from __future__ import annotations

import builtins
import difflib
from collections.abc import Mapping
from typing import Any

_MISSING: Any = object()


class ExperimentError(ValueError):
    """A mistake in an experiment file; says where, what was found, and what was expected."""


class Section:
    """One table of a configuration file.

    Each accessor reads a key once, checks its type and remembers it; ``close`` then refuses the
    keys that nobody read, so the set of allowed keys is never written down a second time.
    """

    def __init__(self, data: Any, source: str, path: str = "") -> None:
        self._source, self._path = source, path
        if not isinstance(data, Mapping):
            raise ExperimentError(f"{source}: {path}: found {data!r}, expected a table")
        self._data: Mapping[str, Any] = data
        self._known: list[str] = []

    def error(self, key: str, found: Any, expected: str) -> ExperimentError:
        """Returns the error of a wrong value."""
        kind = type(found).__name__
        return ExperimentError(f"{self._where(key)}: found {found!r} ({kind}), expected {expected}")

    def _where(self, key: str) -> str:
        return f"{self._source}: {self._path}.{key}" if self._path else f"{self._source}: {key}"

    def _read(self, key: str, kind: type, expected: str, default: Any) -> Any:
        self._known.append(key)
        if key not in self._data:
            if default is _MISSING:
                # A misspelt key is both unknown and missing; the suggestion is the message that
                # helps.
                close = difflib.get_close_matches(key, self._data, n=1)
                hint = f"; found {close[0]!r}, did you mean {key!r}?" if close else ""
                raise ExperimentError(f"{self._where(key)}: missing, expected {expected}{hint}")
            return default
        value = self._data[key]
        # True is an int in Python, never in a configuration.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, value, expected)
        return value

    def integer(self, key: str, default: Any = _MISSING, *, minimum: int) -> int:
        """Reads an integer that is at least ``minimum``."""
        expected = f"an integer >= {minimum}"
        value = self._read(key, int, expected, default)
        if value < minimum:
            raise self.error(key, value, expected)
        return value

    def text(self, key: str, default: Any = _MISSING) -> Any:
        """Reads a string that is not empty."""
        value = self._read(key, str, "a string", default)
        if value == "":
            raise self.error(key, value, "a string that is not empty")
        return value

    def boolean(self, key: str, default: Any = _MISSING) -> bool:
        """Reads true or false."""
        return self._read(key, bool, "true or false", default)

    def choice(self, key: str, options: tuple[str, ...], default: Any = _MISSING) -> str:
        """Reads one of some strings."""
        expected = f"one of {', '.join(map(repr, options))}"
        value = self._read(key, str, expected, default)
        if value not in options:
            close = difflib.get_close_matches(value, options, n=1)
            raise self.error(
                key,
                value,
                expected + (f"; did you mean {close[0]!r}?" if close else ""),
            )
        return value

    def list(self, key: str, default: Any = _MISSING) -> builtins.list[Any]:
        """Reads a list."""
        return self._read(key, list, "a list", default)

    def table(self, key: str) -> dict[str, Any]:
        """Reads a table of free content; empty if absent."""
        return dict(self._read(key, dict, "a table", {}))

    def section(self, key: str) -> Section:
        """Reads a table of checked content; empty if absent."""
        return Section(self.table(key), self._source, self._child(key))

    def sections(self, key: str) -> builtins.list[Section]:
        """Reads a list of tables that is not empty."""
        expected = f"at least one [[{key}]]"
        values = self._read(key, list, expected, _MISSING)
        if not values:
            raise self.error(key, values, expected)
        return [Section(v, self._source, self._child(f"{key}[{i}]")) for i, v in enumerate(values)]

    def _child(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def close(self) -> None:
        """Refuses keys that nobody read."""
        for key in self._data:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(self._known)}"
                raise ExperimentError(f"{self._where(key)}: unknown key{hint}")
