"""A policy search without luck, for the tests of agents: a quadratic hill, whose every answer is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optenvs.core import Instance, State
from optenvs.core.menu import Judgement, Kind, MenuEnv, Query
from optenvs.core.random import Keys, normal
from optenvs.envs.policy.parts import Problem
from optenvs.models import Estimator, Gaussian, Linear, Trajectories


@dataclass(frozen=True, eq=False, kw_only=True)
class Hill(MenuEnv):
    """J(x) = -(x - a)'diag(curvature)(x - a) / 2.

    Its four trajectories are of one step, by a policy N(x, I) with the luck +-sqrt(2) e_i, which makes the
    gradient from them exact, and its Fisher matrix I.

    Args:
        noise: standard deviation of what is added to the luck and to the gradients.
    """

    noise: float = 0.0
    curvature: tuple[float, float] = (1.0, 1 / 3)

    first = ("policy_gradient",)
    unit = "trajectories"

    def places(self) -> dict[str, Any]:
        return {"x": (2,), "second": (2,), "vector": (2,), "recommendation": (2,)}

    def menu(self) -> dict[str, Kind]:
        one = {"trajectories": 1}

        def pair(state: State, query: Query) -> Tensor:
            return query.once("slopes", lambda: slopes(state, query))

        def slopes(state: State, query: Query) -> Tensor:
            both = [self.slope(state, query[place]) for place in ("x", "second")]
            return (
                torch.stack(both, 1)
                + self.noise * normal(state.key, "g", 2, state.k, self.torch_dtype)[:, None]
            )

        def bend(state: State, query: Query) -> Tensor:
            return -self.bent(query["vector"])

        return {
            "policy_gradient": Kind((2,), lambda s, q: pair(s, q)[:, 0], ("x",), one),
            "product": Kind((2,), bend, ("second", "vector"), one),
            "causal_product": Kind((2,), bend, ("second", "vector"), one),
            "pair": Kind((2, 2), pair, ("x", "second"), one),
            "trajectory": Kind((4, 1, 5), self.played, ("x",), one),
        }

    def bent(self, x: Tensor) -> Tensor:
        return x * torch.tensor(self.curvature, dtype=x.dtype, device=x.device)

    def slope(self, state: State, x: Tensor) -> Tensor:
        return -self.bent(x - state.hidden)

    def height(self, state: State, x: Tensor) -> Tensor:
        away = x - state.hidden.reshape(len(x), *[1] * (x.ndim - 2), 2)
        return -(away * self.bent(away)).sum(-1) / 2

    def played(self, state: State, query: Query) -> Tensor:
        axes = 2**0.5 * torch.eye(2, dtype=self.torch_dtype, device=state.key.device)
        luck = torch.cat((axes, -axes)) + self.noise * normal(
            state.key, "luck", (4, 2), state.k, self.torch_dtype
        )
        actions = (query["x"].unsqueeze(1) + luck).unsqueeze(2)
        rewards = self.height(state, actions)
        ones = torch.ones_like(rewards)
        return Trajectories(ones.unsqueeze(-1), actions, rewards, ones > 0).packed()

    def sample(self, keys: Keys) -> Instance:
        top = normal(keys, "top", 2, dtype=self.torch_dtype)
        zero = torch.zeros_like(top)
        problem = Problem(
            menu=self.card.offer,
            estimator=Estimator(Gaussian(Linear((1,), 2), 1.0), 1.0),
            episode_length=1,
            trajectories=4,
            product_trajectories=4,
            holds=("fisher",),
        )
        start = self.card.start(x=zero, second=zero, recommendation=zero)
        return Instance(problem=problem, hidden=top, start=start, floor=torch.zeros_like(top[:, 0]))

    def judge(self, state: State, query: Query) -> Judgement:
        gap = -self.height(state, query["recommendation"])
        return Judgement(gap, {"gap": gap})

    def recordable(self, state: State) -> dict[str, Tensor]:
        return {"point": state.observation["recommendation"]}
