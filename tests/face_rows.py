"""A batch whose rows end at different times, and the same rows as single environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import optenvs
from optenvs.core.random import keys_from_seed
from optenvs.faces.seeding import Episodes
from optenvs.faces.single import FaceState, GymEnv

ROWS, STEPS = 4, 17
DIM = 2
# bowls of unequal depth: with this tolerance rows are solved at different times, others run out of budget
PROBLEM: dict[str, Any] = {"dim": DIM, "spectrum": "random", "tolerance": 0.3, "budget": 6, "shift": 0.5}


def core(**keywords: Any) -> Any:
    return optenvs.make("Quadratic", **(PROBLEM | keywords))


def actions(seed: int = 0) -> Tensor:
    return 0.7 * torch.from_numpy(np.random.default_rng(seed).normal(size=(STEPS, ROWS, DIM))).float()


def row(observation: dict[str, Any], i: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(value[i]) for name, value in observation.items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.allclose(one[name], other[name], rtol=1e-5, atol=1e-6) for name in one
    )


def singles(seed: int = 0) -> tuple[list[GymEnv], list[dict[str, np.ndarray]]]:
    """One Gymnasium environment a row, each at its row's instance and place in the sequence of episodes."""
    envs, shown = [], []
    for base in keys_from_seed(seed, ROWS).split(1):
        env = GymEnv(core())
        state = env.core.reset(base)
        env.set_state(FaceState(state=state, episodes=Episodes(base=base, count=torch.zeros_like(base))))
        envs.append(env)
        shown.append(row(state.observation, 0))
    return envs, shown
