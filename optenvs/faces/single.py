"""``gym.Env``: one instance, numpy in and out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded

from optenvs.core.configuration import check_origin
from optenvs.core.env import OptimizationEnv, State
from optenvs.core.evaluations import due
from optenvs.core.problems import as_problem
from optenvs.core.random import as_seed
from optenvs.core.spaces import as_action, check_action
from optenvs.core.state import stopped
from optenvs.core.struct import struct
from optenvs.core.threads import Threads

from .info import check_form, information
from .seeding import Episodes, instance_keys, over


@struct
class FaceState:
    """A face's episode and its place in the sequence of episodes: all that a restore needs."""

    state: State
    episodes: Episodes


class GymEnv(gym.Env):
    """The Gymnasium face of an optimization problem.

    ``info["calls"]`` is the oracle ledger, ``info["metrics"]`` the truth (never part of an observation),
    ``info["key"]`` the instance: ``reset(options={"instance": key})`` meets it again.

    Args:
        core: the problem, or its id.
        render_mode: ``"rgb_array"`` to draw the episode with :meth:`render`.
        info: ``"flat"`` for an ``info`` of one level, see :mod:`optenvs.faces.info`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's)

    def __init__(self, core: OptimizationEnv, render_mode: str | None = None, info: str = "nested") -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode: expected 'rgb_array' or None, got {render_mode!r}")
        self.core = core = as_problem(core)
        self.render_mode = render_mode
        self.info = check_form(info)
        self.observation_space = core.observation_space
        self.action_space = core.action_space
        self._face: FaceState | None = None
        self._path: list[State] = []
        self._finished = False

    @property
    def state(self) -> State:
        """The episode, a batch of one.

        Raises:
            ResetNeeded: before the first ``reset``.
        """
        return self.get_state().state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode: of ``seed``, of ``options["instance"]``, or the next of the sequence."""
        super().reset(seed=None if seed is None else as_seed(seed))
        device = self.core.torch_device
        if seed is not None:
            episodes = Episodes.seeded(seed, 1, device)
        elif self._face is None:
            episodes = Episodes.seeded(int(self.np_random.integers(2**63)), 1, device)
        else:
            episodes = self._face.episodes.next()
        keys = instance_keys(options, episodes.keys())
        with torch.no_grad(), Threads(self.core, 1):
            state = self.core.reset(keys)
        self._set(FaceState(state=state, episodes=episodes))
        return self._observation(state), information(state, self.info)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Ask one query.

        Raises:
            gymnasium.error.InvalidAction: the action does not fit the space; the episode is as it was.
            gymnasium.error.ResetNeeded: the episode is over, or none has begun.
        """
        face = self.get_state()
        # the two flags alone answer nearly always, in a fifth of the time
        if (bool(face.state.terminated) or bool(face.state.truncated)) and bool(over(face.state)):
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        core = self.core
        with torch.no_grad(), Threads(core, 1):
            if self._finished:
                state = stopped(face.state)
            else:
                query = as_action(core.action_space, action, None, core.torch_device)
                check_action(core.action_space, query)
                state = core.step(face.state, query)
            if core.evaluations is not None and due(core.evaluations, int(state.k)):
                state = core.evaluate(state)
        self._face, self._finished = FaceState(state=state, episodes=face.episodes), False
        if self.render_mode is not None:
            self._path.append(state)
        # an answer that is no number would poison a learner: the last one stands, and info says so
        shown = face.state if bool(state.diverged) else state
        return (
            self._observation(shown),
            state.reward.item(),
            state.terminated.item(),
            state.truncated.item(),
            information(state, self.info),
        )  # type: ignore[return-value]

    def render(self) -> np.ndarray | None:
        """The picture of the episode so far, uint8 ``(height, width, 3)``, in mode ``rgb_array``.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        self.get_state()
        if self.render_mode is None:
            gym.logger.warn("render() draws only with render_mode='rgb_array'")
            return None
        return self.core.picture(self._path)

    def finish(self) -> None:
        """End the episode: the next step asks nothing, bills nothing, and is ``truncated``."""
        self.get_state()
        self._finished = True

    def get_state(self) -> FaceState:
        """The episode and its place in the sequence; restore with :meth:`set_state`, or save it."""
        if self._face is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self._face

    def set_state(self, face: FaceState) -> None:
        """Go on from ``face`` bit for bit, here or in another environment of the same configuration."""
        if not isinstance(face, FaceState) or len(face.state.k) != 1:
            raise ValueError("set_state: expected what get_state of a single environment returned")
        check_origin("set_state", self.core.configuration, face.state.origin)
        self._set(face)

    def _set(self, face: FaceState) -> None:
        self._face, self._finished = face, False
        self._path = [face.state] if self.render_mode is not None else []

    def _observation(self, state: State) -> dict[str, np.ndarray]:
        # copies, because numpy arrays can be written to and the state is immutable
        return {k: v.cpu().numpy()[0].copy() for k, v in state.observation.items()}
