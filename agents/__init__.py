"""Optimization algorithms as agents: ``agents.make("adabelief", lr=1e-2)`` or ``agents.AdaBelief(lr=1e-2)``.

``import agents`` loads no algorithm and not torch; each is loaded on first use.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

_AGENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (module, class, oracles that it needs; of "a|b" either will do)
    "a2cid2": ("agents.network.a2cid2", "A2CiD2", ("gradient", "exchange")),
    "ad_psgd": ("agents.network.ad_psgd", "ADPSGD", ("gradient", "exchange")),
    "adabelief": ("agents.gradient.adabelief", "AdaBelief", ("gradient",)),
    "adagrad": ("agents.gradient.adagrad", "Adagrad", ("gradient",)),
    "adam": ("agents.gradient.adam", "Adam", ("gradient",)),
    "adamw": ("agents.gradient.adam", "AdamW", ("gradient",)),
    "adom_plus": ("agents.network.adom_plus", "ADOMPlus", ("gradient", "gossip")),
    "attack_only": ("agents.surrogate.attack_only", "AttackOnly", ("value", "poll", "vjp")),
    "barrier_attack": (
        "agents.surrogate.barrier_attack",
        "BarrierAttack",
        ("value", "poll", "jacobian"),
    ),
    "cbo": ("agents.particles.cbo", "CBO", ("value", "swarm")),
    "cdsm": ("agents.surrogate.cdsm", "CDSM", ("value", "poll")),
    "cma": ("agents.adapters.cma_es", "CMA", ("value|ranking",)),
    "consensus_hopping": ("agents.particles.hopping", "ConsensusHopping", ("value", "swarm")),
    "continuized": ("agents.network.continuized", "Continuized", ("conjugate", "exchange")),
    "dadao": ("agents.network.dadao", "DADAO", ("gradient", "exchange")),
    "dgd": ("agents.network.dgd", "DGD", ("gradient", "gossip")),
    "diffgrad": ("agents.gradient.diffgrad", "DiffGrad", ("gradient",)),
    "directional_attack": (
        "agents.surrogate.directional_attack",
        "DirectionalAttack",
        ("value", "poll", "vjp"),
    ),
    "extra": ("agents.network.extra", "EXTRA", ("gradient", "gossip")),
    "gld_fast": ("agents.ranking.gld_fast", "GLDFast", ("ranking",)),
    "gradient_descent": ("agents.particles.langevin", "GradientDescent", ("gradient",)),
    "gradient_tracking": ("agents.network.gradient_tracking", "GradientTracking", ("gradient", "gossip")),
    "langevin": ("agents.particles.langevin", "Langevin", ("gradient",)),
    "lolv2": ("agents.learned.lolv2", "LOLv2", ("gradient",)),
    "lstm_optimizer": ("agents.learned.lstm", "LSTMOptimizer", ("gradient",)),
    "mads": ("agents.surrogate.mads", "MADS", ("value", "poll")),
    "memory_cbo": ("agents.particles.memory", "MemoryCBO", ("value", "swarm")),
    "msda": ("agents.network.msda", "MSDA", ("conjugate", "gossip")),
    "nomad": ("agents.adapters.nomad", "Nomad", ("value",)),
    "piecewise_linear_ascent": (
        "agents.surrogate.piecewise_linear_ascent",
        "PiecewiseLinearAscent",
        ("value", "poll"),
    ),
    "polarized_cbo": ("agents.particles.polarized", "PolarizedCBO", ("value", "swarm")),
    "projected_gradient": (
        "agents.surrogate.projected_gradient",
        "ProjectedGradient",
        ("value", "poll", "vjp"),
    ),
    "pso": ("agents.particles.pso", "PSO", ("value", "swarm")),
    "random_line_search": ("agents.surrogate.random_line_search", "RandomLineSearch", ("value", "poll")),
    "relax_and_walk": ("agents.surrogate.relax_and_walk", "RelaxAndWalk", ("value", "poll")),
    "rmsprop": ("agents.gradient.rmsprop", "RMSprop", ("gradient",)),
    "scobo": ("agents.ranking.scobo", "SCOBO", ("ranking",)),
    "sgd": ("agents.gradient.sgd", "SGD", ("gradient",)),
    "zo_ranksgd": ("agents.ranking.zo_ranksgd", "ZORankSGD", ("ranking",)),
    "zo_sgd": ("agents.ranking.zo_sgd", "ZOSGD", ("value", "swarm")),
    "zo_sign": ("agents.ranking.zo_sign", "ZOSign", ("ranking",)),
}
_LAZY = {cls: module for module, cls, _ in _AGENTS.values()} | {
    "Agent": "agents.core",
    "GradientAgent": "agents.core",
    "bind": "agents.binding",
    "from_ask_rank": "agents.adapters.ask_rank",
    "from_ask_tell": "agents.adapters.ask_tell",
    "from_function": "agents.adapters.function",
    "from_sb3": "agents.adapters.sb3",
    "from_torch": "agents.adapters.torch_optim",
}

__all__ = [*_LAZY, "list_agents", "make", "register", "schedules"]


def __getattr__(name: str) -> Any:
    if name == "schedules":
        return importlib.import_module("agents.schedules")
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
