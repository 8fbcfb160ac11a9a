"""The contract: an optimization environment is an oracle, written once as pure batched functions.

An author writes two methods, :meth:`OptimizationEnv.sample` (instances from keys) and
:meth:`OptimizationEnv.answer` (one query), and declares spaces and bill. Everything else is inherited:
ledger, budgets, rewards, termination, the horizon, every face.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Int64
from torch import Tensor

from .configuration import Configuration, configuration
from .constants import Constants, constants_of
from .errors import check_keywords, suggest
from .evaluations import Evaluations, check_evaluations
from .given import is_number
from .ledger import Ledger, limits_of
from .meanings import MEANINGS
from .named import named
from .random import Keys
from .rewards import REWARDS, Progress
from .shown import Shown
from .spaces import box, outside_of
from .state import Action, Answer, Instance, State
from .struct import replace

__all__ = ["Action", "Answer", "Instance", "OptimizationEnv", "State"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimizationEnv(Shown, abc.ABC):
    """An optimization problem as an oracle. Configured once; holds no episode.

    Subclasses are frozen dataclasses whose fields are their keywords; these are common to all:

    Args:
        budget: oracle calls an episode may spend, and never exceeds: a number of calls of the main oracle,
            or numbers by oracle kind, or ``None`` for no limit. The query that ``reset`` asks is part of it.
        reward: ``improvement`` (decrease of the best merit so far), ``negative_value``,
            ``log_improvement`` (decades of the gap closed), ``final_value`` (minus the value at the end of
            the episode, 0 before), or ``none`` (always 0).
        tolerance: a gap at which the episode terminates as solved, or ``None`` for never.
        device: where the tensors live, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``float32`` or ``float64``.

    Raises:
        ValueError: a keyword's value is out of its range; the message names keyword and range.
    """

    budget: int | Mapping[str, int] | None = 10_000
    reward: str = "improvement"
    tolerance: float | None = None
    device: str = "cpu"
    dtype: str = "float32"

    live: ClassVar[tuple[str, ...]] = ("point", "k", "N", "spent")
    """Observation keys that are not the oracle's answer: first-order unrolling keeps their gradients."""
    meanings: ClassVar[Mapping[str, str]] = MEANINGS
    """What each field of observations, actions and metrics means, by its name, or by "metric NAME" where the
    same name means something else there. A class names its own; those of its bases are found, too."""
    painter: ClassVar[str] = "optenvs.core.picture:progress"
    """What draws an episode, ``(env, states) -> picture``, by its place: drawing alone loads matplotlib."""

    # What an author declares -------------------------------------------------------------------

    @property
    def differentiable(self) -> bool:
        """Whether ``step`` carries gradients from the action to observation, reward and metrics."""
        return True

    @property
    def vectorizable(self) -> bool:
        """Whether ``torch.func.vmap`` can run ``step`` (not where a user's numpy function answers)."""
        return True

    @property
    def on_host(self) -> bool:
        """Whether a step computes on the host: numbers leave an accelerator for it; nothing compiles it."""
        return not self.vectorizable

    @property
    def approximate(self) -> tuple[str, ...]:
        """The oracle kinds that are declared approximations: a Hessian of Gauss and Newton, say."""
        return ()

    @property
    def bounded_below(self) -> bool:
        """Whether instances know a lower bound of the merit, which ``log_improvement`` needs."""
        return True

    @property
    def fixed_cost(self) -> bool:
        """Whether every query costs what :attr:`bill` states, so that a budget fixes the number of steps.

        Where it does not, the observation carries ``spent``, and :meth:`answer` keeps within what is
        :meth:`left`: what the rest does not pay is neither answered nor billed.
        """
        return True

    @property
    def measures_merit(self) -> bool:
        """Whether the merit itself is too dear for every step, so that :meth:`evaluate` sets it."""
        return False

    @property
    def ends(self) -> bool:
        """Whether every episode ends by the environment's own clock, whatever the budget."""
        return False

    @property
    @abc.abstractmethod
    def oracles(self) -> tuple[str, ...]:
        """The oracle kinds this configuration answers; agents declare those that they need."""

    @property
    @abc.abstractmethod
    def bill(self) -> dict[str, int]:
        """What one query costs, by oracle kind. The first kind is the main oracle, the budget's unit."""

    @property
    def first_bill(self) -> dict[str, int]:
        """What the query of ``reset`` costs, by oracle kind: the least that a budget must pay."""
        return self.bill

    @property
    def least_bill(self) -> dict[str, int]:
        """The least an answer costs, by oracle kind: the episode ends when a limited one cannot be paid.

        A kind that is not named never ends it by itself.
        """
        return self.bill if self.fixed_cost else {kind: min(cost, 1) for kind, cost in self.bill.items()}

    @abc.abstractmethod
    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        """The space of one query; a dict where a query has several parts."""

    @abc.abstractmethod
    def observation_fields(self) -> dict[str, spaces.Space]:
        """The spaces of one answer, without the :attr:`time_fields`."""

    @abc.abstractmethod
    def sample(self, keys: Keys) -> Instance:
        """One independent instance a key."""

    @abc.abstractmethod
    def answer(self, state: State, action: Action) -> Answer:
        """Answer one query.

        Pure: it reads ``state.problem``, ``hidden``, ``key`` and ``k`` (the number of this query), and it
        changes nothing.
        """

    def evaluate(self, state: State) -> State:
        """Measure what is too dear for every step (held-out accuracy); pure, unbilled.

        Whoever runs the episode calls it at the start and at the :attr:`evaluations`. It changes metrics and
        hidden memory, and with :attr:`measures_merit` merit, best and reward.
        """
        return state

    @property
    def evaluations(self) -> Evaluations:
        """When :meth:`evaluate` is called, besides at the start: ``None`` for never.

        Queries between two calls, or the numbers of the queries that it follows. A family that measures dear
        things has a keyword ``evaluation_period``, ``None`` for the choice of its own that it makes here.
        """
        return getattr(self, "evaluation_period", None)

    def recordable(self, state: State) -> dict[str, Tensor]:
        """What :func:`optenvs.rollout` can record besides the observation, by name, ``(B, ...)`` each."""
        return {}

    def picture(self, states: list[State]) -> np.ndarray:
        """Draw the episode so far (one instance): an image, uint8 ``(height, width, 3)``."""
        return named(self.painter)(self, states)

    # What everyone gets ------------------------------------------------------------------------

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise ValueError(f"reward: got {self.reward!r}{suggest(self.reward, REWARDS)}")
        if self.reward == "log_improvement" and not self.bounded_below:
            raise ValueError(f"reward: log_improvement needs a known lower bound, which {self.name} lacks")
        if self.reward == "final_value" and self.measures_merit:
            raise ValueError(f"reward: final_value needs a merit at each query, which {self.name} lacks")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected 'float32' or 'float64', got {self.dtype!r}")
        if self.tolerance is not None and not (is_number(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"tolerance: expected a number >= 0 or None, got {self.tolerance!r}")
        try:
            torch.empty(0, device=torch.device(self.device))
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"device: {self.device!r} cannot be used here ({reason}); device='cpu' always can"
            ) from error
        check_evaluations(getattr(self, "evaluation_period", None))
        first = self.first_bill
        for kind, limit in self.limits.items():
            if limit < first.get(kind, 0):
                raise ValueError(
                    f"budget: {limit} {kind} calls do not pay the first query, which costs {first[kind]}"
                )

    @property
    def name(self) -> str:
        """The class's name, for messages."""
        return type(self).__name__

    def replace(self, **changes: Any) -> OptimizationEnv:
        """A copy with other keywords."""
        check_keywords(self.name, changes, (f.name for f in dataclasses.fields(self)))
        return dataclasses.replace(self, **changes)

    @cached_property
    def configuration(self) -> Configuration:
        """Class and keywords as text by name; states carry that of the environment that began them."""
        return configuration(self)

    @cached_property
    def torch_dtype(self) -> torch.dtype:
        """The floating dtype of points, values and rewards."""
        return getattr(torch, self.dtype)

    @cached_property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.device)

    @cached_property
    def limits(self) -> dict[str, int]:
        """The budget by oracle kind; empty without a budget."""
        return limits_of(self.name, self.budget, self.bill)

    @cached_property
    def horizon(self) -> int | None:
        """``N``: the number of steps after ``reset`` that the budget pays; ``None`` if unlimited.

        Where cost varies it is the number at the cost that :attr:`bill` states: an episode may well go on.
        """
        steps = [limit // self.bill[kind] - 1 for kind, limit in self.limits.items() if self.bill[kind]]
        least = 0 if self.fixed_cost else 1
        return max(min(steps), least) if steps else None

    @property
    def time_fields(self) -> tuple[str, ...]:
        """Observation fields that every environment has: ``k``, ``N``, and ``spent`` where cost varies.

        ``spent`` is the largest share of a limit that has been used, 0 without a budget.
        """
        return ("k", "N") if self.fixed_cost else ("k", "N", "spent")

    @cached_property
    def action_space(self) -> spaces.Space:
        """The space of one instance's action."""
        fields = self.action_fields()
        return spaces.Dict(fields) if isinstance(fields, dict) else fields

    @cached_property
    def observation_space(self) -> spaces.Dict:
        """The space of one instance's observation."""
        time = {key: box((1,), self.dtype, low=0.0) for key in self.time_fields}
        return spaces.Dict(self.observation_fields() | time)

    @cached_property
    def numbers(self) -> int:
        """Numbers in the largest part of a step for one instance: query, answer, or the work between them.

        Threads are chosen by it, see :mod:`optenvs.core.threads`. An environment whose oracle works through
        more than its query and its answer show (a network and its minibatch) says so here.
        """
        spaces_ = (self.action_space, self.observation_space)
        parts = [p for s in spaces_ for p in (s.values() if isinstance(s, spaces.Dict) else (s,))]
        return max(math.prod(part.shape or (1,)) for part in parts)

    @cached_property
    def _constants(self) -> Constants:
        prices, tensors = (self.bill, self.least_bill, self.limits), (self.torch_dtype, self.torch_device)
        return constants_of(*prices, self.horizon, self.action_space, *tensors)

    def left(self, state: State, kind: str) -> Int64[Tensor, "B"] | None:
        """How many calls of ``kind`` the budget still pays, ``(B,)``; ``None`` where it has no limit."""
        limit = self.limits.get(kind)
        return None if limit is None else limit - state.calls[kind]

    def billed(self, state: State, answer: Answer) -> Ledger:
        """The ledger of ``state`` with the bill of ``answer``."""
        return state.calls.bill(self._constants.bill if answer.calls is None else answer.calls)

    def spent(self, calls: Ledger) -> Float[Tensor, "B 1"]:
        """The largest share of a limit that has been used; 0 without a budget."""
        return (calls.counts * self._constants.share).amax(-1, keepdim=True)

    def reset(self, keys: Keys, evaluate: bool = True) -> State:
        """One independent instance a key, and the answer to its first query (billed).

        Args:
            keys: int64 ``(B,)`` on this environment's device, see :func:`optenvs.core.random.keys_from_seed`.
            evaluate: whether what is dear is measured, see :meth:`evaluate`.
        """
        batch, device, dtype = len(keys), self.torch_device, self.torch_dtype
        constants = self._constants
        instance = self.sample(keys)
        infinity = constants.worst.expand(batch)
        zero = torch.zeros(batch, dtype=dtype, device=device)
        no = torch.zeros(batch, dtype=torch.bool, device=device)
        before = State(
            key=keys,
            k=torch.full((batch,), -1, dtype=torch.int64, device=device),
            problem=instance.problem,
            hidden=instance.hidden,
            observation={"N": torch.full((batch, 1), constants.horizon, dtype=dtype, device=device)},
            reward=zero,
            terminated=no,
            truncated=no,
            diverged=no,
            calls=Ledger.empty(tuple(self.bill), batch, device),
            metrics={},
            merit=infinity,
            best=infinity,
            floor=instance.floor,
            origin=self.configuration,
        )
        # The first answer rewards nobody: there was no decision.
        state = self.step(before, instance.start)
        return replace(self.evaluate(state) if evaluate else state, reward=zero)

    def step(self, state: State, action: Action) -> State:
        """Ask one query. Pure: the same state and action give the same answer on every call.

        Args:
            state: an episode of ``B`` instances.
            action: the query, ``(B, *shape)`` or a dict of such; its validity is the caller's business
                (the faces check it).

        A row whose merit is not finite is truncated: its episode has diverged, unless the answer says that
        the point is infeasible. That, and a recommendation outside of the action's bounds, is answered and
        billed and earns no credit: neither best, nor reward, nor solved; the metric ``outside`` tells of the
        latter. Rows already finished are answered and billed like any other; :func:`optenvs.rollout` and the
        faces do not ask for them.
        """
        constants = self._constants
        k = state.k + 1
        answer = self.answer(replace(state, k=k), action)
        calls = self.billed(state, answer)
        finite = answer.merit.abs() < constants.worst  # torch.isfinite takes three times as long
        merit = torch.where(finite, answer.merit, state.merit)
        counted, solved, metrics = merit, answer.solved, answer.metrics
        if constants.bounded:
            outside = outside_of(self.action_space, action) if answer.outside is None else answer.outside
            # of a merit that is no number the one before is told, which may be that of a point outside
            counted = torch.where(outside | ~finite, torch.maximum(merit, state.best), merit)
            solved = None if solved is None else solved & ~outside
            metrics = {"outside": outside.to(merit.dtype)} | metrics
        best = torch.minimum(state.best, counted)
        diverged = ~finite if answer.infeasible is None else ~finite & ~answer.infeasible
        truncated = calls.spent(constants.over) | diverged if constants.finite else diverged
        if answer.ended is not None:
            truncated = truncated | answer.ended
        # a merit of minus infinity is below every tolerance, and still no solution
        terminated = torch.zeros_like(finite) if solved is None else solved & finite
        over = terminated | truncated if self.reward == "final_value" else None
        reward = REWARDS[self.reward](Progress(counted, best, state.best, state.floor, over))
        if answer.infeasible is not None:  # a first feasible point improves on nothing
            reward = torch.where(reward.abs() < constants.worst, reward, 0.0)
        observation = dict(answer.observation)
        observation["k"] = k.to(self.torch_dtype).unsqueeze(-1)
        observation["N"] = state.observation["N"]
        if not self.fixed_cost:
            observation["spent"] = self.spent(calls)
        return State(
            key=state.key,
            k=k,
            problem=state.problem,
            hidden=state.hidden if answer.hidden is None else answer.hidden,
            observation=observation,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            diverged=diverged,
            calls=calls,
            metrics=metrics,
            merit=merit,
            best=best,
            floor=state.floor,
            origin=state.origin,
        )
