"""What a task of policy search is: a discounted decision process, and the policy whose weights are sought."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.given import check_whole
from optenvs.core.random import Keys
from optenvs.models.trajectories import Policy, Trajectories

Counter = Int64[Tensor, "B"] | None
"""The number of the query whose luck is drawn; ``None`` for luck that never changes."""
Standing = tuple[Tensor, ...]
"""Where trajectories stand: tensors ``(B, N, ...)``, of a task's own form."""


@dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """A task: pure functions of instances ``world``, one a row, and of weights ``x`` ``(B, n)``.

    Args:
        episode_length: H, the most steps of a trajectory.
        discount: g.
        data: the instance that is given, see :attr:`shapes`.
    """

    episode_length: int
    discount: float
    data: Mapping[str, Any] | None = None

    exact: ClassVar[bool] = True
    """Whether J has a closed form: :meth:`value`, :meth:`best` and :meth:`fisher`."""
    ends: ClassVar[bool] = False
    """Whether a trajectory may end before that length."""
    holds: ClassVar[tuple[str, ...]] = ()
    """Which assumptions hold for all weights: ``fisher`` (the Fisher matrix is bounded from below) and
    ``scores`` (the gradient of log pi is bounded)."""
    usual: ClassVar[Mapping[str, Any]] = {}
    """How trajectories are used by default, see :class:`~.search.PolicySearch`."""

    def __post_init__(self) -> None:
        check_whole("episode_length", self.episode_length)
        if isinstance(self.discount, bool) or not 0 < self.discount <= 1:
            raise ValueError(f"discount: expected a number in (0, 1], got {self.discount!r}")

    @cached_property
    def policy(self) -> Policy:
        """The policy."""
        raise NotImplementedError

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The arrays of an instance that can be given."""
        return {}

    @abc.abstractmethod
    def draw(self, keys: Keys, dtype: torch.dtype) -> tuple[Any, Float[Tensor, "B n"]]:
        """One instance a key: the world, tensors ``(B, ...)`` or ``None``, and the first weights."""

    @abc.abstractmethod
    def play(
        self, world: Any, x: Float[Tensor, "B n"], keys: Keys, stream: str, counter: Counter, count: int
    ) -> Trajectories:
        """``count`` trajectories of each row's policy; their luck is that of key, stream and counter."""

    # A trajectory step by step, for walkers that are not the task's own policy: N of each row ---------

    def begin(
        self, world: Any, keys: Keys, stream: str, counter: Counter, count: int, dtype: torch.dtype
    ) -> Standing:
        """Where ``count`` trajectories of each row begin."""
        raise NotImplementedError

    def seen(self, standing: Standing) -> Float[Tensor, "B N s"]:
        """What a policy sees there."""
        raise NotImplementedError

    def step(
        self, world: Any, standing: Standing, action: Tensor, luck: Float[Tensor, "B N"]
    ) -> tuple[Standing, Float[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Where they stand after an action of the policy's form, the reward, and whether they end there.

        ``luck`` are uniform numbers, for tasks that have luck of their own.
        """
        raise NotImplementedError

    def value(self, world: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """J(x), of trajectories that are never cut."""
        raise NotImplementedError

    def best(self, world: Any) -> Float[Tensor, "B"]:
        """The largest J of any weights (the supremum, where none reaches it)."""
        raise NotImplementedError

    def fisher(self, world: Any, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
        """The least eigenvalue of the Fisher matrix, over the discounted distribution of states."""
        raise NotImplementedError

    @property
    def reward_scale(self) -> float:
        """What rewards are multiplied by in the answers, by default."""
        return 1.0

    @property
    def best_return(self) -> float:
        """The largest sum of rewards of a trajectory, where J has no closed form."""
        return math.inf


def check_number(field: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise ``ValueError`` unless ``value`` is a number in (low, high)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and low < value < high):
        where = f"> {low:g}" if high == math.inf else f"in ({low:g}, {high:g})"
        raise ValueError(f"{field}: expected a number {where}, got {value!r}")
