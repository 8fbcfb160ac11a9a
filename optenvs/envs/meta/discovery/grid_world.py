"""Grid worlds to walk in: a plain Gymnasium environment, and many of them at once, over one dynamics.

No oracle: an action is a move, the observation what a walker sees, the reward what it has collected. It is
what the learners of ``optenvs/Discovery-v0`` live in (:mod:`optenvs.dynamics.grid`), for whoever wants to
train there with an algorithm of their own, Stable-Baselines3's say.

    env = gym.make("optenvs/GridWorld-v0", level="small", level_seed=3)
    many = gym.make_vec("optenvs/GridWorld-v0", num_envs=64, level="all")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Int64
from torch import Tensor

from optenvs.core.random import Keys, as_seed, fold_in, keys_from_seed, uniform
from optenvs.core.struct import select
from optenvs.dynamics import grid
from optenvs.dynamics.grid import ACTIONS, Level, Workers
from optenvs.dynamics.grid_levels import Levels, find_levels
from optenvs.dynamics.grid_picture import paint, write
from optenvs.dynamics.grid_value import optimum

VIEWS = ("maps", "one_hot")
_DTYPE = torch.float32


class Walks:
    """Episodes of walkers on levels of a distribution, one walker a row; what the two environments share.

    Args:
        level, view, level_seed: see :class:`GridWorld`.
    """

    def __init__(self, level: str | Levels | Mapping[str, Any], view: str, level_seed: int | None) -> None:
        if view not in VIEWS:
            raise ValueError(f"view: expected {' or '.join(VIEWS)}, got {view!r}")
        self.levels = find_levels(level)
        if view == "one_hot" and self.levels.roam:
            raise ValueError("view: one_hot numbers states of fixed objects, those of this level roam")
        self.view = view
        self.level_seed = None if level_seed is None else as_seed(level_seed)
        size = self.levels.states if view == "one_hot" else self.levels.room * (self.levels.kinds + 1)
        high = np.ones(size + 1, np.float32)
        high[-1] = max(1.0, grid.TIME * self.levels.longest)
        self.observation_space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self.level: Level
        self.workers: Workers
        self.keys: Keys

    def begin(self, keys: Keys) -> None:
        """New episodes of these keys."""
        self.keys, (self.level, self.workers) = keys, self._made(keys)

    def again(self, over: Bool[Tensor, "B"], keys: Keys) -> None:
        """New episodes of these keys in some rows."""
        fresh = (keys, *self._made(keys))
        self.keys, self.level, self.workers = select(over, fresh, (self.keys, self.level, self.workers))

    def _made(self, keys: Keys) -> tuple[Level, Workers]:
        own = keys
        if self.level_seed is not None:
            own = keys_from_seed(self.level_seed, 1).expand(len(keys))
        level = self.levels.draw(own, _DTYPE)
        place = uniform(keys, "grid first places", (1, level.slots)) if self.levels.roam else None
        return level, grid.begin(level, 1, place)

    def step(self, actions: Int64[Tensor, "B"]) -> tuple[Tensor, Tensor, Tensor]:
        """Reward, whether the episode is over, and whether that is for want of time; ``(B,)`` each."""
        time = self.workers.time[:, 0]
        luck = grid.draw_luck(self.keys, self.level, 1, 1, time).by_step()[0]
        self.workers, step = grid.step(self.level, self.workers, actions.unsqueeze(1), luck)
        late = self.workers.time[:, 0] >= self.level.max_steps
        return step.reward[:, 0], step.over[:, 0], late

    def seen(self) -> np.ndarray:
        """What the walkers see, float32 ``(B, s)``."""
        if self.view == "one_hot":
            shown = grid.one_hot(self.level, self.workers)
        else:
            shown = grid.maps(self.level, self.workers, self.levels.kinds)
        return shown[:, 0].numpy()


class GridWorld(gym.Env):
    """A walker in a grid world collects good objects and shuns bad ones; see :mod:`optenvs.dynamics.grid`.

    ``terminated``: what was collected has ended the episode. ``truncated``: ``max_steps`` are over, whatever
    else the last step brought. ``reset(options={"instance": key})`` meets an episode's luck and level again;
    ``info["key"]`` names it.

    The observation ends with 0.001 times the time.

    Args:
        level: a name of :data:`optenvs.dynamics.grid_levels.LEVELS` (``small``, ``all``, ``dense``, ...), a
            table of its keywords beside ``base``, such a name, or the distribution itself.
        view: what a walker sees: ``maps`` (of itself, and of each type of object), or ``one_hot``, the
            number of the state as a unit vector, where no objects roam.
        level_seed: a seed whose first level all episodes have; ``None``: each episode draws its own.
        render_mode: ``rgb_array`` or ``ansi``, or ``None``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        level: str | Levels | Mapping[str, Any] = "small",
        view: str = "maps",
        level_seed: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        _check_mode(render_mode, self.metadata)
        self.walks = Walks(level, view, level_seed)
        self.render_mode = render_mode
        self.observation_space = self.walks.observation_space
        self.action_space = spaces.Discrete(ACTIONS)
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: of the seed, of ``options["instance"]``, or the next."""
        super().reset(seed=seed)
        key = (options or {}).get("instance")
        if key is not None:
            keys = torch.tensor([key], dtype=torch.int64)
        else:
            drawn = as_seed(seed) if seed is not None else int(self.np_random.integers(1 << 62))
            keys = keys_from_seed(drawn, 1)
        self.walks.begin(keys)
        self._over = False
        return self.walks.seen()[0], self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move: 0 up, 1 down, 2 left, 3 right, 4 stay."""
        if self._over:
            raise gym.error.ResetNeeded("step: the episode is over; reset begins the next")
        if not self.action_space.contains(action):
            raise gym.error.InvalidAction(f"action: expected a whole number of 0 to 4, got {action!r}")
        reward, over, late = self.walks.step(torch.tensor([int(action)]))
        self._over, late_ = bool(over[0]), bool(late[0])
        return self.walks.seen()[0], float(reward[0]), self._over and not late_, late_, self._info()

    def _info(self) -> dict[str, Any]:
        return {"key": int(self.walks.keys[0]), "max_steps": int(self.walks.level.max_steps[0])}

    def optimum(self) -> float:
        """The greatest expected return of an episode on this level, by dynamic programming.

        Raises:
            ValueError: its objects roam.
        """
        return float(optimum(self.walks.level, int(self.walks.level.max_steps[0]))[0])

    def render(self) -> Any:
        """The grid as an image or as text."""
        if self.render_mode is None:
            return None
        return (paint if self.render_mode == "rgb_array" else write)(self.walks.level, self.walks.workers)


class GridWorldVector(VectorEnv):
    """Many walkers at once, one level each; numpy in and out. Row i of a seed is its instance i.

    Args:
        num_envs: walkers.
        level, view, level_seed, render_mode: see :class:`GridWorld`; all rows are drawn.
        autoreset_mode: of Gymnasium's: a finished row begins again with the next step, or with the same.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        level: str | Levels | Mapping[str, Any] = "small",
        view: str = "maps",
        level_seed: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        _check_mode(render_mode, self.metadata)
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs: expected a whole number >= 1, got {num_envs!r}")
        self.walks = Walks(level, view, level_seed)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.mode = AutoresetMode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.mode}
        self.single_observation_space = self.walks.observation_space
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self._over = torch.ones(num_envs, dtype=torch.bool)
        self._first: Keys | None = None
        self._episode = torch.zeros(num_envs, dtype=torch.int64)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all episodes, or, by ``options["reset_mask"]`` ``(num_envs,)``, those of some rows.

        Raises:
            ValueError: a mask of another shape or kind, or another number of seeds.
        """
        mask = (options or {}).get("reset_mask")
        rows = None if mask is None else self._rows(mask)
        several = isinstance(seed, list | tuple)
        seeds = None if seed is None else [as_seed(one) for one in (seed if several else [seed])]
        if several and seeds is not None and len(seeds) != self.num_envs:
            raise ValueError(f"seed: expected a number or {self.num_envs} of them, got {len(seeds)}")
        if rows is not None and self._first is not None and seeds is None:
            self._renew(rows)
            return self.walks.seen(), self._info()
        super().reset(seed=None if seeds is None else seeds[0])
        if several and seeds is not None:
            keys = torch.cat([keys_from_seed(one, 1) for one in seeds])
        else:
            drawn = int(self.np_random.integers(1 << 62)) if seeds is None else seeds[0]
            keys = keys_from_seed(drawn, self.num_envs)
        if rows is not None and self._first is not None:
            self._first = torch.where(rows, keys, self._first)
            self._episode = self._episode.masked_fill(rows, 0)
            self._over = self._over & ~rows
            self.walks.again(rows, keys)
            return self.walks.seen(), self._info()
        self._first, self._episode = keys, torch.zeros_like(keys)
        self._over = torch.zeros(self.num_envs, dtype=torch.bool)
        self.walks.begin(keys)
        return self.walks.seen(), self._info()

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move all walkers."""
        if self._first is None:
            raise gym.error.ResetNeeded("step: no episode has begun; reset begins them")
        moves = np.asarray(actions)
        wrong = moves.shape != (self.num_envs,) or moves.dtype.kind not in "iu"
        if wrong or ((moves < 0) | (moves >= ACTIONS)).any():
            raise gym.error.InvalidAction(
                f"actions: expected {self.num_envs} whole numbers of 0 to 4, got {actions!r}"
            )
        finished = self._over
        if self.mode is AutoresetMode.DISABLED and bool(finished.any()):
            raise gym.error.ResetNeeded('step: an episode is over; reset(options={"reset_mask": ...})')
        reward, over, late = self.walks.step(torch.from_numpy(moves.astype(np.int64)))
        if bool(finished.any()):  # their step is the beginning of the next episode
            self._renew(finished)
            reward, over, late = (torch.where(finished, 0, part) for part in (reward, over, late))
        over, late = over.bool(), late.bool()
        info: dict[str, Any] = {}
        self._over = over
        if self.mode is AutoresetMode.SAME_STEP and bool(over.any()):
            info = {"final_obs": self.walks.seen(), "_final_obs": over.numpy().copy()}
            self._renew(over)
        info |= self._info()
        return self.walks.seen(), reward.numpy(), (over & ~late).numpy(), late.numpy(), info

    def _rows(self, mask: Any) -> Bool[Tensor, "B"]:
        found = np.asarray(mask)
        if found.shape != (self.num_envs,) or found.dtype != np.bool_:
            raise ValueError(
                f"reset_mask: expected {self.num_envs} booleans, got {found.dtype} of shape {found.shape}"
            )
        return torch.from_numpy(found.copy())

    def _renew(self, rows: Bool[Tensor, "B"]) -> None:
        """The next episodes of these rows."""
        assert self._first is not None
        self._episode = self._episode + rows
        self.walks.again(rows, fold_in(self._first, self._episode))
        self._over = self._over & ~rows

    def _info(self) -> dict[str, Any]:
        return {"key": self.walks.keys.numpy().copy(), "max_steps": self.walks.level.max_steps.numpy().copy()}

    def optimum(self) -> np.ndarray:
        """The greatest expected return of an episode on each row's level, ``(B,)``."""
        return optimum(self.walks.level, self.walks.levels.longest).numpy()

    def render(self) -> Any:
        """All grids, as a tuple of images or texts."""
        if self.render_mode is None:
            return None
        draw = paint if self.render_mode == "rgb_array" else write
        return tuple(draw(self.walks.level, self.walks.workers, row) for row in range(self.num_envs))


def _check_mode(mode: str | None, metadata: Mapping[str, Any]) -> None:
    if mode is not None and mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode: expected {metadata['render_modes']} or None, got {mode!r}")
