"""Meta-losses: what the values of an episode come to, over a window of it or a whole lifetime.

Every value goes through the task's normaliser first: it is cut off, and what is no number, with an episode
that has diverged, is the worst value there is. So it is counted, and never dropped. Values are those after
each step, f(x_1) .. f(x_N).

    average, sum             of the values
    last                     f(x_N)
    minimum                  the least value
    recomputed_last          f(x_N) on fresh data, where the task has data
    log_average, ...         the logarithm of any of these

A window's terms add up to its loss. ``average`` is the mean over the turns in which the row played;
``last``, ``minimum`` and ``recomputed_last`` are terms of the turn in which an episode ends. Logarithms are
those of the terms: of each value in an average of a window, and of the mean in that of a lifetime.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import OptimizationEnv
from optenvs.core.errors import suggest
from optenvs.core.nested import Window
from optenvs.core.stepper import unset
from optenvs.core.struct import struct

from .fresh import FRESH, VALIDATION

KINDS = ("average", "sum", "last", "minimum", "recomputed_last")
META_LOSSES = (*KINDS, *(f"log_{kind}" for kind in KINDS))
NORMALISERS = ("task", "none", "classification", "parametric")
WORST = 1e6
"""The worst value where no normaliser knows one."""
_LEAST = 1e-30  # where a logarithm stops


@dataclass(frozen=True)
class Normaliser:
    """``scale * (clip(value, low, high) - offset)``; what is no number counts as ``high``."""

    low: float
    high: float
    scale: float = 1.0
    offset: float = 0.0

    @property
    def worst(self) -> float:
        """The worst value."""
        return self.scale * (self.high - self.offset)

    def __call__(self, value: Tensor) -> Tensor:
        known = value.nan_to_num(nan=self.high).clamp(self.low, self.high)
        return known if (self.scale, self.offset) == (1.0, 0.0) else self.scale * (known - self.offset)


def normaliser_of(name: str, worst: float | None, task: OptimizationEnv) -> Normaliser:
    """The normaliser of a name, for a task.

    Args:
        name: ``none``: values within ``worst`` of 0; ``classification``: cut at 0 and 1.5 log C;
            ``parametric``: 10 (cut at 0 and log 2C, less log(C / 5)) / log C, both of Metz et al. (2022);
            ``task``: ``classification`` for networks with cross-entropy, ``none`` for all else.
        worst: see ``name``; ``None`` for :data:`WORST`.
        task: whose classes count.

    Raises:
        ValueError: an unknown name, a task without classes, or a ``worst`` beside its own.
    """
    if name not in NORMALISERS:
        raise ValueError(f"normaliser: got {name!r}{suggest(name, NORMALISERS)}")
    if worst is not None and not 0 < worst < math.inf:
        raise ValueError(f"worst: expected a number > 0 or None, got {worst!r}")
    classes = _classes(task)
    chosen = ("classification" if classes else "none") if name == "task" else name
    if chosen == "none":
        most = WORST if worst is None else worst
        return Normaliser(-most, most)
    if worst is not None:
        raise ValueError(f"worst: {worst!r} would have no effect beside normaliser={chosen!r}")
    if not classes:
        raise ValueError(f"normaliser: {name!r} needs a task with classes, {task.name} has none")
    if chosen == "classification":
        return Normaliser(0.0, 1.5 * math.log(classes))
    return Normaliser(0.0, math.log(2 * classes), 10 / math.log(classes), math.log(classes / 5))


def _classes(task: Any) -> int:
    """The number of classes of a task with cross-entropy; 0 for any other."""
    inside = getattr(task, "unwrapped", task)
    if getattr(inside, "loss", None) != "cross_entropy":
        return 0
    return int(getattr(getattr(inside, "network", None), "classes", 0))


@struct
class Tally:
    """A lifetime so far, ``(R,)`` each: sum, number and least of its values, and the last."""

    total: Float[Tensor, "R"]
    count: Float[Tensor, "R"]
    least: Float[Tensor, "R"]
    last: Float[Tensor, "R"]

    @staticmethod
    def begin(like: Float[Tensor, "R"]) -> Tally:
        """Before the first value."""
        zero = torch.zeros_like(like)
        return Tally(total=zero, count=zero, least=zero + torch.inf, last=zero)


@dataclass(frozen=True)
class MetaLoss:
    """A meta-loss by name, of a task.

    Attributes:
        name: one of :data:`META_LOSSES`.
        normaliser: of the task.
        validation: whether values are of data that the task does not train on.
    """

    name: str
    normaliser: Normaliser
    validation: bool = False

    def __post_init__(self) -> None:
        if self.name not in META_LOSSES:
            raise ValueError(f"meta_loss: got {self.name!r}{suggest(self.name, META_LOSSES)}")
        if self.logarithm and self.normaliser.offset:
            raise ValueError(f"meta_loss: {self.name} needs values > 0, which this normaliser gives not")

    @property
    def logarithm(self) -> bool:
        """Whether it is a logarithm."""
        return self.name.startswith("log_")

    @property
    def kind(self) -> str:
        """Its name without the logarithm."""
        return self.name.removeprefix("log_")

    @property
    def needs(self) -> tuple[str, ...]:
        """What tasks must tell besides their value, see :mod:`.fresh`."""
        told = (VALIDATION,) if self.validation else ()
        return (*told, FRESH) if self.kind == "recomputed_last" else told

    @property
    def worst(self) -> float:
        """Of a lifetime that diverges at once, but for a sum."""
        return math.log(max(self.normaliser.worst, _LEAST)) if self.logarithm else self.normaliser.worst

    def values(self, window: Window, fresh: bool = False) -> Float[Tensor, "W R"]:
        """The normalised values of the turns; ``fresh`` for those on fresh data."""
        name = FRESH if fresh else VALIDATION if self.validation else None
        raw = window.merit if name is None else window.metrics[name]
        values = self.normaliser(raw)
        fell = window.diverged
        return values if unset(fell) else torch.where(fell, self.normaliser.worst, values)

    def terms(
        self, window: Window, least: Float[Tensor, "R"]
    ) -> tuple[Float[Tensor, "W R"], Float[Tensor, "R"]]:
        """The terms of a window's loss, and the least value of the present episodes so far.

        Args:
            window: what happened.
            least: as it was before the window; infinite at first.
        """
        if self.kind == "recomputed_last":
            return self._masked(self.values(window, fresh=True), window.alive & window.over), least
        values = self.values(window)
        if self.kind == "last":
            return self._masked(values, window.alive & window.over), least
        if self.kind == "minimum":
            course = []
            for value, born, alive in zip(values, window.born, window.alive, strict=True):
                before = torch.where(born, torch.inf, least)
                least = torch.where(alive, torch.minimum(before, value), before)
                course.append(least)
            return self._masked(torch.stack(course), window.alive & window.over), least
        told = self._masked(values, window.alive)
        if self.kind == "average":
            told = told / window.alive.sum(0).clamp_min(1)
        return told, least

    def _masked(self, values: Tensor, mask: Bool[Tensor, "W R"]) -> Tensor:
        known = self._log(values)
        return known if unset(~mask) else torch.where(mask, known, 0.0)

    def _log(self, values: Tensor) -> Tensor:
        return torch.log(values.clamp_min(_LEAST)) if self.logarithm else values

    def tallied(self, tally: Tally, window: Window) -> Tally:
        """The tally with the values of a window; no episode begins in it."""
        values, alive = self.values(window), window.alive
        finite = torch.where(alive, values, torch.inf)
        last = tally.last
        for value, played in zip(values, alive, strict=True):
            last = torch.where(played, value, last)
        return Tally(
            total=tally.total + torch.where(alive, values, 0.0).sum(0),
            count=tally.count + alive.sum(0),
            least=torch.minimum(tally.least, finite.amin(0)),
            last=last,
        )

    def result(
        self,
        tally: Tally,
        length: Float[Tensor, "R"],
        diverged: Bool[Tensor, "R"],
        fresh: Float[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "R"]:
        """The loss of lifetimes; the steps that one which diverged has not played have the worst value.

        Args:
            tally: of the whole lifetime.
            length: its steps.
            diverged: whether it has diverged.
            fresh: the last point's value on fresh data.
        """
        worst = self.normaliser.worst
        missed = torch.where(diverged, (length - tally.count).clamp_min(0), 0.0)
        total = tally.total + worst * missed
        if self.kind == "sum":
            found = total
        elif self.kind == "average":
            found = total / (tally.count + missed).clamp_min(1)
        elif self.kind == "last":
            found = tally.last
        elif self.kind == "minimum":
            found = torch.where(tally.least < torch.inf, tally.least, worst)
        else:
            assert fresh is not None
            found = torch.where(diverged, worst, self.normaliser(fresh))
        return self._log(found)
