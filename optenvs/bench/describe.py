"""What ``optenvs info`` says of an environment: read from its class, so that it cannot go stale."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optenvs
from envs_registry import EnvSpec
from optenvs.making import accepted, find

_ITEM = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.*)$")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


@dataclass(frozen=True)
class Keyword:
    """One keyword of an environment: its name, its default as Python text, its meaning."""

    name: str
    default: str
    text: str


@dataclass(frozen=True)
class Description:
    """An environment in words.

    Attributes:
        declared: What the registry says.
        text: The class's docstring without its arguments.
        keywords: In the order of their declaration, those of the environment itself first, then those of
            the environment that it is built on, where it is built on one.
        facts: Names and texts of what an instance of it shows: spaces, oracles, bill, horizon.
        problem: Why no instance could be made, or an empty string.
    """

    declared: EnvSpec
    text: str
    keywords: tuple[Keyword, ...]
    facts: tuple[tuple[str, str], ...]
    problem: str


def describe(env_id: str, **kwargs: Any) -> Description:
    """Describes a registered environment.

    Args:
        env_id: Its id; the namespace and the version may be left out.
        **kwargs: Keywords with which to make the instance whose spaces are shown.

    Raises:
        UnknownName: If there is no such id.
    """
    declared = find(env_id)
    module, _, name = declared.entry_point.partition(":")
    cls = getattr(importlib.import_module(module), name)
    problem, facts = "", ()
    try:
        facts = tuple(_facts(optenvs.make(declared.id, **kwargs)))
    except (ImportError, OSError) as error:  # data that are not here; all else can still be told
        problem = str(error)
    text, _ = split_docstring(cls)
    keywords: dict[str, Keyword] = {}
    for part in accepted(declared.id, **kwargs):  # the environment, then the one that it is built on
        for keyword in _keywords(part, declared):
            keywords.setdefault(keyword.name, keyword)
    return Description(declared, text, tuple(keywords.values()), facts, problem)


def _facts(env: Any) -> Iterator[tuple[str, str]]:
    yield "action", str(env.action_space)
    for name, space in env.observation_space.spaces.items():
        yield f"observation {name}", str(space)
    yield "oracles", ", ".join(env.oracles)
    yield "bill of a query", ", ".join(f"{count} {kind}" for kind, count in env.bill.items())
    yield "budget", ", ".join(f"{n:,} {kind}" for kind, n in env.limits.items()) or "none"
    yield "horizon", "none" if env.horizon is None else f"{env.horizon:,} steps"
    yield "differentiable", "yes" if env.differentiable else "no"


def _keywords(cls: type, declared: EnvSpec) -> Iterator[Keyword]:
    """Keywords with the defaults of this id, the environment's own before those that all have."""
    texts: dict[str, str] = {}
    depth: dict[str, int] = {}
    for level, owner in enumerate(reversed(cls.__mro__)):
        for name in inspect.get_annotations(owner):
            depth.setdefault(name, level)
        said = split_docstring(owner)[1].items()
        # "budget: see OptimizationEnv" explains nothing here
        texts |= {name: text for name, text in said if not text.startswith("see ")}
    fields = [f for f in dataclasses.fields(cls) if f.init]
    for item in sorted(fields, key=lambda f: -depth[f.name]):
        default = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        default = dict(declared.kwargs).get(item.name, default)
        shown = "required" if default is dataclasses.MISSING else repr(default)
        yield Keyword(item.name, shown, texts.get(item.name, ""))


def split_docstring(cls: type) -> tuple[str, dict[str, str]]:
    """A class's own docstring in Google form: the text before ``Args:``, and the text of each argument."""
    lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines()
    sections = [i for i, line in enumerate(lines) if re.fullmatch(r"[A-Z]\w+:", line)]
    before = lines[: sections[0]] if sections else lines
    arguments: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in lines:
        if re.fullmatch(r"[A-Z]\w+:", line):
            inside, names = line == "Args:", []
        elif inside and line.startswith("    "):
            item = _ITEM.match(line.strip()) if not line.startswith("     ") else None
            if item:
                names = item["names"].split(", ")
                arguments |= dict.fromkeys(names, item["text"])
            else:
                arguments |= {name: f"{arguments[name]} {line.strip()}" for name in names}
    plain = "\n".join(before).strip()
    return _plain(plain), {name: _plain(text) for name, text in arguments.items()}


def _plain(text: str) -> str:
    """Text without the marks of reStructuredText."""
    return _ROLE.sub(lambda m: m[1].rsplit(".", 1)[-1], text).replace("``", "")
