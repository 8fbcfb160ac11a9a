"""What ``optenvs info`` says of an environment: read from its class, so that it cannot go stale."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces

import optenvs
from envs_registry import EnvSpec
from optenvs.bench.docstrings import split_docstring
from optenvs.core.env import OptimizationEnv
from optenvs.core.random import keys_from_seed
from optenvs.making import accepted, find


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
        facts: Names and texts of what an instance of it shows: oracles, bill, horizon.
        fields: Of its actions, observations and metrics: what it is, its space, its meaning.
        problem: Why no instance could be made, or an empty string.
    """

    declared: EnvSpec
    text: str
    keywords: tuple[Keyword, ...]
    facts: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str, str], ...]
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
    if declared.plain:
        return _plain(declared, cls, kwargs)
    problem, facts, fields = "", (), ()
    try:
        env = optenvs.make(env_id if ":" in env_id else declared.id, **kwargs)
        facts, fields = tuple(_facts(env)), tuple(_fields(env))
    except (ImportError, OSError) as error:  # data that are not here; all else can still be told
        problem = str(error)
    text, _ = split_docstring(cls)
    keywords: dict[str, Keyword] = {}
    for part in accepted(declared.id, **kwargs):  # the environment, then the one that it is built on
        for keyword in _keywords(part, declared):
            keywords.setdefault(keyword.name, keyword)
    return Description(declared, text, tuple(keywords.values()), facts, fields, problem)


def _plain(declared: EnvSpec, cls: type, kwargs: dict[str, Any]) -> Description:
    """That of a plain Gymnasium environment, by its signature."""
    text, texts = split_docstring(cls)
    env = cls(**dict(declared.kwargs) | kwargs)
    keywords = tuple(
        Keyword(name, repr(kwargs.get(name, parameter.default)), texts.get(name, ""))
        for name, parameter in inspect.signature(cls).parameters.items()
    )
    fields = (
        ("action", str(env.action_space), "see above"),
        ("observation", str(env.observation_space), "see above"),
    )
    facts = (("kind", "a plain environment, for gymnasium.make and gymnasium.make_vec; it bills nothing"),)
    return Description(declared, text, keywords, facts, fields, "")


def _fields(env: OptimizationEnv) -> Iterator[tuple[str, str, str]]:
    """Every field that an agent, or whoever reads a run, meets."""
    texts: dict[str, str] = {}
    for owner in reversed(type(env).__mro__):
        texts |= owner.__dict__.get("meanings", {})
    space = env.action_space
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield f"action {name}", str(part), texts.get(name, "")
    else:
        yield "action", str(space), texts["action"]
    assert isinstance(env.observation_space, spaces.Dict)
    for name, part in env.observation_space.spaces.items():
        yield f"observation {name}", str(part), texts.get(name, "")
    with torch.no_grad():
        metrics = env.reset(keys_from_seed(0, 1, env.torch_device)).metrics
    for name in metrics:
        yield f"metric {name}", "a number", texts.get(f"metric {name}", texts.get(name, ""))


def _facts(env: Any) -> Iterator[tuple[str, str]]:
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
