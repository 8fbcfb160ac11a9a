"""A learner's life of one state, for the tests of agents: what a policy with a table earns is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.random import Keys, uniform
from optenvs.core.spaces import box
from optenvs.envs.meta.discovery.learner import act
from optenvs.envs.meta.discovery.lifetime import Known


@dataclass(frozen=True, eq=False, kw_only=True)
class Lesson(OptimizationEnv):
    """Five moves from the only state, each of which ends the episode: one earns 1, the others less than 0.

    The luck of the workers is spread evenly over [0, 1), so that what they do is nearly what the policy says.
    Rates steer exact gradient ascent.

    Args:
        query: ``policy``, or ``rates``.
        noise: how far the luck is moved at most, in the distance of two workers.
    """

    query: str = "policy"
    workers: int = 16
    noise: float = 0.0

    @property
    def ends(self) -> bool:
        return True

    @property
    def oracles(self) -> tuple[str, ...]:
        return ("rollout", self.query)

    @property
    def bill(self) -> dict[str, int]:
        return {"interactions": self.workers, "rollout": 1, self.query: 1}

    def action_fields(self) -> Any:
        return box((5, 2) if self.query == "policy" else (1,), self.dtype)

    def observation_fields(self) -> dict[str, Any]:
        grid, ends = (1, self.workers), (2, self.workers)
        shapes: dict[str, tuple[int, ...]] = {"return": (1,), "features": (3,)}
        shapes |= dict.fromkeys(("reward", "over", "done"), grid) | dict.fromkeys(("state", "time"), ends)
        return {name: box(shape, self.dtype) for name, shape in shapes.items()}

    def sample(self, keys: Keys) -> Instance:
        rewards = -uniform(keys, "rewards", 5, dtype=self.torch_dtype)
        rewards = torch.where(rewards == rewards.amax(-1, keepdim=True), 1.0, rewards)
        table = rewards.new_zeros(len(keys), 5, 2)
        problem = Known(
            query=self.query,
            rates=("actor_rate",) if self.query == "rates" else (),
            states=2,
            steps=self.workers,
        )
        start = table if self.query == "policy" else rewards[:, :1] * 0
        return Instance(problem, (rewards, table), start, floor=torch.zeros_like(rewards[:, 0]))

    def answer(self, state: State, action: Action) -> Answer:
        rewards, table = state.hidden
        if self.query == "policy":
            table = action
        else:
            shares = table[:, :, 0].softmax(-1)
            slope = shares * (rewards - (shares * rewards).sum(-1, keepdim=True))
            step = 400 * 10**action * slope * (state.k > 0).unsqueeze(-1)
            table = table + torch.stack((step, torch.zeros_like(step)), -1)
        shares = table[:, :, 0].softmax(-1)
        earned = (shares * rewards).sum(-1)
        gap = rewards.amax(-1) - earned
        moved = self.noise * (uniform(state.key, "luck", 1, state.k, self.torch_dtype) - 0.5)
        even = (torch.arange(self.workers, device=table.device) + 0.5 + moved) / self.workers
        done = act(table[:, :, :1].expand(-1, -1, self.workers), even)
        won = rewards.gather(1, done).unsqueeze(1)
        nothing = torch.zeros_like(torch.cat((won, won), 1))
        share = (state.k / 1000).to(won).unsqueeze(-1)
        features = torch.cat((share, torch.full_like(share, 1000 * self.workers).log(), share * 0), -1)
        observation = {
            "return": won.mean(-1),
            "features": features,
            "reward": won,
            "over": torch.ones_like(won),
            "done": done.unsqueeze(1).to(won),
            "state": nothing,
            "time": nothing,
        }
        return Answer(observation, gap, {"gap": gap}, hidden=(rewards, table))

    def recordable(self, state: State) -> dict[str, Tensor]:
        return {"point": state.hidden[1].flatten(1)}
