"""What all wrappers share: an environment made of another one, within the contract.

A wrapper is an :class:`~optenvs.core.OptimizationEnv` itself: it samples what the environment inside
samples and answers what that answers, in other words. Ledger, budgets, rewards and every face are
inherited as by any environment, and wrappers nest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from optenvs.core.env import Action, Answer, Instance, OptimizationEnv, State
from optenvs.core.evaluations import Evaluations
from optenvs.core.problems import as_problem
from optenvs.core.random import Keys
from optenvs.core.struct import struct

_COMMON = ("budget", "reward", "tolerance", "device", "dtype")
Observation = dict[str, Tensor]


@struct
class Wrapped:
    """``hidden`` of a wrapper's state.

    Attributes:
        hidden: the inner environment's own.
        observation: its last answer, in its words.
        problem: what it lets agents know, where the wrapper says it in other words; else ``None``.
        memory: the wrapper's, or ``None``.
    """

    hidden: Any
    observation: Observation
    problem: Any
    memory: Any


@dataclass(frozen=True, eq=False, kw_only=True)
class Wrapper(OptimizationEnv):
    """An environment seen differently. A subclass overrides what it changes and nothing else.

    Args:
        env: the environment inside, or what stands for it: an id, or what ``gym.make`` made
            (:func:`optenvs.core.problems.as_problem`). Its keywords (``budget``, ``device``, ...) stay its
            own; :meth:`replace` reaches through to them.
    """

    env: OptimizationEnv = field(kw_only=False)
    budget: Any = field(init=False, repr=False)
    reward: str = field(init=False, repr=False)
    tolerance: float | None = field(init=False, repr=False)
    device: str = field(init=False, repr=False)
    dtype: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", as_problem(self.env))
        for name in _COMMON:  # the inner constructor has checked them
            object.__setattr__(self, name, getattr(self.env, name))

    # What a wrapper may change -----------------------------------------------------------------

    def begin(self, keys: Keys, instance: Instance) -> Any:
        """The wrapper's memory before the first query; ``None`` without one."""
        return None

    def first(self, start: Action, memory: Any) -> Action:
        """The action that means the inner first query ``start``."""
        return start

    def query(self, action: Action, memory: Any) -> Action:
        """The inner query that ``action`` means."""
        return action

    def remember(self, memory: Any, action: Action, seen: Observation) -> Any:
        """The memory after ``action``, which the inner answer ``seen`` followed."""
        return memory

    def show(self, seen: Observation, problem: Any, memory: Any) -> Observation:
        """What the agent sees of the inner answer ``seen`` (with ``k``, ``N``); ``problem`` is the inner."""
        return seen

    def know(self, problem: Any, memory: Any) -> Any:
        """What the agent may know of the instance."""
        return problem

    # What passes through -----------------------------------------------------------------------

    @property
    def live(self) -> tuple[str, ...]:  # type: ignore[override]
        """Observation keys that first-order unrolling keeps the gradients of."""
        return self.env.live

    @property
    def differentiable(self) -> bool:
        return self.env.differentiable

    @property
    def vectorizable(self) -> bool:
        return self.env.vectorizable

    @property
    def approximate(self) -> tuple[str, ...]:
        return self.env.approximate

    @property
    def bounded_below(self) -> bool:
        return self.env.bounded_below

    @property
    def oracles(self) -> tuple[str, ...]:
        return self.env.oracles

    @property
    def bill(self) -> dict[str, int]:
        return self.env.bill

    @property
    def fixed_cost(self) -> bool:
        return self.env.fixed_cost

    @property
    def ends(self) -> bool:
        return self.env.ends

    @property
    def first_bill(self) -> dict[str, int]:
        return self.env.first_bill

    @property
    def least_bill(self) -> dict[str, int]:
        return self.env.least_bill

    @property
    def measures_merit(self) -> bool:
        return self.env.measures_merit

    @property
    def evaluations(self) -> Evaluations:
        return self.env.evaluations

    @cached_property
    def limits(self) -> dict[str, int]:
        return self.env.limits

    @cached_property
    def numbers(self) -> int:
        return max(super().numbers, self.env.numbers)

    @cached_property
    def horizon(self) -> int | None:
        return self.env.horizon

    @property
    def name(self) -> str:
        """The wrapper's name around the inner one."""
        return f"{type(self).__name__}({self.env.name})"

    @property
    def unwrapped(self) -> OptimizationEnv:
        """The environment inside all wrappers."""
        return self.env.unwrapped if isinstance(self.env, Wrapper) else self.env

    def inner(self, state: State) -> State:
        """The episode ``state`` as the environment inside has it."""
        held: Wrapped = state.hidden
        time = {name: state.observation[name] for name in self.time_fields if name in state.observation}
        return dataclasses.replace(
            state,
            problem=state.problem if held.problem is None else held.problem,
            hidden=held.hidden,
            observation=held.observation | time,
        )

    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        return self.env.action_fields()

    def observation_fields(self) -> dict[str, spaces.Space]:
        return self.env.observation_fields()

    def replace(self, **changes: Any) -> OptimizationEnv:
        """A copy with other keywords: the wrapper's own, or those of the environment inside."""
        own = {f.name for f in dataclasses.fields(self) if f.init}
        inside = {name: value for name, value in changes.items() if name not in own}
        mine = {name: value for name, value in changes.items() if name in own}
        if inside:
            mine["env"] = mine.get("env", self.env).replace(**inside)
        return dataclasses.replace(self, **mine)

    def sample(self, keys: Keys) -> Instance:
        instance = self.env.sample(keys)
        memory = self.begin(keys, instance)
        problem = self.know(instance.problem, memory)
        kept = None if problem is instance.problem else instance.problem
        return dataclasses.replace(
            instance,
            problem=problem,
            hidden=Wrapped(hidden=instance.hidden, observation={}, problem=kept, memory=memory),
            start=self.first(instance.start, memory),
        )

    def answer(self, state: State, action: Action) -> Answer:
        held: Wrapped = state.hidden
        inner = self.inner(state)
        answer = self.env.answer(inner, self.query(action, held.memory))
        seen = answer.observation | self._time(state, answer)
        memory = self.remember(held.memory, action, seen)
        return dataclasses.replace(
            answer,
            observation=self.show(seen, inner.problem, memory),
            hidden=Wrapped(
                hidden=held.hidden if answer.hidden is None else answer.hidden,
                observation=answer.observation,
                problem=held.problem,
                memory=memory,
            ),
        )

    def _time(self, state: State, answer: Answer) -> Observation:
        """The fields that tell the time, as they will be after ``answer``."""
        time = {"k": state.k.to(self.torch_dtype).unsqueeze(-1), "N": state.observation["N"]}
        return time if self.fixed_cost else time | {"spent": self.spent(self.billed(state, answer))}

    def evaluate(self, state: State) -> State:
        inner = self.env.evaluate(self.inner(state))
        return self.measured(state, inner, dataclasses.replace(state.hidden, hidden=inner.hidden))

    def measured(self, state: State, inner: State, hidden: Any) -> State:
        """``state`` with what the evaluation of the episode ``inner`` has set."""
        told = ("merit", "best", "reward") if self.measures_merit else ()
        known = {name: getattr(inner, name) for name in told}
        # whether a point lies outside is known already, by the wrapper's own bounds too
        measured = {name: value for name, value in inner.metrics.items() if name != "outside"}
        return dataclasses.replace(state, hidden=hidden, metrics=state.metrics | measured, **known)

    def recordable(self, state: State) -> dict[str, Tensor]:
        return self.env.recordable(self.inner(state))

    def picture(self, states: list[State]) -> np.ndarray:
        return self.env.picture([self.inner(state) for state in states])


def require_fields(env: OptimizationEnv, wrapper: str, *names: str) -> None:
    """Raise ``TypeError`` unless the action is one Box and every one of ``names`` is observed."""
    if not isinstance(env.action_space, spaces.Box):
        raise TypeError(f"{wrapper}: needs one query field, {env.name} has {env.action_space}")
    seen = env.observation_space.spaces
    missing = [name for name in names if name not in seen]
    if missing:
        raise TypeError(f"{wrapper}: {env.name} answers no {missing[0]!r}; it answers {', '.join(seen)}")
