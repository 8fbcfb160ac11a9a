"""Every face by name, behind one way to speak to them, for tests of the rules that hold on all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gossip import Gossip

import optenvs

ROWS = 2
KEYWORDS: dict[str, Any] = {"dim": 2, "bounds": (-4.0, 4.0), "budget": 5, "tolerance": None, "shift": 0.5}
ID = "optenvs/Quadratic-v0"


class Face(NamedTuple):
    """One face.

    Attributes:
        make: it, with options of the face.
        reset: reset it with ``seed`` and ``options``; gives the keys of its instances.
        step: ask the same query of all; gives the infos of the instances.
        query: the parts of one query.
    """

    make: Callable[..., Any]
    reset: Callable[..., list[int]]
    step: Callable[[Any, Any], list[dict[str, Any]]]
    query: Any


def _single(env: Any, **options: Any) -> list[int]:
    return [env.reset(**options)[1]["key"]]


def _vector(env: Any, **options: Any) -> list[int]:
    return env.reset(**options)[1]["key"].tolist()


def _sb3(env: Any, seed: Any = None, options: Any = None) -> list[int]:
    env.seed(seed)
    env.set_options(options)
    env.reset()
    return [info["key"] for info in env.reset_infos]


def _parallel(env: Any, **options: Any) -> list[int]:
    return [env.reset(**options)[1]["node_0"]["key"]]


def _aec(env: Any, **options: Any) -> list[int]:
    env.reset(**options)
    return [env.infos["node_0"]["key"]]


def _rows(info: dict[str, Any]) -> list[dict[str, Any]]:
    def row(tree: dict[str, Any], i: int) -> dict[str, Any]:
        return {
            name: row(value, i) if isinstance(value, dict) else value[i].item()
            for name, value in tree.items()
            if not name.startswith("_")
        }

    return [row(info, i) for i in range(ROWS)]


def _aec_step(env: Any, query: Any) -> list[dict[str, Any]]:
    env.step(query)
    return [env.infos[env.agents[0]]]


def _batch(query: Any) -> Any:
    return np.stack([query] * ROWS) if hasattr(query, "shape") or isinstance(query, list) else query


POINT = np.zeros(2, np.float32)
NODE = {"query": POINT, "message": POINT, "recommendation": POINT}
FACES = {
    "single": Face(
        lambda **o: optenvs.GymEnv(optenvs.make(ID, **KEYWORDS), **o),
        _single,
        lambda env, query: [env.step(query)[4]],
        POINT,
    ),
    "gym.make": Face(
        lambda **o: gym.make(ID, **KEYWORDS, **o), _single, lambda env, query: [env.step(query)[4]], POINT
    ),
    "vector": Face(
        lambda **o: gym.make_vec(ID, ROWS, **KEYWORDS, **o),
        _vector,
        lambda env, query: _rows(env.step(_batch(query))[4]),
        POINT,
    ),
    "numpy vector": Face(
        lambda **o: gym.make_vec(ID, ROWS, to="numpy", **KEYWORDS, **o),
        _vector,
        lambda env, query: _rows(env.step(_batch(query))[4]),
        POINT,
    ),
    "sb3": Face(
        lambda **o: optenvs.make_sb3(ID, ROWS, **KEYWORDS, **o),
        _sb3,
        lambda env, query: env.step(_batch(query))[3],
        POINT,
    ),
    "parallel": Face(
        lambda **o: optenvs.parallel_env(Gossip(budget=40), **o),
        _parallel,
        lambda env, query: [env.step(dict.fromkeys(env.possible_agents, query))[4]["node_0"]],
        dict.fromkeys(("query", "message"), POINT),
    ),
    "aec": Face(
        lambda **o: optenvs.aec_env(Gossip(budget=40), **o),
        _aec,
        _aec_step,
        dict.fromkeys(("query", "message"), POINT),
    ),
}
