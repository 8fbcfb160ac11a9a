"""From an id to each face. ``import optenvs`` loads this on first use, because it loads torch."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from envs_registry import ENVIRONMENTS, PLAIN, EnvSpec
from optenvs import second_name
from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import UnknownKeyword, UnknownName, check_keywords, suggest
from optenvs.core.imports import imported, part
from optenvs.core.problems import as_problem
from optenvs.faces.arrays import NumpyVectorEnv
from optenvs.faces.function import BilledFunction
from optenvs.faces.single import GymEnv
from optenvs.faces.vector import TorchVectorEnv

_VECTOR_OPTIONS = ("autoreset_mode", "validate", "max_episode_steps", "render_mode", "info")
_SB3_OPTIONS = ("render_mode", "info")
_VECTOR_FACES = {"torch": TorchVectorEnv, "numpy": NumpyVectorEnv}


def find(env_id: str) -> EnvSpec:
    """The declaration of ``env_id``; the namespace and the version may be left out.

    One of your own needs no id: ``module:Class``, or ``module:name`` of one that the module has made, or that
    it registers when it is imported.

    Raises:
        UnknownName: nothing is registered under that id.
    """
    module, name = imported(env_id, "environment") if ":" in env_id else (None, env_id)
    for candidate in (name, f"optenvs/{name}", f"optenvs/{name}-v0"):
        for table in (ENVIRONMENTS, PLAIN):
            if candidate in table:
                return table[candidate]
    if module is None:
        likely = name if "/" in name else f"optenvs/{name}-v0"
        raise UnknownName(f"no environment {name!r}{suggest(likely, ENVIRONMENTS)}")
    own = part(module, name, f"environment {env_id!r}")
    cls = own if isinstance(own, type) else type(own)
    if not issubclass(cls, OptimizationEnv):
        raise TypeError(f"environment {env_id!r}: expected an OptimizationEnv, got {cls.__name__}")
    summary = (cls.__doc__ or name).strip().splitlines()[0]
    named = f"{module.__name__}/{name}-v0"
    return EnvSpec(id=named, entry_point=env_id, family=module.__name__, oracles=(), summary=summary)


def make(env_id: str, **kwargs: Any) -> OptimizationEnv:
    """The pure :class:`~optenvs.core.OptimizationEnv` of an id.

    Some environments are built on another one (a swarm on a landscape), whose id, too, is a keyword. Keywords
    that the outer one does not have are the inner one's then, and it lives on the same device in the same
    precision.

    Args:
        env_id: for example ``"optenvs/Rosenbrock-v0"``.
        **kwargs: the environment's keywords; ``optenvs info ID`` lists them.

    Raises:
        UnknownName: no such id. UnknownKeyword: no such keyword. ValueError: a value out of range.
        TypeError: it is a plain Gymnasium environment.
        MissingData: a data package that is not installed; the message names it.
    """
    spec = find(env_id)
    cls = _class(spec)
    own = {field.name for field in dataclasses.fields(cls)}
    if isinstance(made := _declared(spec), OptimizationEnv):
        check_keywords(env_id, kwargs, own)
        return made.replace(**kwargs)
    keywords = dict(spec.kwargs) | kwargs
    outer: dict[str, Any] = {name: value for name, value in keywords.items() if name in own}
    outer |= _agents(cls, outer)
    field, inner = _inner(spec, cls, keywords)
    if inner is None:
        if "bounds" in kwargs and "bounds" not in own:
            raise UnknownKeyword(
                f"{spec.id} got an unexpected keyword argument 'bounds': it has no search domain to choose; "
                "for finite actions use optenvs.wrappers.Displacement(env, limit=1.0)"
            )
        check_keywords(spec.id, kwargs, own)
        return cls(**outer)
    known = {field.name for part in accepted(env_id, **kwargs) for field in dataclasses.fields(part)}
    check_keywords(f"{spec.id} on {inner.id}", keywords, known)
    passed = {name: value for name, value in keywords.items() if name not in own}
    shared = {name: keywords[name] for name in ("device", "dtype") if name in keywords}
    outer[field] = make(inner.id, **passed, **shared)
    return cls(**outer)


def _declared(spec: EnvSpec) -> Any:
    module, _, name = spec.entry_point.partition(":")
    return getattr(importlib.import_module(module), name)


def _class(spec: EnvSpec) -> type[OptimizationEnv]:
    if spec.plain:
        raise TypeError(
            f"{spec.id} is a plain environment and no oracle: gymnasium.make({spec.id!r}) makes it, "
            "gymnasium.make_vec many of it"
        )
    found = _declared(spec)
    return found if isinstance(found, type) else type(found)


def _inner(
    spec: EnvSpec, cls: type[OptimizationEnv], keywords: Mapping[str, Any]
) -> tuple[str, EnvSpec | None]:
    """The keyword that holds another environment, and that one's declaration where an id stands in it."""
    for field in dataclasses.fields(cls):
        if field.metadata.get("environment"):
            given = keywords.get(field.name)
            return field.name, find(given) if isinstance(given, str) else None
    return "", None


def _agents(cls: type[OptimizationEnv], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords in which an agent is named, with the agent: a name, or a table of it and keywords.

    Its dtype is that of the environment, where it has one and the table names none.
    """
    made = {}
    for field in dataclasses.fields(cls):
        given = keywords.get(field.name)
        if not field.metadata.get("agent") or not isinstance(given, str | Mapping):
            continue
        table = {"name": given} if isinstance(given, str) else dict(given)
        if not isinstance(table.get("name"), str):
            raise TypeError(f"{field.name}: expected a table with an agent's 'name', got {given!r}")
        agents = importlib.import_module(second_name.NAME)
        name = table.pop("name")
        agent = agents.make(name, **table)
        dtype = keywords.get("dtype", cls.dtype)
        if "dtype" not in table and getattr(agent, "dtype", dtype) != dtype:
            agent = agents.make(name, **table, dtype=dtype)
        made[field.name] = agent
    return made


def accepted(env_id: str, **kwargs: Any) -> tuple[type[OptimizationEnv], ...]:
    """The classes whose keywords :func:`make` takes here: the environment's, then of what it is built on."""
    spec = find(env_id)
    cls = _class(spec)
    keywords = dict(spec.kwargs) | kwargs
    _, inner = _inner(spec, cls, keywords)
    return (cls,) if inner is None else (cls, *accepted(inner.id, **keywords))


def make_sb3(env: OptimizationEnv | Any, num_envs: int = 1, **kwargs: Any) -> Any:
    """A Stable-Baselines3 ``VecEnv`` of ``num_envs`` instances.

    Stable-Baselines3 needs finite actions: where the environment has ``bounds`` and none are given, they are
    its search domain.

    Args:
        env: an id, a problem (one of your own, or a wrapped one), or what ``gym.make`` made of one.
        num_envs: the batch size.
        **kwargs: keywords as in :func:`make`, for an id only; ``render_mode``; ``info="flat"`` for
            infos of one level.
    """
    from optenvs.faces.sb3 import SB3VecEnv  # loads Stable-Baselines3

    options = {name: kwargs.pop(name) for name in _SB3_OPTIONS if name in kwargs}
    if isinstance(env, str):
        taken = {field.name for cls in accepted(env, **kwargs) for field in dataclasses.fields(cls)}
        made = make(env, **kwargs)
        actions = made.action_space  # those of a problem about another one may be finite by themselves
        finite = isinstance(actions, spaces.Box) and actions.is_bounded()
        if "bounds" in taken - kwargs.keys() and not finite:
            made = make(env, bounds="domain", **kwargs)
        env = made
    elif kwargs:
        check_keywords("make_sb3 of a made environment", kwargs, _SB3_OPTIONS)
    return SB3VecEnv(as_problem(env), num_envs, **options)


def as_function(env: OptimizationEnv | Any, seed: int = 0, key: int | None = None) -> BilledFunction:
    """One instance as a billed callable with gradient, see :class:`BilledFunction`.

    Args:
        env: an id, a problem, or what ``gym.make`` made of one. Of an id the problem is made in float64:
            solvers that take differences of values ask points that float32 cannot tell apart.
        seed: names the instance.
        key: the instance's own key, in place of a seed.
    """
    problem = make(env, dtype="float64") if isinstance(env, str) else as_problem(env)
    return BilledFunction(problem, seed=seed, key=key)


class RegisteredEnv(GymEnv):
    """What ``gym.make`` builds: :class:`GymEnv` of a registered id."""

    def __init__(
        self, env_id: str, render_mode: str | None = None, info: str = "nested", **kwargs: Any
    ) -> None:
        super().__init__(make(env_id, **kwargs), render_mode=render_mode, info=info)


def registered_vector_env(env_id: str, num_envs: int = 1, to: str = "torch", **kwargs: Any) -> TorchVectorEnv:
    """What ``gym.make_vec`` builds: a vector face of a registered id.

    Args:
        env_id: the id.
        num_envs: the batch size.
        to: ``"torch"`` for tensors on the problem's device (:class:`TorchVectorEnv`), ``"numpy"`` for arrays,
            as Gymnasium's own vector wrappers need them (:class:`~optenvs.faces.arrays.NumpyVectorEnv`).
        **kwargs: options of the face, and keywords as in :func:`make`.
    """
    if to not in _VECTOR_FACES:
        raise ValueError(f"to: expected one of {', '.join(map(repr, _VECTOR_FACES))}, got {to!r}")
    options = {name: kwargs.pop(name) for name in _VECTOR_OPTIONS if name in kwargs}
    return _VECTOR_FACES[to](make(env_id, **kwargs), num_envs, **options)
