"""What docstrings say, as plain text: read from where the thing is declared, so that it cannot go stale."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path

_ITEM = re.compile(r"^(?P<names>\w+(?:, (?:\w+|\.\.\.))*): (?P<text>.*)$")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_HEAD = re.compile(r"[A-Z]\w+:")


def split_docstring(cls: type) -> tuple[str, dict[str, str]]:
    """A class's own docstring in Google form: the text before ``Args:``, and the text of each argument."""
    lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines()
    sections = [i for i, line in enumerate(lines) if _HEAD.fullmatch(line)]
    before = lines[: sections[0]] if sections else lines
    arguments: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in lines:
        if _HEAD.fullmatch(line):
            inside, names = line == "Args:", []
        elif inside and line.startswith("    "):
            item = _ITEM.match(line.strip()) if not line.startswith("     ") else None
            if item:
                names = item["names"].split(", ")
                arguments |= dict.fromkeys(names, item["text"])
            else:
                arguments |= {name: f"{arguments[name]} {line.strip()}" for name in names}
    return plain("\n".join(before).strip()), {name: plain(text) for name, text in arguments.items()}


def plain(text: str) -> str:
    """Text without the marks of reStructuredText."""
    return _ROLE.sub(lambda m: m[1].rsplit(".", 1)[-1], text).replace("``", "")


def first_line(module: str, cls: str) -> str:
    """The first line of a class's docstring, from its source: importing it may load torch."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return ""
    for node in ast.parse(Path(found.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            return plain((ast.get_docstring(node) or "").partition("\n")[0])
    return ""
