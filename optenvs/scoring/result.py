"""What :func:`optenvs.score` has found: courses, speed-ups, failures and bills; a table, a plot, a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from optenvs.core.sealed import read_tensors, write_tensors

from .normaliser import AdamSteps, smooth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = "optenvs-score-1"
_COLUMNS = ("task", "speed-up", "loss", "Adam's loss", "failed", "calls", "seconds")
_OTHER = "#D55E00"  # of Adam, in plots
_TENSORS = ("losses", "failed", "envelope")


@dataclass(frozen=True, eq=False)
class Course:
    """One shape class.

    Attributes:
        task: its name.
        losses: what counts after 0 .. T queries on each of K instances, ``(T + 1, K)``, see
            :func:`optenvs.scoring.normaliser.counted`.
        failed: which instances diverged or ended worse than they began, ``(K,)``.
        scale: tuned Adam.
        calls: oracle calls of all instances together, by kind, the first answers among them.
        seconds: of agent and oracle, for all instances at once.
        work: what the agent has counted itself, by kind, see :mod:`optenvs.core.work`.
    """

    task: str
    losses: Float64[Tensor, "T1 K"]
    failed: Bool[Tensor, "K"]
    scale: AdamSteps
    calls: dict[str, int]
    seconds: float
    work: dict[str, int] = field(default_factory=dict)

    @property
    def curve(self) -> Float64[Tensor, "T1"]:
        """The learning curve: the mean over instances, smoothed as Adam's is."""
        return smooth(self.losses.mean(1))

    @property
    def adam_steps(self) -> Float64[Tensor, "T1"]:
        """How many steps tuned Adam needs for each loss of the curve."""
        return self.scale.steps(self.curve)

    @property
    def adam(self) -> Float64[Tensor, "T1"]:
        """The loss of tuned Adam after as many steps."""
        return self.scale.at(torch.arange(len(self.losses), dtype=torch.float64))

    @property
    def speedups(self) -> Float64[Tensor, "T"]:
        """Steps that tuned Adam needs for each step of this one, after 1 .. T steps."""
        return self.adam_steps[1:] / torch.arange(1, len(self.losses), dtype=torch.float64)

    @property
    def speedup(self) -> float:
        """The last of them."""
        return self.speedups[-1].item()

    @property
    def beyond(self) -> bool:
        """Whether the last loss is lower than Adam's table goes, so that the speed-up is a lower bound."""
        return bool(self.scale.beyond(self.curve[-1]))


@dataclass(frozen=True, eq=False)
class Score:
    """An agent on a split.

    ``print(score)`` is its table. A speed-up of 2 means that tuned Adam needs twice as many steps for the
    loss that the agent ends with; 1 is tuned Adam, 0 no progress.

    Attributes:
        agent: its name.
        split: the split's.
        steps: queries after the first, T.
        courses: of each shape class.
    """

    agent: str
    split: str
    steps: int
    courses: tuple[Course, ...]

    @property
    def speedups(self) -> Float64[Tensor, "T"]:
        """The mean over shape classes, after 1 .. T steps."""
        return torch.stack([course.speedups for course in self.courses]).mean(0)

    @property
    def speedup(self) -> float:
        """The score: the last of :attr:`speedups`."""
        return self.speedups[-1].item()

    @property
    def beyond(self) -> bool:
        """Whether the score is a lower bound."""
        return any(course.beyond for course in self.courses)

    @property
    def failure_rate(self) -> float:
        """The share of all instances that diverged or ended worse than they began."""
        return torch.cat([course.failed for course in self.courses]).double().mean().item()

    @property
    def calls(self) -> dict[str, int]:
        """Oracle calls in all, by kind."""
        return _added([course.calls for course in self.courses])

    @property
    def work(self) -> dict[str, int]:
        """What the agent has counted itself in all, by kind."""
        return _added([course.work for course in self.courses])

    @property
    def seconds(self) -> float:
        """Of agent and oracle in all; of the evaluation nothing."""
        return sum(course.seconds for course in self.courses)

    def rows(self) -> list[dict[str, Any]]:
        """The table as data: a row for each shape class, then one of all."""
        found: list[dict[str, Any]] = []
        for course in self.courses:
            loss, adam = course.curve[-1].item(), course.adam[-1].item()
            shares = (int(course.failed.sum()), len(course.failed))
            found.append(_row(course.task, course, loss, adam, shares))
        failed = sum(row["failed"] for row in found), sum(row["instances"] for row in found)
        return [*found, _row("all", self, None, None, failed)]

    def table(self) -> str:
        """The table as text; ``>`` before a speed-up that is a lower bound."""
        head = f"{self.agent} on {self.split}, {self.steps} steps\n"
        return head + _aligned([_COLUMNS, *(_cells(row) for row in self.rows())])

    __str__ = table

    def __repr__(self) -> str:
        return f"Score({self.agent!r}, {self.split!r}, steps={self.steps}, speedup={self.speedup:.3f})"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Learning curves beside tuned Adam's, and the speed-up; written to ``path``, too, if given.

        Raises:
            ImportError: matplotlib is not installed (extra ``plot``).
        """
        from optenvs.core.picture import new_figure

        count = len(self.courses) + 1
        columns = min(count, 3)
        height = -(-count // columns)
        figure = new_figure(3.4 * columns, 2.8 * height)
        panels = figure.subplots(height, columns, squeeze=False).ravel().tolist()
        for axes, course in zip(panels, self.courses, strict=False):
            axes.plot(course.adam, color=_OTHER, linestyle="--", label="Adam, tuned at every step")
            axes.plot(course.curve, label=self.agent.replace("$", r"\$"))
            if min(course.adam.min(), course.curve.min()) > 0:
                axes.set_yscale("log")
            axes.set_title(course.task, fontsize=8)
            axes.set(xlabel="steps", ylabel="loss")
        last = panels[len(self.courses)]
        last.axhline(1, color=_OTHER, linestyle="--")
        for course in self.courses:
            last.plot(range(1, self.steps + 1), course.speedups, linewidth=0.8, alpha=0.5)
        last.plot(range(1, self.steps + 1), self.speedups, color="black", label="mean")
        last.set_title(f"{self.speedup:.2f}", fontsize=8)
        last.set(xlabel="steps", ylabel="speed-up over Adam")
        for axes in panels[count:]:
            axes.remove()
        for axes in panels[:count]:
            axes.grid(alpha=0.3)
        panels[0].legend(fontsize=7)
        if path is not None:
            figure.savefig(path)
        return figure

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to one file (safetensors) under a checksum, atomically."""
        tensors, told = {}, []
        for number, course in enumerate(self.courses):
            kept = (course.losses, course.failed, course.scale.envelope)
            tensors |= {f"{number}.{name}": x.clone() for name, x in zip(_TENSORS, kept, strict=True)}
            said = {"task": course.task, "calls": course.calls, "work": course.work}
            told.append(said | {"seconds": course.seconds, "length": course.scale.length})
        metadata = {"format": _FORMAT, "agent": self.agent, "split": self.split, "steps": str(self.steps)}
        return write_tensors(path, tensors, metadata | {"courses": json.dumps(told)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Score:
        """The score that :meth:`save` wrote.

        Raises:
            ValueError: the file is damaged, or holds something else. FileNotFoundError: there is none.
        """
        try:
            metadata, tensors = read_tensors(path, _FORMAT)
            courses = []
            for number, told in enumerate(json.loads(metadata["courses"])):
                losses, failed, envelope = (tensors[f"{number}.{name}"] for name in _TENSORS)
                scale = AdamSteps(envelope, told.pop("length"))
                courses.append(Course(losses=losses, failed=failed, scale=scale, **told))
            return cls(metadata["agent"], metadata["split"], int(metadata["steps"]), tuple(courses))
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path}: not a readable score ({error})") from error


def side_by_side(scores: Sequence[Score]) -> str:
    """Scores on one split as a table, an agent a row, a shape class a column.

    Raises:
        ValueError: they are of different splits, or steps, or there are none.
    """
    if len({(score.split, score.steps, *(c.task for c in score.courses)) for score in scores}) != 1:
        told = ", ".join(f"{score.agent}: {score.split}, {score.steps} steps" for score in scores)
        raise ValueError(f"scores: expected some of one split and as many steps, got {told or 'none'}")
    head = ["agent", *(course.task for course in scores[0].courses), "all", "failed", "calls", "seconds"]
    lines = [head]
    for score in scores:
        rows = score.rows()
        cells = [_bounded(row) for row in rows]
        lines.append([score.agent, *cells, *_cells(rows[-1])[4:]])
    return _aligned(lines)


def _added(parts: list[dict[str, int]]) -> dict[str, int]:
    kinds = dict.fromkeys(kind for part in parts for kind in part)
    return {kind: sum(part.get(kind, 0) for part in parts) for kind in kinds}


def _row(
    task: str, of: Course | Score, loss: float | None, adam: float | None, failed: tuple[int, int]
) -> dict[str, Any]:
    return {
        "task": task, "speedup": of.speedup, "beyond": of.beyond, "loss": loss, "adam": adam,
        "failed": failed[0], "instances": failed[1], "calls": of.calls, "seconds": of.seconds,
    }  # fmt: skip


def _bounded(row: dict[str, Any]) -> str:
    return f"{'> ' if row['beyond'] else ''}{row['speedup']:.2f}"


def _cells(row: dict[str, Any]) -> list[str]:
    losses = ["" if row[name] is None else f"{row[name]:.3g}" for name in ("loss", "adam")]
    kind, count = next(iter(row["calls"].items()))
    bill = f"{count:,} {kind}"
    failed = f"{row['failed']}/{row['instances']}"
    return [row["task"], _bounded(row), *losses, failed, bill, f"{row['seconds']:.2f}"]


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first from the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )
