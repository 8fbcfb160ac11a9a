"""Step-size control: the action is a learning rate, an optimizer inside takes the step.

The observation is a short vector of scale-free numbers, so that a small policy (or Stable-Baselines3) can
be trained on it. The optimizer is handed in as an object with ``init`` and ``act``; its ``schedule`` is
where the rate enters.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, State
from optenvs.core.errors import check_oracles, only_part
from optenvs.core.evaluations import Evaluations, stretched
from optenvs.core.features import EACH, SHARED, control_features, spread, tensor_sizes
from optenvs.core.nested import advance
from optenvs.core.random import Keys, keys_from_seed
from optenvs.core.rollout import agent_keys
from optenvs.core.spaces import box, outside_of
from optenvs.core.struct import struct

from .base import Wrapper, require_fields


@struct
class Control:
    """The wrapper's memory.

    Attributes:
        inner: the episode inside, its ``problem`` left out.
        agent: the optimizer's memory.
        action: the last action, 0 before the first, ``(B, t)``.
        gradient, value: the answer before the last, ``(B, n)`` and ``(B, 1)``.
        first: the first value, ``(B, 1)``.
    """

    inner: State
    agent: Any
    action: Float[Tensor, "B t"]
    gradient: Float[Tensor, "B n"]
    value: Float[Tensor, "B 1"]
    first: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False, kw_only=True)
class StepSizeControl(Wrapper):
    """An optimizer whose learning rate is the action.

    An action a in [-1, 1] means the learning rate ``10 ** (low + (a + 1) / 2 * (high - low))``. Merit,
    reward and ``best`` are those of the points where actions end; ``k`` and ``N`` count actions, the
    ledger queries. A point to which the optimizer goes outside of the bounds of ``env`` earns no credit.

    Args:
        env: an environment with one query field that answers values and gradients, with a budget.
        agent: an optimizer with the hyper-parameters ``lr`` and ``schedule`` (every one of
            ``agents.gradient``), by position.
        per_tensor: one rate for each tensor of the problem's layout (a network's weights and biases)
            instead of one in all.
        low, high: the ends of log10 of the learning rate.
        repeat: how many queries one action lasts.

    Example:
        >>> env = StepSizeControl(optenvs.make("Quadratic", budget=101), agents.SGD())     # doctest: +SKIP
        >>> model = PPO("MultiInputPolicy", SB3VecEnv(env, num_envs=16))                   # doctest: +SKIP
    """

    agent: Any = field(kw_only=False)
    per_tensor: bool = False
    low: float = -4.0
    high: float = 1.0
    repeat: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fields(self.env, "StepSizeControl", "point", "value", "gradient")
        agent = type(self.agent).__name__
        known = {f.name for f in dataclasses.fields(self.agent)} if _is_agent(self.agent) else set()
        if not {"lr", "schedule"} <= known:
            raise TypeError(f"agent: expected an optimizer with lr and schedule, got {agent}")
        check_oracles(agent, getattr(self.agent, "needs", ()), self.env.name, self.env.oracles)
        if self.agent.schedule is not None:
            raise ValueError(f"agent: {agent} has a schedule already: {self.agent.schedule!r}")
        if not -float("inf") < self.low < self.high < float("inf"):
            raise ValueError(f"low, high: expected low < high, got {self.low!r}, {self.high!r}")
        if isinstance(self.repeat, bool) or not isinstance(self.repeat, int) or self.repeat < 1:
            raise ValueError(f"repeat: expected a whole number >= 1, got {self.repeat!r}")
        if self.env.horizon is None:
            raise ValueError(f"env: {self.env.name} needs a budget: the time that is left is observed")
        if self.per_tensor and len(self.sizes) == 1:
            raise ValueError(f"per_tensor: the points of {self.env.name} have no layout of several tensors")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the tensors that have a rate of their own."""
        count = int((self.env.action_space.shape or (1,))[0])
        if not self.per_tensor:
            return (count,)
        instance = self.env.sample(keys_from_seed(0, 1, self.torch_device))
        return tensor_sizes(instance.problem, count)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """What the entries of the observation's ``features`` are."""
        if not self.per_tensor:
            return SHARED + EACH
        return SHARED + tuple(f"{name} {i}" for name in EACH for i in range(len(self.sizes)))

    @property
    def bill(self) -> dict[str, int]:
        return {kind: count * self.repeat for kind, count in self.env.bill.items()}

    @cached_property
    def horizon(self) -> int | None:
        inner = self.env.horizon
        return None if inner is None else -(-inner // self.repeat)

    @property
    def fixed_cost(self) -> bool:
        """Whether an action always lasts ``repeat`` queries: the last one of several may be cut short."""
        return self.repeat == 1 and self.env.fixed_cost

    @property
    def evaluations(self) -> Evaluations:
        return stretched(self.env.evaluations, self.repeat)

    def action_fields(self) -> spaces.Box:
        return box((len(self.sizes),), self.dtype, -1.0, 1.0)

    def observation_fields(self) -> dict[str, spaces.Space]:
        return {"features": box((len(self.feature_names),), self.dtype)}

    def rate(self, action: Float[Tensor, "B t"]) -> Float[Tensor, "B t"]:
        """The learning rates that an action means."""
        return 10.0 ** (self.low + (action + 1) / 2 * (self.high - self.low))

    def sample(self, keys: Keys) -> Instance:
        inner = self.env.reset(keys, evaluate=False)  # the outer episode is measured
        return Instance(
            problem=inner.problem,
            hidden=_keep(inner),
            start=torch.zeros_like(inner.observation["value"]).expand(-1, len(self.sizes)),
            floor=inner.floor,
        )

    def answer(self, state: State, action: Action) -> Answer:
        """The inner answer after ``repeat`` steps of the optimizer; the first query is the inner one."""
        action = only_part(self.name, action)
        before = self.inner(state)
        if isinstance(state.hidden, State):  # no optimizer yet: a new episode
            agent = self.agent.init(before.problem, before.observation, agent_keys(state.key))
            inner, calls, first = before, before.calls.counts, before.observation["value"]
        else:
            inner, agent = self._advance(before, state.hidden.agent, action)
            calls, first = inner.calls.counts - before.calls.counts, state.hidden.first
        control = Control(
            inner=_keep(inner),
            agent=agent,
            action=action,
            gradient=before.observation["gradient"],
            value=before.observation["value"],
            first=first,
        )
        if self.env.fixed_cost:
            time = state.k.to(self.torch_dtype).unsqueeze(-1) / state.observation["N"]
        else:
            time = inner.observation["spent"]
        metrics, outside = dict(inner.metrics), outside_of(self.action_space, action)
        if "outside" in metrics:
            # a merit below the best is of a point outside, told again where the last point has no value
            outside = outside | (metrics.pop("outside") > 0) | (inner.merit < inner.best)
        return Answer(
            observation={"features": self.features(inner.observation, control, time)},
            merit=torch.where(inner.diverged, torch.nan, inner.merit),
            metrics=metrics,
            solved=inner.terminated,
            outside=outside,
            ended=inner.truncated,
            hidden=control,
            calls=dict(zip(self.bill, calls.unbind(-1), strict=True)),
        )

    def _advance(self, inner: State, agent: Any, action: Tensor) -> tuple[State, Any]:
        rate = self.rate(action)
        rate = spread(rate, self.sizes) if self.per_tensor else rate
        # A schedule's factors may be tensors of any shape that broadcasts: this is where the rate enters.
        optimizer = self.agent.replace(lr=1.0, schedule=lambda k, N: rate)
        # nobody asks for a row that is done before the first of these queries
        agent, inner = advance(self.env, optimizer, agent, inner, self.repeat, over=False)
        return inner, agent

    def inner(self, state: State) -> State:
        held = state.hidden if isinstance(state.hidden, State) else state.hidden.inner
        return dataclasses.replace(held, problem=state.problem)

    def evaluate(self, state: State) -> State:
        inner = self.env.evaluate(self.inner(state))
        hidden = dataclasses.replace(state.hidden, inner=_keep(inner))
        return self.measured(state, inner, hidden)

    def features(
        self, seen: dict[str, Tensor], memory: Control, time: Float[Tensor, "B 1"]
    ) -> Float[Tensor, "B F"]:
        """The observation, in the order of :attr:`feature_names`: see :func:`control_features`."""
        before = memory.value, memory.gradient
        return control_features(seen, before, memory.first, time, memory.action, self.sizes)


def _keep(inner: State) -> State:
    # what agents may know has its place in the outer state, and no second one in what is hidden
    return dataclasses.replace(inner, problem=None)


def _is_agent(agent: Any) -> bool:
    return dataclasses.is_dataclass(agent) and hasattr(agent, "init") and hasattr(agent, "act")
