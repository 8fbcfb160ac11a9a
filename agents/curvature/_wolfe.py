"""A line search for the strong Wolfe conditions, one trial at a time in all rows.

    f(x + t d) <= f(x) + low t <g, d>   and   |<g(x + t d), d>| <= high |<g, d>|

First t grows until an interval is known to hold such a point; then the interval shrinks about it (Nocedal,
Wright 2006, algorithms 3.5 and 3.6).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.struct import replace, select, struct


@struct
class End:
    """A trial: the length t, the value and the slope along d, ``(B,)`` each."""

    t: Float[Tensor, "B"]
    value: Float[Tensor, "B"]
    slope: Float[Tensor, "B"]


@struct
class Line:
    """A search under way.

    Attributes:
        start: t = 0.
        low, high: the ends of the interval: ``low`` has the least value of those that fulfil the first
            condition; while it grows, ``low`` is the trial before.
        t: the next trial, ``(B,)``.
        inside: whether an interval is known, ``(B,)``.
        count: trials so far, ``(B,)``.
    """

    start: End
    low: End
    high: End
    t: Float[Tensor, "B"]
    inside: Bool[Tensor, "B"]
    count: Int64[Tensor, "B"]

    @classmethod
    def begun(cls, value: Float[Tensor, "B"], slope: Float[Tensor, "B"], t: Float[Tensor, "B"]) -> Line:
        """A new search, with its first trial."""
        start = End(torch.zeros_like(t), value, slope)
        return cls(start, start, start, t, torch.zeros_like(t, dtype=torch.bool), torch.zeros_like(t).long())

    def judged(
        self, value: Float[Tensor, "B"], slope: Float[Tensor, "B"], least: float, most: float
    ) -> tuple[Line, Bool[Tensor, "B"]]:
        """The search after the answer to its trial, and where that fulfils both conditions.

        Args:
            value: of the trial; no finite number means that it is too far.
            slope: of the trial, along d.
            least: the factor of the first condition.
            most: that of the second.
        """
        new, start, low, high = End(self.t, value, slope), self.start, self.low, self.high
        fine = value.isfinite() & slope.isfinite()
        enough = fine & (value <= start.value + least * self.t * start.slope)
        flat = slope.abs() <= -most * start.slope
        first = self.count == 0
        worse = ~enough | (~(value < low.value) & (self.inside | ~first))
        passed = ~worse & flat
        # which end the trial becomes, and whether the other one is the old lower end
        turned = torch.where(self.inside, slope * (high.t - low.t) >= 0, slope >= 0)
        closed = self.inside | worse | turned
        after_low = select(worse, low, new)
        after_high = select(worse, new, select(turned, low, high))
        inside = replace(self, low=after_low, high=after_high, inside=closed, count=self.count + 1)
        grown = _between(low, new, self.t + 1.1 * (self.t - low.t), self.t + 4 * (self.t - low.t))
        width = after_high.t - after_low.t
        ends = after_low.t + 0.1 * width, after_high.t - 0.1 * width
        shrunk = _between(after_low, after_high, torch.minimum(*ends), torch.maximum(*ends))
        return replace(inside, t=torch.where(closed, shrunk, grown)), passed


def _between(one: End, other: End, least: Tensor, most: Tensor) -> Tensor:
    """The minimiser of the cubic through both ends, within limits; their middle where there is none."""
    way = other.t - one.t
    way = torch.where(way == 0, torch.ones_like(way), way)
    d1 = one.slope + other.slope - 3 * (other.value - one.value) / way
    square = d1 * d1 - one.slope * other.slope
    d2 = square.clamp_min(0).sqrt() * way.sign()
    below = other.slope - one.slope + 2 * d2
    t = other.t - way * (other.slope + d2 - d1) / torch.where(below == 0, torch.ones_like(below), below)
    fits = t.isfinite() & (square >= 0) & (below != 0)
    return torch.where(fits, torch.maximum(torch.minimum(t, most), least), (least + most) / 2)
