"""The agent's side of the contract: two pure methods over a batch.

An agent sees ``problem`` and ``observation`` only and never imports an environment. One object solves ``B``
instances at once; what differs between them is masked, not branched on.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.errors import check_keywords
from optenvs.core.random import Keys
from optenvs.core.shown import Shown, shown

Observation = dict[str, Tensor]
Schedule = Callable[[Tensor, Tensor], Tensor]
"""A learning-rate factor ``(B, 1)`` of the step ``k`` and the horizon ``N``, ``(B, 1)`` each; a factor
``(B, n)`` gives every coordinate a rate of its own."""


@dataclass(frozen=True, eq=False)
class Agent(Shown, abc.ABC):
    """An optimization algorithm. Subclasses are frozen dataclasses of hyper-parameters.

    ``needs`` names the oracle kinds without which the agent cannot run; of ``value|ranking`` either will do.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[tuple[str, ...]] = ()
    """What of a problem it can do with, where not all agents of its kind can: see ``agents.spec.TAKES``."""

    together: ClassVar[bool] = False
    """Whether it moves the agents of a problem of many together, and cannot run as each of them by itself."""

    on_host: ClassVar[bool] = False
    """Whether ``act`` computes on the host: it looks at numbers, which an accelerator must send back for
    it, and nothing compiles it. Agents that do not say so look at nothing in ``act``."""

    adapts: ClassVar[str] = ""
    """Of an adapter, the field with what it adapts: another one goes on with no memory of it."""

    @abc.abstractmethod
    def init(self, problem: Any, observation: Observation, keys: Keys) -> Any:
        """The agent's memory before its first action: a struct of tensors with leading dimension ``B``."""

    @abc.abstractmethod
    def act(self, state: Any, observation: Observation) -> tuple[Action, Any]:
        """The next query and the next memory. Pure: neither argument is changed."""

    def replace(self, **changes: Any) -> Agent:
        """A copy with other hyper-parameters.

        Raises:
            UnknownKeyword: the agent has no such hyper-parameter.
        """
        check_keywords(type(self).__name__, changes, (f.name for f in dataclasses.fields(self)))
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, eq=False)
class GradientAgent(Agent):
    """What all first-order agents share.

    Args:
        lr: the learning rate: a number, or a tensor ``(B,)`` with one for each instance (a whole grid of
            rates then runs as one batch).
        schedule: a factor on it as a function of ``(k, N)``, see ``agents.schedules``.
    """

    lr: float | Float[Tensor, "B"] = 1e-3
    schedule: Schedule | None = None

    needs: ClassVar[tuple[str, ...]] = ("gradient",)

    def __post_init__(self) -> None:
        require(self, "lr", torch.all(torch.as_tensor(self.lr) > 0), "a number > 0")

    def rate(self, observation: Observation) -> float | Float[Tensor, "B _"]:
        """The learning rate now: a plain number where it is one (then kernels can fuse it)."""
        rate: Any = by_row("lr", self.lr, observation["point"])
        if self.schedule is not None:
            rate = rate * self.schedule(*clock(observation))
        return rate


def by_row(field: str, value: Any, like: Float[Tensor, "B *shape"]) -> Any:
    """A hyper-parameter beside the rows of ``like``: a plain number as it is, a tensor as ``(B, 1)``.

    It gets the device of ``like``, and no wider dtype.

    Raises:
        ValueError: a tensor that holds neither one number nor one for each instance.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape not in ((), (1,), (len(like),)):
        raise ValueError(
            f"{field}: expected a number, or a tensor (B,) of one an instance, B = {len(like)} here, "
            f"got one of shape {tuple(value.shape)}"
        )
    return value.to(like).reshape(-1, 1)


def each_row(field: str, value: Any, like: Float[Tensor, "B *shape"]) -> Float[Tensor, "B 1 1"]:
    """The same, a number too, for the nodes of each instance.

    Raises:
        ValueError: as :func:`by_row`.
    """
    rows = torch.as_tensor(by_row(field, value, like), dtype=like.dtype, device=like.device)
    return rows.flatten().expand(len(like)).reshape(-1, 1, 1)


def clock(observation: Observation) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
    """The step ``k`` and the horizon ``N`` for a schedule, ``(B, 1)`` each.

    Where queries differ in cost the horizon is not known: it is the one at which the budget would be spent if
    it went on as so far, so that ``k / N`` is the share that has been used.
    """
    k, horizon = observation["k"], observation["N"]
    if "spent" not in observation:
        return k, horizon
    spent = observation["spent"]
    return k, torch.where((spent > 0) & (k > 0), k / spent, horizon)


def require(agent: Agent, field: str, condition: Any, expected: str) -> None:
    """Raise ``ValueError`` naming agent, field and value unless ``condition`` holds."""
    if not bool(condition):
        raise ValueError(
            f"{type(agent).__name__}: {field}: expected {expected}, got {shown(getattr(agent, field))}"
        )
