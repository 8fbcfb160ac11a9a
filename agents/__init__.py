"""Optimization algorithms as agents: ``agents.make("adabelief", lr=1e-2)`` or ``agents.AdaBelief(lr=1e-2)``.

``import agents`` loads no algorithm and not torch; each is loaded on first use. ``optenvs.agents`` is another
name of the same package, for where ``agents`` is somebody else's; its modules import each other relatively.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import os
from typing import Any

from optenvs import second_name

second_name.enter(__name__)  # under the name `agents`; nobody meets what follows then

_HERE = second_name.NAME
_FAMILIES = (
    "adapters",
    "bilevel",
    "constrained",
    "convex_relu",
    "curvature",
    "gradient",
    "grokking",
    "learned",
    "meta",
    "network",
    "particles",
    "policy",
    "ranking",
    "surrogate",
    "tabular",
)
_AGENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (module, class, oracles that it needs; of "a|b" either will do); each family declares its own
    spec.name: (f"{_HERE}.{family}.{spec.module}", spec.cls, spec.needs)
    for family in _FAMILIES
    for spec in importlib.import_module(f"{_HERE}.{family}").AGENTS
}
_TAKES: dict[str, tuple[str, ...]] = {
    spec.name: spec.takes
    for family in _FAMILIES
    for spec in importlib.import_module(f"{_HERE}.{family}").AGENTS
}
_LAZY = {cls: module for module, cls, _ in _AGENTS.values()} | {
    "Agent": f"{_HERE}.core",
    "GradientAgent": f"{_HERE}.core",
    "LearnedAgent": f"{_HERE}.learned.base",
    "bind": f"{_HERE}.binding",
    "from_ask_rank": f"{_HERE}.adapters.ask_rank",
    "from_ask_tell": f"{_HERE}.adapters.ask_tell",
    "from_function": f"{_HERE}.adapters.function",
    "from_scipy": f"{_HERE}.adapters.scipy_methods",
    "from_sb3": f"{_HERE}.adapters.sb3",
    "from_pair": f"{_HERE}.adapters.pairs",
    "from_torch": f"{_HERE}.adapters.torch_optim",
    "pretrained": f"{_HERE}.learned.shipped",
    "to_pair": f"{_HERE}.adapters.pairs",
    "to_torch": f"{_HERE}.adapters.to_torch",
}

__all__ = [*_LAZY, "entry", "list_agents", "load_plugins", "make", "register", "schedules", "takes"]


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


def make(name: str, *, pretrained: str | os.PathLike[str] | None = None, **hyperparameters: Any) -> Any:
    """The agent of a name, with its paper's defaults where nothing is given.

    One of your own needs no name: ``module:Class``, or ``module:name`` of one that the module has made, or
    that it registers when it is imported.

    Args:
        name: see above; :func:`list_agents` has the names.
        pretrained: trained weights of a learned agent: a name of ``agents.pretrained()``, or the path of a
            ``.safetensors`` file that its ``save`` wrote. They bring the hyper-parameters with which they
            were trained; of others only ``dtype`` may be said besides, which converts the weights.
        **hyperparameters: the fields of the agent's class.

    Raises:
        UnknownName: no such agent, or no such weights. UnknownKeyword: no such hyper-parameter.
        ValueError: a value out of range, one that contradicts the weights, or a file of weights that is
            damaged or another agent's.
    """
    from optenvs.core.errors import UnknownName, check_keywords, suggest
    from optenvs.core.imports import imported, part

    load_plugins()
    home, known = imported(name, "agent") if ":" in name else (None, name)
    if known in _AGENTS:
        module, known, _ = _AGENTS[known]
        home = importlib.import_module(module)
    if home is None:
        raise UnknownName(f"no agent {name!r}{suggest(name, _AGENTS)}")
    found = part(home, known, f"agent {name!r}")
    if not (callable(getattr(found, "init", None)) and callable(getattr(found, "act", None))):
        raise TypeError(f"agent {name!r}: expected something with init and act, got {found!r}")
    if pretrained is not None:
        from .learned.shipped import load_pretrained

        return load_pretrained(name, found, pretrained, hyperparameters)
    if dataclasses.is_dataclass(found):
        check_keywords(name, hyperparameters, (f.name for f in dataclasses.fields(found) if f.init))
        return (
            found(**hyperparameters)
            if isinstance(found, type)
            else dataclasses.replace(found, **hyperparameters)
        )
    return found(**hyperparameters) if isinstance(found, type) or hyperparameters else found


@functools.cache
def load_plugins() -> None:
    """Call the declaring function of every installed package that offers agents (``optenvs.agents``)."""
    for entry in importlib.metadata.entry_points(group="optenvs.agents"):
        entry.load()()


def list_agents(needs: str | None = None) -> list[str]:
    """The names of the agents, or of those that need the oracle kind ``needs``, or it or another one."""
    load_plugins()
    return sorted(
        name for name, (_, _, kinds) in _AGENTS.items() if needs in (None, *"|".join(kinds).split("|"))
    )


def entry(name: str) -> tuple[str, str, tuple[str, ...]]:
    """Module, class and needed oracle kinds of a registered name, without loading it."""
    return _AGENTS[name]


def takes(name: str) -> tuple[str, ...]:
    """What of a problem a registered name can do with, where not all agents of its kind can.

    Of ``equations``, ``inequalities``, ``bounds`` and ``minibatches``; an agent that does not name one of
    these refuses it, or is of a kind in which there is no such difference.
    """
    return _TAKES.get(name, ())


def register(name: str, entry_point: str, needs: tuple[str, ...] = (), takes: tuple[str, ...] = ()) -> None:
    """Add an agent of yours: ``module:Class``, the oracle kinds that it needs, and what it :func:`takes`.

    An installed package does so by an entry point of the group ``optenvs.agents``, which names a function
    that calls this one.

    Raises:
        ValueError: the name is taken by another class.
    """
    module, _, cls = entry_point.partition(":")
    if not module or not cls:
        raise ValueError(f"entry_point: expected 'module:Class', got {entry_point!r}")
    if _AGENTS.get(name, (module, cls, needs)) != (module, cls, needs):
        raise ValueError(f"name: {name!r} is already registered")
    _AGENTS[name], _TAKES[name] = (module, cls, needs), takes
