"""Rules of one weight, and meta-problems of one coordinate, for the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import agents
import optenvs
from optenvs.envs.meta.meta_training import MetaTraining

THETA = 0.1


@dataclass(frozen=True, eq=False)
class Descent(agents.Agent):
    """Its weight is the learning rate. From ``broken`` on it moves to what is no number."""

    weights: Tensor | None = None
    broken: float = torch.inf

    needs = ("gradient",)
    size = 1
    flat = torch.tensor([THETA], dtype=torch.float64)

    def init(self, problem: Any, observation: dict[str, Tensor], keys: Tensor) -> Any:
        return {"steps": torch.zeros_like(keys)}

    def act(self, state: Any, observation: dict[str, Tensor]) -> tuple[Tensor, Any]:
        assert self.weights is not None
        rate = self.weights * torch.where(self.weights < self.broken, 1.0, torch.nan)
        return observation["point"] - rate * observation["gradient"], {"steps": state["steps"] + 1}


def made(**keywords: Any) -> MetaTraining:
    """x <- (1 - theta) x from x = 1, with x^2 / 2 for the values, as :class:`Descent` plays it."""
    settings = {
        "tasks": optenvs.make("Quadratic", dim=1, start=(1.0,)),
        "rule": Descent(),
        "held_out_tasks": 1,
        "evaluation_period": None,
        "budget": None,
    }
    env = optenvs.make("MetaTraining", **(settings | keywords))
    assert isinstance(env, MetaTraining)
    return env
