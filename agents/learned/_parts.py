"""Agents inside an agent: by object, by name, or as they are saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..core import Agent
from .base import LearnedAgent


def made_part(owner: Any, field: str) -> Agent:
    """The agent in a field of ``owner``; one of a name gets its ``seed`` and ``dtype``.

    Raises:
        TypeError: neither an agent with one set of weights nor the name of one.
    """
    from .. import _LAZY, make  # the package, which knows all agents

    part: Any = getattr(owner, field)
    if isinstance(part, str):
        part = make(part)
        own = {f.name for f in dataclasses.fields(part)} & {"seed", "dtype"}
        part = type(part)(**{name: getattr(owner, name) for name in own})
    elif isinstance(part, Mapping) and part.get("agent") in _LAZY:  # as it is saved
        cls = getattr(__import__(_LAZY[part["agent"]], fromlist=["x"]), part["agent"])
        part = cls(**part["settings"])
    if not isinstance(part, Agent) or getattr(part, "weights", None) is not None:
        raise TypeError(
            f"{type(owner).__name__}: {field}: expected an agent with one set of weights or its name, "
            f"got {part!r}"
        )
    return part


def told_part(part: Any) -> dict[str, Any]:
    """What makes it again, as JSON has it; without weights."""
    own = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    own = part.settings() if isinstance(part, LearnedAgent) else own
    return {"agent": type(part).__name__, "settings": own}
