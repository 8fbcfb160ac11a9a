"""The limited-memory BFGS method (Liu, Nocedal 1989) with a search for the strong Wolfe conditions.

    d = -W g, with W made of the last pairs s = x+ - x, y = g+ - g, and B^-1
    x <- x + t d by a line search; t = 1 is tried first (min(1, 1 / ||g||_*) without pairs)

One query is one trial, value and gradient, in every row at its own stage. A pair is skipped where
<s, y> <= tiny |s| |y|, as rounding and flat functions make them. Where a search ends without its second
condition the least value that it has seen is taken; where there is none, W begins anew, and without pairs the
row has finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys
from optenvs.core.struct import select, struct

from ..asking import Notes
from ..core import Agent, Observation, require
from ._forms import ask, begin, read
from ._metric import Metric, dot
from ._pairs import Pairs
from ._trial import check_patience
from ._wolfe import Line


@struct
class LBFGSState:
    """The memory of L-BFGS.

    Attributes:
        notes: the answers so far.
        metric: B.
        point, gradient: of the iterate, ``(B, n)``.
        value: its value, ``(B,)``.
        direction: d, ``(B, n)``.
        line: the search along it.
        lowest: the gradient at the line's lower end, ``(B, n)``.
        pairs: s and y.
        trying: whether the last query was a trial, ``(B,)``.
        finished: ``(B,)``.
        work: trials judged, steps accepted, pairs skipped.
    """

    notes: Notes
    metric: Metric
    point: Float[Tensor, "B n"]
    gradient: Float[Tensor, "B n"]
    value: Float[Tensor, "B"]
    direction: Float[Tensor, "B n"]
    line: Line
    lowest: Float[Tensor, "B n"]
    pairs: Pairs
    trying: Bool[Tensor, "B"]
    finished: Bool[Tensor, "B"]
    work: Ledger


@dataclass(frozen=True, eq=False)
class LBFGS(Agent):
    """Quasi-Newton steps by the last pairs.

    Args:
        pairs: how many are kept.
        decrease, slope: the factors of the Wolfe conditions, 0 < decrease < slope < 1.
        tiny: below this share of |s| |y| a pair's <s, y> is skipped.
        patience: the most trials of one line search.
        gtol: the dual norm of the gradient at which a row has finished.
    """

    pairs: int = 10
    decrease: float = 1e-4
    slope: float = 0.9
    tiny: float = 1e-10
    patience: int = 20
    gtol: float = 0.0

    needs = ("value", "gradient")

    def __post_init__(self) -> None:
        check_patience(self, "pairs")
        require(self, "decrease", 0 < self.decrease < 1, "a number in (0, 1)")
        require(self, "slope", self.decrease < self.slope < 1, "a number in (decrease, 1)")
        require(self, "tiny", self.tiny >= 0, "a number >= 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LBFGSState:
        notes = begin(self, problem, observation)
        x, value, none = observation["point"], notes["value"].squeeze(-1), torch.zeros_like(notes.refused)
        metric, definite = Metric.of(problem, observation)
        return LBFGSState(
            notes=notes,
            metric=metric,
            point=x,
            gradient=notes["gradient"],
            value=value,
            direction=torch.zeros_like(x),
            line=Line.begun(value, 0 * value, torch.zeros_like(value)),
            lowest=notes["gradient"],
            pairs=Pairs.empty(x, self.pairs),
            trying=none,
            finished=~definite,
            work=Ledger.empty(("trials", "accepted", "skipped"), len(keys), keys.device),
        )

    def act(self, state: LBFGSState, observation: Observation) -> tuple[Action, LBFGSState]:
        notes, trying = read(state.notes, observation), state.trying
        value, g = notes["value"].squeeze(-1), notes["gradient"]
        judged, passed = state.line.judged(value, dot(g, state.direction), self.decrease, self.slope)
        line = select(trying, judged, state.line)
        passed = trying & ~notes.refused & passed
        # the lower end has moved to the trial where that is what it became
        lowest = select(trying & (line.low.t == state.line.t), g, state.lowest)
        out = trying & ~passed & (line.count >= self.patience)
        low = line.low
        kept = out & (low.value < state.value)
        after = state.point + low.t.unsqueeze(-1) * state.direction
        x, value, g = select(
            passed,
            (observation["point"], value, g),
            select(kept, (after, low.value, lowest), (state.point, state.value, state.gradient)),
        )
        moved, s, y = passed | kept, x - state.point, g - state.gradient
        curved = dot(s, y) > self.tiny * torch.linalg.vector_norm(s, dim=-1) * torch.linalg.vector_norm(
            y, dim=-1
        )
        stuck = out & ~kept
        pairs = state.pairs.with_pair(moved & curved, s, y).without(stuck)
        begins = moved | stuck | ~trying
        hopeless = stuck & ~state.pairs.any
        direction, fresh, pairs = self._searched(state.metric, value, g, pairs)
        direction, line = select(begins, (direction, fresh), (state.direction, line))
        trial = x + line.t.unsqueeze(-1) * direction
        known = trying | notes.holds("gradient", point=x)
        small = known & ~(state.metric.dual_norm(g) > self.gtol)
        settled = known & (trial == x).all(-1)
        finished = state.finished | notes.refused | small | settled | hopeless
        action, notes = ask(
            notes,
            observation,
            {"value": torch.ones_like(trying), "gradient": torch.ones_like(trying)},
            point=trial,
        )
        counts = {"trials": trying, "accepted": moved, "skipped": moved & ~curved}
        memory = LBFGSState(
            notes=notes,
            metric=state.metric,
            point=x,
            gradient=g,
            value=value,
            direction=direction,
            line=line,
            lowest=torch.where(begins.unsqueeze(-1), g, lowest),
            pairs=pairs,
            trying=torch.ones_like(trying),
            finished=finished,
            work=state.work.bill({name: mask.long() for name, mask in counts.items()}),
        )
        return action, memory

    def _searched(
        self, metric: Metric, value: Float[Tensor, "B"], g: Float[Tensor, "B n"], pairs: Pairs
    ) -> tuple[Float[Tensor, "B n"], Line, Pairs]:
        """A direction of descent and the search along it; pairs that give none are forgotten."""
        direction = pairs.direction(metric, g)
        slope = dot(g, direction)
        bad: Bool[Tensor, "B"] = ~(slope < 0) & pairs.any
        steepest = -metric.raised(g)
        direction = torch.where(bad.unsqueeze(-1), steepest, direction)
        slope = torch.where(bad, dot(g, steepest), slope)
        pairs = pairs.without(bad)
        norm = metric.dual_norm(g)
        short = (1 / torch.where(norm > 0, norm, torch.ones_like(norm))).clamp_max(1.0)
        t = torch.where(pairs.any, torch.ones_like(norm), short)
        return direction, Line.begun(value, slope, t), pairs
