"""Optimization problems as Gymnasium environments: an environment is an oracle.

``import optenvs`` registers every id with Gymnasium (those of many agents with PettingZoo, too, once that is
loaded) and loads neither torch nor any problem; the functions below load what they need on first use.
"""

from __future__ import annotations

from . import program as _program  # noqa: F401 (before all that takes its time)

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

import gymnasium as _gymnasium

from envs_registry import ENVIRONMENTS as _ENVIRONMENTS
from envs_registry import PLAIN as _PLAIN
from envs_registry import EnvSpec as _EnvSpec
from envs_registry import load_plugins as _load_plugins

from . import ids as _ids
from . import second_name as _second_name
from . import zoo as _zoo
from .version import installed as _installed

if TYPE_CHECKING:
    import agents as agents
    from envs_registry import EnvSpec as EnvSpec
    from optenvs.core.checker import check as check
    from optenvs.core.env import OptimizationEnv as OptimizationEnv
    from optenvs.core.rollout import rollout as rollout
    from optenvs.core.rollout import unroll as unroll
    from optenvs.core.rollout import unroll_windows as unroll_windows
    from optenvs.core.snapshot import load as load
    from optenvs.core.snapshot import save as save
    from optenvs.envs.bilevel.functions import bilevel_from_functions as bilevel_from_functions
    from optenvs.envs.constrained.functions import constrained_from_functions as constrained_from_functions
    from optenvs.envs.landscapes.function import from_function as from_function
    from optenvs.envs.network.functions import network_from_functions as network_from_functions
    from optenvs.envs.surrogate.module import surrogate_from_module as surrogate_from_module
    from optenvs.faces.arrays import NumpyVectorEnv as NumpyVectorEnv
    from optenvs.faces.single import GymEnv as GymEnv
    from optenvs.faces.vector import TorchVectorEnv as TorchVectorEnv
    from optenvs.human.session import replay_session as replay_session
    from optenvs.making import as_function as as_function
    from optenvs.making import make as make
    from optenvs.making import make_sb3 as make_sb3
    from optenvs.processes.run import run_processes as run_processes
    from optenvs.processes.spawn import spawn_processes as spawn_processes
    from optenvs.processes.watch import NodeFailure as NodeFailure
    from optenvs.scoring.result import Score as Score
    from optenvs.scoring.scores import score as score
    from optenvs.scoring.splits import list_splits as list_splits
    from optenvs.wrappers.spread import Spread as Spread
    from optenvs.zoo import aec_env as aec_env
    from optenvs.zoo import parallel_env as parallel_env

    __version__: str

_LAZY = {
    "EnvSpec": "envs_registry",
    "GymEnv": "optenvs.faces.single",
    "Score": "optenvs.scoring.result",
    "Spread": "optenvs.wrappers.spread",
    "NodeFailure": "optenvs.processes.watch",
    "NumpyVectorEnv": "optenvs.faces.arrays",
    "OptimizationEnv": "optenvs.core.env",
    "TorchVectorEnv": "optenvs.faces.vector",
    "aec_env": "optenvs.zoo",
    "as_function": "optenvs.making",
    "bilevel_from_functions": "optenvs.envs.bilevel.functions",
    "check": "optenvs.core.checker",
    "constrained_from_functions": "optenvs.envs.constrained.functions",
    "from_function": "optenvs.envs.landscapes.function",
    "list_splits": "optenvs.scoring.splits",
    "load": "optenvs.core.snapshot",
    "make": "optenvs.making",
    "network_from_functions": "optenvs.envs.network.functions",
    "make_sb3": "optenvs.making",
    "parallel_env": "optenvs.zoo",
    "replay_session": "optenvs.human.session",
    "rollout": "optenvs.core.rollout",
    "run_processes": "optenvs.processes.run",
    "save": "optenvs.core.snapshot",
    "score": "optenvs.scoring.scores",
    "spawn_processes": "optenvs.processes.spawn",
    "surrogate_from_module": "optenvs.envs.surrogate.module",
    "unroll": "optenvs.core.rollout",
    "unroll_windows": "optenvs.core.rollout",
}

__all__ = [*_LAZY, "agents", "list_envs", "register"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    if name == "agents":
        return importlib.import_module(_second_name.NAME)
    if name == "__version__":
        return _installed()
    raise AttributeError(f"module 'optenvs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def list_envs(
    family: str | None = None,
    oracle: str | None = None,
    multi_agent: bool | None = None,
    plain: bool = False,
) -> list[str]:
    """The registered ids: of one family, of those that can answer one oracle kind, of many agents or not.

    With ``plain`` those that are no oracles, but plain environments for ``gymnasium.make``.
    """
    return sorted(
        spec.id
        for spec in (_PLAIN if plain else _ENVIRONMENTS).values()
        if (family is None or spec.family == family)
        and (oracle is None or oracle in spec.oracles)
        and multi_agent in (None, spec.multi_agent)
    )


def register(spec: _EnvSpec) -> None:
    """Declare an environment of yours: here, with Gymnasium, and with PettingZoo if it has many agents."""
    from envs_registry import register as declare

    _register_with_gymnasium(declare(spec))
    _zoo.register(spec)


def _register_with_gymnasium(spec: _EnvSpec) -> None:
    if spec.plain:
        _gymnasium.register(
            id=spec.id,
            entry_point=spec.entry_point,
            vector_entry_point=spec.vector_entry_point,
            kwargs=dict(spec.kwargs),
        )
        return
    _gymnasium.register(
        id=spec.id,
        entry_point="optenvs.making:RegisteredEnv",
        vector_entry_point="optenvs.making:registered_vector_env",
        kwargs={"env_id": spec.id},
    )


def _problem_of(env_id: str, **keywords: Any) -> Any:
    from optenvs.making import make  # loads torch

    return make(env_id, **keywords)


_ids.made_by(_problem_of)
_second_name.install()
_load_plugins()
for _spec in (*_ENVIRONMENTS.values(), *_PLAIN.values()):
    _register_with_gymnasium(_spec)
_zoo.register_when_loaded()
