"""Optimization algorithms as agents: ``agents.make("adabelief", lr=1e-2)`` or ``agents.AdaBelief(lr=1e-2)``.

``import agents`` loads no algorithm and not torch; each is loaded on first use. ``optenvs.agents`` is another
name of the same package, for where ``agents`` is somebody else's; its modules import each other relatively.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from optenvs import second_name

second_name.enter(__name__)  # under the name `agents`; nobody meets what follows then

_HERE = second_name.NAME
_FAMILIES = ("adapters", "gradient", "learned", "network", "particles", "ranking", "surrogate")
_AGENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (module, class, oracles that it needs; of "a|b" either will do); each family declares its own
    spec.name: (f"{_HERE}.{family}.{spec.module}", spec.cls, spec.needs)
    for family in _FAMILIES
    for spec in importlib.import_module(f"{_HERE}.{family}").AGENTS
}
_LAZY = {cls: module for module, cls, _ in _AGENTS.values()} | {
    "Agent": f"{_HERE}.core",
    "GradientAgent": f"{_HERE}.core",
    "bind": f"{_HERE}.binding",
    "from_ask_rank": f"{_HERE}.adapters.ask_rank",
    "from_ask_tell": f"{_HERE}.adapters.ask_tell",
    "from_function": f"{_HERE}.adapters.function",
    "from_sb3": f"{_HERE}.adapters.sb3",
    "from_torch": f"{_HERE}.adapters.torch_optim",
}

__all__ = [*_LAZY, "list_agents", "make", "register", "schedules"]


def __getattr__(name: str) -> Any:
    if name == "schedules":
        return importlib.import_module(f"{_HERE}.schedules")
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def make(name: str, **hyperparameters: Any) -> Any:
    """The agent of a name, with its paper's defaults where nothing is given.

    Raises:
        UnknownName: no such agent. UnknownKeyword: no such hyper-parameter. ValueError: a value out of range.
    """
    from optenvs.core.errors import UnknownName, check_keywords, suggest

    if name not in _AGENTS:
        raise UnknownName(f"no agent {name!r}{suggest(name, _AGENTS)}")
    module, cls_name, _ = _AGENTS[name]
    cls = getattr(importlib.import_module(module), cls_name)
    check_keywords(name, hyperparameters, (f.name for f in dataclasses.fields(cls) if f.init))
    return cls(**hyperparameters)


def list_agents(needs: str | None = None) -> list[str]:
    """The names of the agents, or of those that need the oracle kind ``needs``, or it or another one."""
    return sorted(
        name for name, (_, _, kinds) in _AGENTS.items() if needs in (None, *"|".join(kinds).split("|"))
    )


def register(name: str, entry_point: str, needs: tuple[str, ...] = ()) -> None:
    """Add an agent of yours: ``module:Class``, and the oracle kinds that it needs.

    Raises:
        ValueError: the name is taken by another class.
    """
    module, _, cls = entry_point.partition(":")
    if not module or not cls:
        raise ValueError(f"entry_point: expected 'module:Class', got {entry_point!r}")
    if _AGENTS.get(name, (module, cls, needs)) != (module, cls, needs):
        raise ValueError(f"name: {name!r} is already registered")
    _AGENTS[name] = (module, cls, needs)
