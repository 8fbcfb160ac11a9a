"""REINFORCE with rewards to go (Williams 1992; GPOMDP, Baxter and Bartlett 2001), and its baselines.

    theta_{t+1} = theta_t + gamma_t mean over trajectories of sum_h (psi_h - b_h) grad log pi(a_h | s_h)

The agent is told trajectories, and computes from them: what psi_h is, the problem says. A baseline is 0
(``none``), the mean of psi over all steps of all trajectories (``mean``), over all trajectories at each step
(``time``, ended ones counting as 0), or ``linear``: least squares of psi on what was seen, its square and
powers of the time, fitted to the trajectories before these, so that it biases nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.models.trajectories import Trajectories

from ..core import Observation, require
from ._ascent import Ascent, Climb, Estimate

BASELINES = ("none", "mean", "time", "linear")
_RIDGE = 1e-5
_CLOCK = 100.0  # steps, in whose units the linear baseline sees the time


@dataclass(frozen=True, eq=False)
class Reinforce(Ascent):
    """Plain policy gradient from trajectories.

    Args:
        baseline: ``none``, ``mean``, ``time`` or ``linear``.
    """

    lr: float | Float[Tensor, "B"] = 0.01
    power: float = 0.0
    normalise: bool = False
    baseline: str = "none"

    needs = ("trajectory",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "baseline", self.baseline in BASELINES, f"one of {', '.join(BASELINES)}")

    def init(self, problem: Any, observation: Observation, keys: Tensor) -> Climb:
        state = super().init(problem, observation, keys)
        if self.baseline != "linear":
            return state
        features = 2 * problem.estimator.policy.model.shape[0] + 4
        return dataclasses.replace(state, own=state.x.new_zeros(len(state.x), features))

    def estimate(self, state: Climb, seen: Observation) -> Estimate:
        played = state.problem.unpacked(seen["trajectory"])
        estimator = dataclasses.replace(state.problem.estimator, baseline="none")
        credits = estimator.credits(played.rewards)
        level, own = self._level(credits, played, state.own)
        return Estimate(estimator.ascent(state.x, played, credits - level), own)

    def _level(self, credits: Tensor, played: Trajectories, own: Any) -> tuple[Tensor, Any]:
        if self.baseline == "none":
            return torch.zeros_like(credits), own
        if self.baseline == "time":
            return credits.mean(1, keepdim=True).expand_as(credits), own
        mask = played.mask.to(credits)
        if self.baseline == "mean":
            return ((mask * credits).sum((1, 2)) / mask.sum((1, 2)))[:, None, None], own
        shown = _features(played) * mask.unsqueeze(-1)
        level = (shown @ own[:, None, :, None]).squeeze(-1)
        rows, target = shown.flatten(1, 2), (mask * credits).flatten(1).unsqueeze(-1)
        square = rows.mT @ rows
        ridge = _RIDGE * torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
        return level, torch.linalg.solve_ex(square + ridge, rows.mT @ target)[0].squeeze(-1)


def _features(played: Trajectories) -> Float[Tensor, "B N H f"]:
    """What was seen, its square, and the powers 0 to 3 of the time."""
    time = torch.arange(played.rewards.shape[-1], device=played.rewards.device).to(played.rewards) / _CLOCK
    clock = torch.stack([time**i for i in range(4)], -1).expand(*played.rewards.shape, 4)
    return torch.cat((played.states, played.states.square(), clock), -1)
