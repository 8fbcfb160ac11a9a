"""The rounds of a session as pure functions: what the agent asks, and how a person's ranking answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from optenvs.core.env import Action, State
from optenvs.core.errors import check_oracles
from optenvs.core.random import keys_from_seed, permutation
from optenvs.core.rollout import agent_keys
from optenvs.envs.ranking.base import RankingOracle
from optenvs.envs.ranking.people import Rankings
from optenvs.making import accepted, make

Pictures = UInt8[Tensor, "m *size"]
"""Grey pictures (m, h, w), or coloured ones (m, h, w, 3)."""


class Round(NamedTuple):
    """One round: the episode before it, and what the agent asks in it.

    Attributes:
        state: the episode, of one instance, without this round.
        action: the agent's query.
        memory: the agent's memory after it.
        points: the points to be shown, ``(m, d)``.
        named: the number of points that an answer names, unless none is better.
        display: the places of the points on the screen: ``display[slot]`` is the index of a point.
        pictures: of the points, by index.
        recommended: the point that the agent stands behind, ``(d,)``.
    """

    state: State
    action: Action
    memory: Any
    points: Tensor
    named: int
    display: tuple[int, ...]
    pictures: Pictures
    recommended: Tensor

    @property
    def number(self) -> int:
        """The number of the query, from 1: the first was that of ``reset``, the start alone."""
        return int(self.state.k[0]) + 1

    @property
    def over(self) -> bool:
        """Whether the episode is over, and nothing is asked any more."""
        return bool(self.state.done[0])


def pictured(name: str, keywords: Mapping[str, Any]) -> RankingOracle:
    """The environment of an id with a person in the place of its judge, if its points can be shown to one.

    Raises:
        TypeError: it ranks nothing, or has no pictures; the message says which does. And what
            :func:`optenvs.make` raises.
    """
    cls = accepted(name)[0]
    if not issubclass(cls, RankingOracle):
        raise TypeError(f"{name}: it ranks nothing; a person can rank for optenvs/RankingLatent-v0")
    if not callable(getattr(cls, "images", None)):
        raise TypeError(
            f"{name}: its points have no pictures to be shown; those of optenvs/RankingLatent-v0 have "
            "(an environment of yours needs a method `images`)"
        )
    env = make(name, **keywords).replace(rankings=())
    assert isinstance(env, RankingOracle)
    return env


def draw(env: RankingOracle, points: Tensor) -> Pictures:
    """The pictures of points ``(m, d)``; the environment's are ink on paper, from 0 to 1."""
    ink = env.images(points.unsqueeze(0))[0]  # type: ignore[attr-defined]
    return ((1 - ink.double()) * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def start(env: RankingOracle, agent: Any, seed: int) -> Round:
    """The first round of an episode."""
    check_oracles(type(agent).__name__, agent.needs, env.name, env.oracles)
    with torch.no_grad():
        keys = keys_from_seed(seed, 1, env.torch_device)
        state = env.reset(keys)
        memory = agent.init(state.problem, state.observation, agent_keys(keys))
        return _ask(env, agent, state, memory)


def follow(env: RankingOracle, agent: Any, before: Round, rankings: Rankings) -> Round:
    """The round after ``before``.

    Args:
        env: the environment.
        agent: the agent.
        before: a round that has been answered.
        rankings: all answers so far, that to ``before`` the last.
    """
    with torch.no_grad():
        told = env.replace(rankings=tuple(tuple(ranking) for ranking in rankings))
        state = told.step(before.state, before.action)
        return _ask(env, agent, state, before.memory)


def _ask(env: RankingOracle, agent: Any, state: State, memory: Any) -> Round:
    # an agent acts after the last answer, too: its recommendation is what the answer has taught it
    action, memory = agent.act(memory, state.observation)
    if isinstance(action, dict):
        query, recommended = action["query"][0], action["recommendation"][0]
        count = int(action["count"][0])
        named = min(int(action["keep"][0]), count)
    else:
        query, count, named = action[0], env.shown, env.best_count
        top = max(int(state.observation["order"][0, 0]), 0)
        recommended = state.observation["point"][0, top]
    points = query[:count]
    display = permutation(state.key, "display", count, state.k + 1)[0]
    return Round(
        state=state,
        action=action,
        memory=memory,
        points=points,
        named=named,
        display=tuple(display.tolist()),
        pictures=draw(env, points),
        recommended=recommended,
    )
