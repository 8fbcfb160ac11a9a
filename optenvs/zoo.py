"""PettingZoo's faces of the environments of many agents, by id, and the ids in PettingZoo's own registry.

That registry exists since PettingZoo 1.27; with an older one, ``optenvs.parallel_env`` and
``optenvs.aec_env`` are the way. ``import optenvs`` does not load PettingZoo, which would set environment
variables for sound and may print notices: if PettingZoo is there already, the ids are registered at once,
else as soon as it is imported, so that the two imports may come in any order.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from envs_registry import ENVIRONMENTS, EnvSpec

if TYPE_CHECKING:
    from optenvs.core.env import OptimizationEnv
    from optenvs.core.multi import MultiAgentEnv
    from optenvs.faces.aec import AECFace
    from optenvs.faces.parallel import ParallelFace

_ZOO = "pettingzoo"
_FACES = {"parallel": "optenvs.zoo:parallel_env", "aec": "optenvs.zoo:aec_env"}
_FACE_OPTIONS = ("render_mode", "max_cycles", "info")


def parallel_env(env: OptimizationEnv | Any, **kwargs: Any) -> ParallelFace:
    """One instance as a PettingZoo ``ParallelEnv``: all agents ask at once.

    Args:
        env: an id, a problem of many agents (one of your own), or what another face made of one.
        **kwargs: keywords as in :func:`optenvs.make`, for an id only; ``render_mode``; ``max_cycles``;
            ``info="flat"`` for ``infos`` of one level.

    Raises:
        TypeError: the environment has one agent only; the message names those with many.
    """
    from optenvs.faces.parallel import ParallelFace  # loads PettingZoo

    core, options = _core(env, kwargs)
    return ParallelFace(core, **options)


def aec_env(env: OptimizationEnv | Any, **kwargs: Any) -> AECFace:
    """One instance as a PettingZoo ``AECEnv``: the agents act in turns, in the order of the events.

    Args:
        env: an id, a problem of many agents (one of your own), or what another face made of one.
        **kwargs: as in :func:`parallel_env`.

    Raises:
        TypeError: the environment has one agent only; the message names those with many.
    """
    from optenvs.faces.aec import AECFace  # loads PettingZoo

    core, options = _core(env, kwargs)
    return AECFace(core, **options)


def _core(env: OptimizationEnv | Any, kwargs: dict[str, Any]) -> tuple[MultiAgentEnv, dict[str, Any]]:
    from optenvs.core.errors import check_keywords
    from optenvs.core.multi import MultiAgentEnv
    from optenvs.core.problems import as_problem
    from optenvs.making import make

    options = {name: kwargs[name] for name in _FACE_OPTIONS if name in kwargs}
    if isinstance(env, str):
        env = make(env, **{name: value for name, value in kwargs.items() if name not in options})
    else:
        check_keywords("a face of a made environment", kwargs, _FACE_OPTIONS)
        env = as_problem(env)
    if not isinstance(env, MultiAgentEnv):
        many = sorted(spec.id for spec in ENVIRONMENTS.values() if spec.multi_agent)
        raise TypeError(
            f"env: expected a problem of many agents ({', '.join(many)}, or a MultiAgentEnv of yours), "
            f"got {type(env).__name__}"
        )
    return env, options


def register(spec: EnvSpec) -> None:
    """Put ``spec`` into PettingZoo's registries, where it has many agents and PettingZoo is loaded."""
    zoo: Any = sys.modules.get(_ZOO)
    if spec.multi_agent and hasattr(zoo, "register"):
        for kind, entry_point in _FACES.items():
            zoo.register(kind, spec.id, entry_point=entry_point, kwargs={"env": spec.id})


def register_when_loaded() -> None:
    """Put every environment of many agents into PettingZoo's registries, now or when it is imported."""
    if hasattr(sys.modules.get(_ZOO), "__version__"):  # the last thing that it sets
        for spec in ENVIRONMENTS.values():
            register(spec)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport:
    """A finder that finds what the others find, and has PettingZoo's import followed by our registration."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _ZOO:
            return None
        found = None
        for finder in sys.meta_path:
            if finder is not self:
                found = finder.find_spec(name, path, target)
            if found is not None:
                break
        if found is None or found.loader is None:
            return found
        execute = found.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            for spec in ENVIRONMENTS.values():
                register(spec)

        found.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return found
