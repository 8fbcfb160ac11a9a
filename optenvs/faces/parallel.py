"""PettingZoo's ``ParallelEnv``: all agents of one instance ask at once, one step of the problem each time."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from pettingzoo import ParallelEnv

from optenvs.core.configuration import check_origin
from optenvs.core.env import State
from optenvs.core.struct import replace

from .agents import AgentsFace
from .info import information
from .single import FaceState


class ParallelFace(AgentsFace, ParallelEnv[str, dict[str, np.ndarray], Any]):
    """The parallel face of a problem of many agents.

    An agent sees its own row of the agents' fields, the common fields, and those that are public whole, as
    ``all_<name>``. Rows are the caller's to write to; what all agents see is one array that cannot be. Every
    agent earns the team's reward, and all end together. What belongs to the team is the mean of what the
    agents propose.

    ``infos[agent]`` holds the ledger ``calls``, the truth ``metrics`` and the instance's ``key``, which are
    the same objects for all agents; ``reset(options={"instance": key})`` meets the instance again.

    Args:
        core: the problem.
        render_mode: ``"rgb_array"`` or ``"human"`` to draw the episode with :meth:`render`.
        max_cycles: steps after which an unfinished episode is truncated.
        info: ``"flat"`` for ``infos`` of one level, see :mod:`optenvs.faces.info`.
    """

    _face: FaceState | None = None

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, Any]]]:
        """Begin an episode: of ``seed``, of ``options["instance"]``, or the next of the sequence."""
        self._face = face = self._begin(seed, options)
        self.agents = self.possible_agents.copy()
        self._remember(face.state, anew=True)
        return self._observations(face.state), self._infos(face.state)

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, dict[str, np.ndarray]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Ask one query: the actions of all agents.

        Raises:
            gymnasium.error.InvalidAction: an agent's action is missing or does not fit its space, or there is
                no such agent; the episode is as it was.
            gymnasium.error.ResetNeeded: the episode is over, or none has begun.
        """
        face, names = self.get_state(), self.possible_agents
        if not self.agents:
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        state = self._ask(face.state, self._proposals.collect(actions))
        self._face = replace(face, state=state)
        if self.render_mode is not None:
            self._remember(state)
        terminated, truncated = state.terminated.item(), state.truncated.item()
        if self.max_cycles is not None:
            truncated = truncated or self._cut(state)
        if terminated or truncated:
            self.agents = []
        return (
            self._observations(state),
            dict.fromkeys(names, state.reward.item()),
            dict.fromkeys(names, terminated),
            dict.fromkeys(names, truncated),
            self._infos(state),
        )  # type: ignore[return-value]

    def get_state(self) -> FaceState:
        """The episode and its place in the sequence; restore with :meth:`set_state`, or save it."""
        if self._face is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self._face

    def set_state(self, face: FaceState) -> None:
        """Go on from ``face`` bit for bit, here or in another environment of the same configuration."""
        if not isinstance(face, FaceState) or len(face.state.k) != 1:
            raise ValueError("set_state: expected what get_state of a parallel environment returned")
        check_origin("set_state", self.core.configuration, face.state.origin)
        self._face, self._episodes = face, face.episodes
        ended = self._is_over(face.state) or self._cut(face.state)
        self.agents = [] if ended else self.possible_agents.copy()
        self._remember(face.state, anew=True)

    def _current(self) -> State:
        return self.get_state().state

    def _cut(self, state: State) -> bool:
        return self.max_cycles is not None and int(state.k) >= self.max_cycles

    def _observations(self, state: State) -> dict[str, dict[str, np.ndarray]]:
        own, shared = self._views(state.observation)
        views = [shared.copy() for _ in self.possible_agents]
        for name, rows in own.items():
            for view, row in zip(views, rows, strict=True):
                view[name] = row
        return dict(zip(self.possible_agents, views, strict=True))

    def _infos(self, state: State) -> dict[str, dict[str, Any]]:
        info = information(state, self.info)
        return {name: info.copy() for name in self.possible_agents}
