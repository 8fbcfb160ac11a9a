"""Methods that go through stages: each asks some kinds, and the answer takes a row to its next stage.

Double loops are of this form: a stage of steps below, one that asks the upper slope, one of products. Each
row has its own stage, so that solves of different lengths run side by side.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.offer import ANSWERED, Offer
from optenvs.core.oracles import inside_transform
from optenvs.core.random import Keys
from optenvs.core.struct import replace, select, static, struct

from ..core import Agent, Observation, require
from ._levels import by_stage, require_numbers

Stage = Callable[[Any, Observation], Any]
"""What an answer makes of a memory, with the next stage in it."""


@struct
class StagedState:
    """What all of these agents remember.

    Attributes:
        x, y: the upper variable and the lower one that is recommended, ``(B, n)`` and ``(B, m)``.
        j: steps of the loop that it is in, ``(B,)``.
        stage: where a row is, ``(B,)``.
        settings: the agent's numbers by name, ``(B, 1)`` each.
        geometry: the problem's.
        work: ``projections``.
        finished: rows whose budget does not pay what they want, ``(B,)``.
        offer: what can be asked.
    """

    x: Float[Tensor, "B n"]
    y: Float[Tensor, "B m"]
    j: Int64[Tensor, "B"]
    stage: Int64[Tensor, "B"]
    settings: dict[str, Float[Tensor, "B 1"]]
    geometry: Any
    work: Ledger
    finished: Bool[Tensor, "B"]
    offer: Offer = static()


class Staged(Agent):
    """An agent whose memory is a :class:`StagedState`.

    In stage 0 nothing has been asked; in stage i what ``asks[i - 1]`` names, but for kinds of constraints
    where there are none. A row that is not answered all of that has no budget left for it: it stays where it
    is, and is finished.
    """

    asks: ClassVar[tuple[tuple[str, ...], ...]]

    @abc.abstractmethod
    def stages(self) -> Sequence[Stage]:
        """What is done with the answer to each of ``asks``."""

    def begin(self, state: Any) -> Any:
        """The memory in its first stage after 0."""
        return replace(state, stage=torch.ones_like(state.stage))

    @abc.abstractmethod
    def places(self, state: Any) -> dict[str, Tensor]:
        """Where it asks now."""

    def act(self, state: Any, observation: Observation) -> tuple[Action, Any]:
        stages = (lambda memory, _: self.begin(memory), *self.stages())
        moved = by_stage(state.stage, *(lambda f=stage: f(state, observation) for stage in stages))
        answered, told = observation[ANSWERED] > 0, torch.ones_like(state.finished)
        for kind, wanted in self._wanted(state).items():
            told = told & (answered[:, state.offer.kinds.index(kind)] | ~wanted)
        looked = told.device.type == "cpu" and not inside_transform(told)
        if not (looked and bool(told.all())):
            moved = select(told, moved, state)
        after = replace(moved, finished=state.finished | ~told)
        return after.offer.query(self._wanted(after), **self.places(after)), after

    def _wanted(self, state: Any) -> dict[str, Bool[Tensor, "B"]]:
        """By kind, the rows that want it in their stage."""
        wanted: dict[str, Tensor] = {}
        for i, kinds in enumerate(self.asks):
            here = state.stage == i + 1
            for kind in kinds:
                if kind in state.offer.kinds:
                    wanted[kind] = wanted[kind] | here if kind in wanted else here
        return wanted


def beginning(
    keys: Keys, problem: Any, settings: dict[str, Float[Tensor, "B 1"]], x: Tensor, y: Tensor
) -> dict[str, Any]:
    """The fields of :class:`StagedState` before anything is asked, with x projected onto X."""
    none = torch.zeros_like(keys)
    work = Ledger.empty(("projections",), len(keys), keys.device).bill({"projections": 1})
    return {
        "x": problem.geometry.upper(x),
        "y": y,
        "j": none,
        "stage": none,
        "settings": settings,
        "geometry": problem.geometry,
        "work": work,
        "finished": none > 0,
        "offer": problem.menu,
    }


def to_stage(now: Bool[Tensor, "B"], stage: int, otherwise: int | Int64[Tensor, "B"]) -> Int64[Tensor, "B"]:
    """``stage`` in the rows where ``now`` holds."""
    return torch.where(now, torch.full_like(now, stage, dtype=torch.int64), otherwise)


def in_rows(rows: Bool[Tensor, "B"], yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` in these rows, ``no`` elsewhere."""
    return torch.where(rows.unsqueeze(-1), yes, no)


def require_positive(agent: Agent, *fields: str, none: tuple[str, ...] = ()) -> None:
    """Raise ``ValueError`` unless these are finite numbers > 0, or ``None`` where that is allowed."""
    for field in fields:
        holds = field in none
        require_numbers(agent, field, lambda v: (v > 0) & v.isfinite(), "a finite number > 0", none=holds)


def require_whole(agent: Agent, *fields: str, least: int = 1) -> None:
    """Raise ``ValueError`` unless these are whole numbers of at least so much."""
    for field in fields:
        value = getattr(agent, field)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        require(agent, field, whole, f"a whole number >= {least}")
