"""``gymnasium.vector.VectorEnv``: B instances, torch in and out, on the device of the problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from optenvs.core.configuration import check_origin
from optenvs.core.env import OptimizationEnv, State
from optenvs.core.evaluations import due, due_rows
from optenvs.core.problems import as_problem
from optenvs.core.spaces import as_action, check_action, violations
from optenvs.core.state import stopped
from optenvs.core.struct import rows, select, static, struct, tree_map
from optenvs.core.threads import Threads

from .info import check_form, shaped
from .seeding import Episodes, instance_keys, over


@struct
class VectorState:
    """The episodes of a batch, their place in the sequence, the rows to be reset next, the steps so far."""

    state: State
    episodes: Episodes
    pending: Tensor
    clock: int = static(default=0)


class TorchVectorEnv(VectorEnv):
    """The vector face of an optimization problem, and its one implementation of autoreset.

    ``infos["calls"]`` and ``infos["metrics"]`` hold tensors ``(B,)`` by name, ``infos["key"]`` the
    instances. Observations are the state's own tensors: do not write to them.

    What is dear is measured in each row after the queries of its own episode that are due. On an accelerator,
    where looking at their numbers would wait, all rows are measured together, by the steps since ``reset``.

    Args:
        core: the problem, or its id.
        num_envs: the batch size B.
        autoreset_mode: ``next_step`` (Gymnasium's default), ``same_step`` (``infos["final_obs"]`` and
            ``infos["final_info"]`` hold the end, in the rows ``infos["_final_obs"]``), or ``disabled``
            (finished rows rest, unbilled, until ``reset(options={"reset_mask": mask})``).
        validate: whether to look at the numbers of an action and raise ``InvalidAction``. The default is
            yes on the CPU and no on an accelerator, where looking would wait for the device: there a bad
            row's instance stays as it was, unbilled, and ``infos["invalid"]`` marks it.
        max_episode_steps: a limit on steps besides the budget.
        render_mode: ``"rgb_array"`` to draw the episodes with :meth:`render`.
        info: ``"flat"`` for ``infos`` of one level, see :mod:`optenvs.faces.info`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        core: OptimizationEnv,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        validate: bool | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        info: str = "nested",
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs: expected a whole number >= 1, got {num_envs!r}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps: expected >= 1, got {max_episode_steps}")
        self.core = core = as_problem(core)
        self.num_envs = num_envs
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.validate = core.torch_device.type == "cpu" if validate is None else validate
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.info = check_form(info)
        self.single_observation_space = core.observation_space
        self.single_action_space = core.action_space
        self._face: VectorState | None = None
        self._paths: list[list[State]] = []  # of each row's episode, where pictures are wanted
        self._finished: Tensor | None = None

    # The spaces of the batch are built when asked for: they copy the bounds B times.
    @cached_property
    def observation_space(self) -> gym.Space:  # type: ignore[override]
        """The space of the whole batch's observation."""
        return batch_space(self.single_observation_space, self.num_envs)

    @cached_property
    def action_space(self) -> gym.Space:  # type: ignore[override]
        """The space of the whole batch's action."""
        return batch_space(self.single_action_space, self.num_envs)

    @property
    def state(self) -> State:
        """The episodes of the batch."""
        return self.get_state().state

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Begin episodes: of ``seed``, of ``options["instance"]`` (a key, or one a row), or the next.

        ``options["reset_mask"]``, bool ``(B,)``, limits it to some rows.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        mask = None if mask is None else self._mask("reset_mask", mask)
        device, batch = self.core.torch_device, self.num_envs
        if seed is not None:
            fresh = Episodes.seeded(seed, batch, device)
            if not isinstance(seed, Sequence | np.ndarray | Tensor):
                super().reset(seed=int(seed))
            episodes = fresh if mask is None else select(mask, fresh, self.get_state().episodes)
        elif self._face is None:
            episodes = Episodes.seeded(int(self.np_random.integers(2**63)), batch, device)
        else:
            episodes = self._face.episodes.next(mask)
        keys = instance_keys(options, episodes.keys())
        with torch.no_grad(), Threads(self.core, self.num_envs):
            state = self.core.reset(keys)
        pending, clock = torch.zeros_like(state.done), 0
        if mask is not None:
            face = self.get_state()
            state, pending, clock = select(mask, state, face.state), face.pending & ~mask, face.clock
        else:
            self._paths = []
        self._face = VectorState(state=state, episodes=episodes, pending=pending, clock=clock)
        if self._finished is not None:
            self._finished = None if mask is None else self._finished & ~mask
        self._remember(state)
        return state.observation, self._info(state)

    def step(self, actions: Any) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Ask one query an instance.

        Raises:
            gymnasium.error.InvalidAction: with ``validate``, a row does not fit; no episode has changed.
            gymnasium.error.ResetNeeded: before the first ``reset``.
        """
        face, core = self.get_state(), self.core
        query = as_action(core.action_space, actions, self.num_envs, core.torch_device)
        info: dict[str, Any] = {}
        resting = over(face.state) if self.autoreset_mode is AutoresetMode.DISABLED else face.pending
        finished = self._finished
        asked = ~resting if finished is None else ~(resting | finished)
        if self.validate:
            check_action(core.action_space, query, asked)
        self._finished = None
        with torch.no_grad(), Threads(core, self.num_envs):
            state = core.step(face.state, query)
            if not self.validate:
                invalid = violations(core.action_space, query) & asked
                kept = dataclasses.replace(face.state, reward=torch.zeros_like(state.reward))
                state = select(invalid, kept, state)
                info["invalid"] = invalid
            if finished is not None:
                state = select(finished, stopped(face.state), state)
            state = self._limit(state)
            if self._maybe(state.diverged):
                # an answer that is no number would poison a learner: the last one stands
                shown = select(state.diverged, face.state.observation, state.observation)
                state = dataclasses.replace(state, observation=shown)
            if self._maybe(resting) and self.autoreset_mode is AutoresetMode.DISABLED:
                still = dataclasses.replace(face.state, reward=torch.zeros_like(state.reward))
                state = select(resting, still, state)
            if core.evaluations is not None:
                state = self._measured(face, state, resting)
            return self._autoreset(face, state, info)

    def _measured(self, face: VectorState, state: State, resting: Tensor) -> State:
        """``state`` with what is dear measured, in the rows where it is due."""
        core = self.core
        if state.k.device.type != "cpu":
            return core.evaluate(state) if due(core.evaluations, face.clock + 1) else state
        now = due_rows(core.evaluations, state.k) & (state.k > face.state.k) & ~resting
        if bool(now.all()):
            return core.evaluate(state)
        index = now.nonzero().squeeze(1)
        return _into(state, index, core.evaluate(rows(state, index))) if len(index) else state

    def _autoreset(
        self, face: VectorState, state: State, info: dict[str, Any]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        episodes, pending, shown = face.episodes, face.pending, state
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            shown, renewed, pending = state, pending, state.done
            if self._maybe(renewed):
                state, episodes = self._renew(renewed, state, episodes)
                pending = over(state)
                shown = dataclasses.replace(
                    state, terminated=state.terminated & pending, truncated=state.truncated & pending
                )
        elif self.autoreset_mode is AutoresetMode.SAME_STEP and self._maybe(state.done):
            ended = over(state)
            fresh, episodes = self._renew(ended, state, episodes)
            info |= {"final_obs": state.observation, "_final_obs": ended}
            info |= {"final_info": self._info(state), "_final_info": ended}
            # the new episode's first observation, with the old one's reward and ending
            shown = dataclasses.replace(
                fresh, reward=state.reward, terminated=state.terminated, truncated=state.truncated
            )
            state = fresh
        self._face = VectorState(state=state, episodes=episodes, pending=pending, clock=face.clock + 1)
        self._remember(state)
        return (
            shown.observation,
            shown.reward,
            shown.terminated,
            shown.truncated,
            self._info(state) | info,
        )

    def _renew(self, mask: Tensor, state: State, episodes: Episodes) -> tuple[State, Episodes]:
        """The rows of ``mask`` begin their next episode; the others stay."""
        episodes = episodes.next(mask)
        keys = episodes.keys()
        if mask.device.type != "cpu" or bool(mask.all()):
            return select(mask, self.core.reset(keys), state), episodes
        index = mask.nonzero().squeeze(1)
        return _into(state, index, self.core.reset(keys[index])), episodes

    def _limit(self, state: State) -> State:
        if self.max_episode_steps is None:
            return state
        late = state.k >= self.max_episode_steps
        return dataclasses.replace(state, truncated=state.truncated | late)

    def _maybe(self, mask: Tensor) -> bool:
        return bool(mask.any()) if mask.device.type == "cpu" else True

    def _mask(self, name: str, mask: Any) -> Tensor:
        mask = torch.as_tensor(mask, device=self.core.torch_device)
        if mask.dtype != torch.bool or tuple(mask.shape) != (self.num_envs,):
            raise ValueError(
                f"{name}: expected bool of shape ({self.num_envs},), "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if self._face is None:
            raise ResetNeeded(f"{name}: no episode has begun; call reset() first")
        return mask

    def _info(self, state: State) -> dict[str, Any]:
        info = {
            "calls": dict(state.calls.items()),
            "metrics": state.metrics,
            "key": state.key,
            "diverged": state.diverged,
        }
        return shaped(self.info, info)

    def render(self) -> Any:
        """The pictures of the episodes so far, in mode ``rgb_array``: a tuple of one an instance.

        Raises:
            ResetNeeded: before the first ``reset``.
        """
        self.get_state()
        if self.render_mode is None:
            gym.logger.warn("render() draws only with render_mode='rgb_array'")
            return None
        return tuple(self.core.picture(path) for path in self._paths)

    def finish(self, rows: Tensor) -> None:
        """End the episodes of ``rows``, bool ``(B,)``: their next step asks, bills and rewards nothing.

        It is then truncated, and the action of such a row is not looked at. An episode that begins before
        that step is not ended.
        """
        self._finished = self._mask("rows", rows)

    def get_state(self) -> VectorState:
        """The episodes and their place in the sequence; restore with :meth:`set_state`, or save it."""
        if self._face is None:
            raise ResetNeeded("no episode has begun: call reset() first")
        return self._face

    def set_state(self, face: VectorState) -> None:
        """Go on from ``face`` bit for bit."""
        if not isinstance(face, VectorState) or len(face.state.k) != self.num_envs:
            raise ValueError(f"set_state: expected what get_state of {self.num_envs} instances returned")
        check_origin("set_state", self.core.configuration, face.state.origin)
        self._set(face)

    def _set(self, face: VectorState) -> None:
        self._face, self._finished = face, None
        self._paths = []
        self._remember(face.state)

    def _remember(self, state: State) -> None:
        """Lengthen the paths that are drawn; that of a row whose episode has just begun starts anew."""
        if self.render_mode is None:
            return
        self._paths = self._paths or [[] for _ in range(self.num_envs)]
        for i, path in enumerate(self._paths):
            now = rows(state, slice(i, i + 1))
            if path and torch.equal(now.key, path[-1].key) and int(now.k) == int(path[-1].k):
                continue  # it rests, or was not reset by the mask
            if int(now.k) == 0:
                path.clear()
            path.append(now)


def _into(state: State, index: Tensor, part: State) -> State:
    """``state`` with the rows ``index`` replaced by those of ``part``."""
    return tree_map(lambda old, new: old.index_copy(0, index, new), state, part)


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    names = {m.name.lower(): m for m in AutoresetMode}
    key = str(mode).lower().replace("-", "_")
    if key in names:
        return names[key]
    raise ValueError(f"autoreset_mode: expected one of {', '.join(names)}, got {mode!r}")
