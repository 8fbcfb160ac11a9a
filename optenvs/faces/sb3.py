"""A Stable-Baselines3 ``VecEnv`` over the same batch (SB3 refuses Gymnasium's vector environments)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from optenvs.core.env import OptimizationEnv
from optenvs.core.random import as_seed

from .info import check_form, shaped
from .vector import TorchVectorEnv, VectorState


class SB3VecEnv(VecEnv):
    """The Stable-Baselines3 face: numpy in and out, one transfer a step, autoreset in the same step.

    ``infos[i]["terminal_observation"]`` is the end of a finished episode and
    ``infos[i]["TimeLimit.truncated"]`` says that its budget ran out (so that SB3 bootstraps its value).
    ``infos[i]["calls"]`` and ``["metrics"]`` are given at the end of episodes. ``infos[i]["key"]`` is the
    instance that was asked, ``reset_infos[i]["key"]`` that of the running episode; the two differ where an
    episode has just ended. SB3 computes in float32.

    Raises:
        TypeError: the action has several fields or is unbounded; SB3 takes a single finite Box.
    """

    def __init__(
        self, core: OptimizationEnv, num_envs: int = 1, render_mode: str | None = None, info: str = "nested"
    ) -> None:
        if not isinstance(core.action_space, spaces.Box):
            raise TypeError(
                f"Stable-Baselines3 takes one Box of actions, {core.name} has "
                f"{core.action_space}; {_one_field(core)}"
            )
        if not core.action_space.is_bounded():
            raise TypeError(
                f"Stable-Baselines3 takes finite actions only, {core.name} has {core.action_space}; "
                f"{_finite(core)}"
            )
        self.core = core
        self.batch = TorchVectorEnv(
            core, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, render_mode=render_mode
        )
        self.render_mode = render_mode
        self._form = check_form(info)
        self._actions: np.ndarray | None = None
        self._seed: int | list[int] | None = None
        super().__init__(num_envs, core.observation_space, core.action_space)

    def reset(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Begin all episodes: of the seed set by :meth:`seed`, of the options' instances, or the next.

        Options are row by row: ``set_options([{"instance": 5}, {}])`` fixes the instance of the first row.
        """
        instances = [options.get("instance") for options in self._options]
        observation, info = self.batch.reset(seed=self._seed, options={"instance": instances})
        self.reset_infos = [{"key": key} for key in info["key"].tolist()]
        self._reset_seeds()
        self._reset_options()
        self._seed = None
        return _numpy(observation)

    def set_options(self, options: list[dict] | dict | None = None) -> None:
        """The options of the next :meth:`reset`: one dict for all rows, or one a row."""
        rows = None if options is None or isinstance(options, dict) else len(options)
        if rows not in (None, self.num_envs):
            raise ValueError(f"options: expected a dict or {self.num_envs} of them, got {rows}")
        super().set_options(options)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """The instances of the next ``reset``: row i is instance i of ``seed``, at every batch size."""
        self._seed = None if seed is None else as_seed(seed)
        return [self._seed] * self.num_envs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:  # type: ignore[override]
        """Ask the queries."""
        observation, reward, terminated, truncated, info = self.batch.step(self._actions)
        done = (terminated | truncated).cpu().numpy()
        keys = info["key"].tolist()
        infos: list[dict[str, Any]] = [{"key": key} for key in keys]
        if done.any():
            limited = (truncated & ~terminated).cpu().numpy()
            final = _numpy(info["final_obs"])
            ends = info["final_info"]
            ended = ends["key"].tolist()
            for i in np.flatnonzero(done):
                self.reset_infos[i] = {"key": keys[i]}
                end = {
                    "key": ended[i],
                    "terminal_observation": {key: value[i] for key, value in final.items()},
                    "TimeLimit.truncated": bool(limited[i]),
                    "calls": {kind: int(count[i]) for kind, count in ends["calls"].items()},
                    "metrics": {name: float(value[i]) for name, value in ends["metrics"].items()},
                }
                infos[i] = shaped(self._form, end)
        return _numpy(observation), reward.float().cpu().numpy(), done, infos

    def close(self) -> None:
        """Nothing to release."""

    def render(self, mode: str | None = None) -> np.ndarray | None:
        """The pictures of all episodes side by side.

        Raises:
            gymnasium.error.ResetNeeded: before the first ``reset``.
        """
        self.get_state()
        return super().render(mode)

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The pictures of the episodes, one an instance."""
        return list(self.batch.render() or [])

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the batch, once for each of ``indices``."""
        owner = self if attr_name == "render_mode" else self.batch
        return [getattr(owner, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not offered: an environment is configured once, when it is made."""
        raise AttributeError(f"{attr_name}: environments are immutable; make another with its keywords")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch once; its result stands for each of ``indices``."""
        result = getattr(self.batch, method_name)(*method_args, **method_kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No Gymnasium wrapper is inside."""
        return [False] * len(list(self._get_indices(indices)))

    def get_state(self) -> VectorState:
        """See :meth:`TorchVectorEnv.get_state`."""
        return self.batch.get_state()

    def set_state(self, face: VectorState) -> None:
        """See :meth:`TorchVectorEnv.set_state`."""
        self.batch.set_state(face)

    def _get_indices(self, indices: Any) -> Iterable[int]:
        return super()._get_indices(indices)


def _keywords(core: OptimizationEnv) -> set[str]:
    return {field.name for field in dataclasses.fields(core)}


def _one_field(core: OptimizationEnv) -> str:
    """What makes one field of a query of several, for this problem."""
    places = core.action_space.spaces if isinstance(core.action_space, spaces.Dict) else {}
    if "oracle" in _keywords(core) and "point" in places:
        return "make it with an oracle whose query is one point, such as oracle='gradient'"
    return "no keyword of it makes one of them; a wrapper of yours can"


def _finite(core: OptimizationEnv) -> str:
    """What makes actions finite, for this problem."""
    if "bounds" in _keywords(core):
        return "make it with bounds='domain', or bounds=(low, high)"
    if "point" in core.observation_space.spaces:
        return "it has no bounds=; optenvs.wrappers.Displacement(env, limit=1.0) around it has finite actions"
    return "it has no bounds=; a wrapper of yours can give them"


def _numpy(observation: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {key: value.detach().cpu().numpy().copy() for key, value in observation.items()}
