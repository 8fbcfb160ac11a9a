"""The contract: an optimization environment is an oracle, written once as pure batched functions.

An author writes two methods, :meth:`OptimizationEnv.sample` (instances from keys) and
:meth:`OptimizationEnv.answer` (one query), and declares spaces and bill. Everything else is inherited:
ledger, budgets, rewards, termination, the horizon, every face.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from .errors import check_keywords, suggest
from .ledger import Ledger
from .named import named
from .random import Keys
from .rewards import REWARDS, Progress
from .spaces import box
from .struct import replace, struct

Action = Tensor | dict[str, Tensor]
_UNLIMITED = torch.iinfo(torch.int64).max


@struct
class Instance:
    """What a key stands for: the problem, its hidden truth, and the first query.

    Attributes:
        problem: what the agent may know, a struct of tensors with leading dimension ``B``.
        hidden: what it may not (the optimum, held-out data) and the environment's own memory.
        start: the first query, of the form of an action; ``reset`` asks and bills it.
        floor: a lower bound of the merit, ``(B,)``, or ``None`` where none is known.
    """

    problem: Any
    hidden: Any
    start: Action
    floor: Float[Tensor, "B"] | None = None


@struct
class Answer:
    """What the oracle says to one query, and what the environment notes about it.

    Attributes:
        observation: the answer, a dict of tensors with leading dimension ``B``.
        merit: what is minimised, at the recommendation, unbilled and without noise, ``(B,)``.
        metrics: the truth for plots, a dict of tensors ``(B,)``.
        solved: whether the recommendation is within the tolerance, ``(B,)``; ``None`` for never.
        hidden: the environment's next memory; ``None`` leaves it.
        calls: the bill by oracle kind where it differs from :attr:`OptimizationEnv.bill`.
        ended: whether the episode is over for another reason than solution or budget (the environment's own
            clock has run out), ``(B,)``; such an episode is truncated. ``None`` for never.
    """

    observation: dict[str, Tensor]
    merit: Float[Tensor, "B"]
    metrics: dict[str, Tensor]
    solved: Bool[Tensor, "B"] | None = None
    hidden: Any = None
    calls: dict[str, Any] | None = None
    ended: Bool[Tensor, "B"] | None = None


@struct
class State:
    """An episode of ``B`` instances, whole: what a step needs, what the faces show.

    Attributes:
        key: one 64-bit key an instance; all randomness of the episode comes from it.
        k: queries answered since ``reset``; the first query, which ``reset`` asks, is number 0.
        problem, hidden: see :class:`Instance`.
        observation: the last answer, with ``k`` and the horizon ``N``, each ``(B, 1)``.
        reward, terminated, truncated: of the last query; the latter two also mark a finished episode.
        diverged: whether the merit is no finite number; such an episode is truncated.
        calls: the oracle ledger.
        metrics: the truth at the last recommendation; never shown to an agent.
        merit, best: the merit now and the best so far (the worst possible until one is finite).
        floor: see :class:`Instance`.
    """

    key: Keys
    k: Int64[Tensor, "B"]
    problem: Any
    hidden: Any
    observation: dict[str, Tensor]
    reward: Float[Tensor, "B"]
    terminated: Bool[Tensor, "B"]
    truncated: Bool[Tensor, "B"]
    diverged: Bool[Tensor, "B"]
    calls: Ledger
    metrics: dict[str, Tensor]
    merit: Float[Tensor, "B"]
    best: Float[Tensor, "B"]
    floor: Float[Tensor, "B"] | None

    @property
    def done(self) -> Bool[Tensor, "B"]:
        """Whether the episode is over, for either reason."""
        return self.terminated | self.truncated


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimizationEnv(abc.ABC):
    """An optimization problem as an oracle. Configured once; holds no episode.

    Subclasses are frozen dataclasses whose fields are their keywords; these are common to all:

    Args:
        budget: oracle calls an episode may spend: a number of calls of the main oracle, or numbers by
            oracle kind, or ``None`` for no limit. The query that ``reset`` asks is part of it.
        reward: ``improvement`` (decrease of the best merit so far), ``negative_value``,
            ``log_improvement`` (decades of the gap closed), or ``none`` (always 0).
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

    live: ClassVar[tuple[str, ...]] = ("point", "k", "N")
    """Observation keys that are not the oracle's answer: first-order unrolling keeps their gradients."""
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
    def bounded_below(self) -> bool:
        """Whether instances know a lower bound of the merit, which ``log_improvement`` needs."""
        return True

    @property
    def fixed_cost(self) -> bool:
        """Whether every query costs what :attr:`bill` states, so that a budget fixes the number of steps."""
        return True

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

    @abc.abstractmethod
    def action_fields(self) -> spaces.Box | dict[str, spaces.Space]:
        """The space of one query; a dict where a query has several parts."""

    @abc.abstractmethod
    def observation_fields(self) -> dict[str, spaces.Space]:
        """The spaces of one answer, without ``k`` and ``N``."""

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

        Whoever runs the episode calls it at the start and after every :attr:`evaluation_period` queries.
        """
        return state

    @property
    def evaluation_period(self) -> int | None:
        """Queries between two calls of :meth:`evaluate`; ``None`` where there is nothing to measure."""
        return None

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
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype: expected 'float32' or 'float64', got {self.dtype!r}")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise ValueError(f"tolerance: expected a number >= 0 or None, got {self.tolerance!r}")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"device: {self.device!r} cannot be used here ({reason}); device='cpu' always can"
            ) from error
        for kind, limit in self.limits.items():
            if limit < self.bill[kind]:
                raise ValueError(
                    f"budget: {limit} {kind} calls do not pay the first query, which costs {self.bill[kind]}"
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
        if self.budget is None:
            return {}
        main = next(iter(self.bill))
        budget = self.budget if isinstance(self.budget, Mapping) else {main: self.budget}
        for kind, limit in budget.items():
            if kind not in self.bill:
                raise ValueError(f"budget: {self.name} bills no {kind!r}{suggest(kind, self.bill)}")
            if isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1:
                raise ValueError(f"budget: expected a whole number >= 1, got {limit!r} for {kind}")
        return {kind: int(limit) for kind, limit in budget.items()}

    @cached_property
    def horizon(self) -> int | None:
        """``N``: the number of steps after ``reset`` until the budget is spent; ``None`` if unlimited.

        With queries of varying cost, the number at the cost that :attr:`bill` states.
        """
        steps = [-(-limit // self.bill[kind]) - 1 for kind, limit in self.limits.items() if self.bill[kind]]
        return min(steps, default=None)

    @cached_property
    def action_space(self) -> spaces.Space:
        """The space of one instance's action."""
        fields = self.action_fields()
        return spaces.Dict(fields) if isinstance(fields, dict) else fields

    @cached_property
    def observation_space(self) -> spaces.Dict:
        """The space of one instance's observation."""
        time = {key: box((1,), self.dtype, low=0.0) for key in ("k", "N")}
        return spaces.Dict(self.observation_fields() | time)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor, float]:
        kinds = tuple(self.bill)
        device = self.torch_device
        bill = torch.tensor([self.bill[k] for k in kinds], dtype=torch.int64, device=device)
        limits = torch.tensor(
            [self.limits.get(k, _UNLIMITED) for k in kinds], dtype=torch.int64, device=device
        )
        worst = torch.full((1,), torch.inf, dtype=self.torch_dtype, device=device)
        horizon = float("inf") if self.horizon is None else float(self.horizon)
        return bill, limits, worst, horizon

    def reset(self, keys: Keys) -> State:
        """One independent instance a key, and the answer to its first query (billed).

        Args:
            keys: int64 ``(B,)`` on this environment's device, see :func:`optenvs.core.random.keys_from_seed`.
        """
        batch, device, dtype = len(keys), self.torch_device, self.torch_dtype
        _, _, worst, horizon = self._constants
        instance = self.sample(keys)
        infinity = worst.expand(batch)
        zero = torch.zeros(batch, dtype=dtype, device=device)
        no = torch.zeros(batch, dtype=torch.bool, device=device)
        before = State(
            key=keys,
            k=torch.full((batch,), -1, dtype=torch.int64, device=device),
            problem=instance.problem,
            hidden=instance.hidden,
            observation={"N": torch.full((batch, 1), horizon, dtype=dtype, device=device)},
            reward=zero,
            terminated=no,
            truncated=no,
            diverged=no,
            calls=Ledger.empty(tuple(self.bill), batch, device),
            metrics={},
            merit=infinity,
            best=infinity,
            floor=instance.floor,
        )
        # The first answer rewards nobody: there was no decision.
        state = dataclasses.replace(self.step(before, instance.start), reward=zero)
        return self.evaluate(state)

    def step(self, state: State, action: Action) -> State:
        """Ask one query. Pure: the same state and action give the same answer on every call.

        Args:
            state: an episode of ``B`` instances.
            action: the query, ``(B, *shape)`` or a dict of such; its validity is the caller's business
                (the faces check it).

        A row whose merit is not finite is truncated: its episode has diverged. Rows already finished are
        answered and billed like any other; :func:`optenvs.rollout` and the faces do not ask for them.
        """
        bill, limits, worst, _ = self._constants
        k = state.k + 1
        asked = replace(state, k=k)
        answer = self.answer(asked, action)
        calls = state.calls.bill(bill if answer.calls is None else answer.calls)
        finite = answer.merit.abs() < worst  # torch.isfinite takes three times as long
        merit = torch.where(finite, answer.merit, state.merit)
        best = torch.minimum(state.best, merit)
        reward = REWARDS[self.reward](Progress(merit, best, state.best, state.floor))
        diverged = ~finite
        truncated = calls.spent(limits) | diverged if self.limits else diverged
        if answer.ended is not None:
            truncated = truncated | answer.ended
        # a merit of minus infinity is below every tolerance, and still no solution
        solved = torch.zeros_like(finite) if answer.solved is None else answer.solved & finite
        observation = dict(answer.observation)
        observation["k"] = k.to(self.torch_dtype).unsqueeze(-1)
        observation["N"] = state.observation["N"]
        return State(
            key=state.key,
            k=k,
            problem=state.problem,
            hidden=state.hidden if answer.hidden is None else answer.hidden,
            observation=observation,
            reward=reward,
            terminated=solved,
            truncated=truncated,
            diverged=diverged,
            calls=calls,
            metrics=answer.metrics,
            merit=merit,
            best=best,
            floor=state.floor,
        )
