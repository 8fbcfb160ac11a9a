"""LV-HBA on the functions of a problem: the environment's step without its bill and its metrics."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from optenvs.core.random import keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.envs.bilevel.base import Bilevel


class Course:
    """Iterations of an agent from given starts, one a row."""

    def __init__(self, env: Bilevel, agent: Any, x: Tensor, y: Tensor) -> None:
        self.env, self.agent = env, agent
        keys = keys_from_seed(0, len(x))
        state = env.reset(keys)
        self.own, self.offer = env.own(state), env.card.offer
        self.memory = agent.init(state.problem, state.observation | {"x": x, "y": y}, agent_keys(keys))
        self.seen = dict(state.observation)

    def __call__(self, iterations: int) -> Any:
        """The memory after so many more."""
        for _ in range(2 * iterations):
            self._ask()
        # the last answer is read by the next act
        return self.agent.act(self.memory, self.seen)[1]

    def _ask(self) -> None:
        action, self.memory = self.agent.act(self.memory, self.seen)
        x, y, inner = action["x"], action["y"], action["inner"]
        wanted = {k for k, w in zip(self.offer.kinds, action["want"][0].tolist(), strict=True) if w}
        if "upper_gradient" in wanted:
            self.seen["upper_gradient"] = self.env.upper_slope(self.own, x, y)[1]
            self.seen["lower_gradient"] = self.env.lower_slope(self.own, x, y)[1]
        self.seen["inner_gradient"] = self.env.lower_slope(self.own, x, inner)[1]
        g, pulled = self.env.pull(self.own, x, inner, action["inner_multipliers"])
        self.seen |= {"inner_constraints": g, "inner_pullback": pulled}
