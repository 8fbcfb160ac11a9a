"""How good a loss is: the number of steps that tuned Adam needs to reach it ("speed-up over Adam").

Metz et al. (2020, 2022; VeLO): Adam is run with each learning rate of a grid on several seeds. The mean over
seeds, smoothed by an exponential average of 0.95; then the least over the rates at each step (the lower
envelope), and the least so far: a loss that never rises, at 512 points. A loss is mapped to the first step at
which Adam's is as low, with a straight line between points:

    no number, infinite, or worse than the start    0, the worst
    less than Adam's last                           the last step, the best that can be told

So Adam with the best rate for N steps maps to N, or to the step before at which a rate had been as low. The
average remembers some twenty steps: no smoothed loss falls faster than by 5 % a step, so that the lead of a
fast optimizer is understated, most in its first hundred steps and on tasks that Adam solves as fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from optenvs.core.rollout import Run

POINTS = 512
DECAY = 0.95


def smooth(course: Float[Tensor, "T *rows"]) -> Float[Tensor, "T *rows"]:
    """The exponential average along the first axis; it begins at the first value."""
    mean, found = course[0], [course[0]]
    for value in course[1:]:
        mean = DECAY * mean + (1 - DECAY) * value
        found.append(mean)
    return torch.stack(found)


def lower_envelope(curves: Float[Tensor, "T R"]) -> Float[Tensor, "T"]:
    """The least of the curves so far."""
    return curves.amin(1).cummin(0).values


def sampled(curve: Float[Tensor, "T"], points: int = POINTS) -> Float[Tensor, "P"]:
    """The curve at so many points from its first to its last step, between which lines are straight."""
    place = torch.linspace(0, len(curve) - 1, points, dtype=torch.float64)
    left = place.floor().long().clamp_max(len(curve) - 2)
    return torch.lerp(curve[left], curve[left + 1], (place - left).to(curve.dtype))


@dataclass(frozen=True, eq=False)
class AdamSteps:
    """The normaliser of one shape class.

    Attributes:
        envelope: the least mean loss that Adam has reached, at points from step 0 to ``length``.
        length: Adam's steps.
    """

    envelope: Float64[Tensor, "P"]
    length: int

    @property
    def cell(self) -> float:
        """Steps between two points."""
        return self.length / (len(self.envelope) - 1)

    def steps(self, loss: Float[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """How many steps tuned Adam needs to reach each loss."""
        loss = loss.to(torch.float64)
        rising = -self.envelope
        after = torch.searchsorted(rising, -loss.nan_to_num(torch.inf).contiguous())  # the first as low
        right = after.clamp(1, len(rising) - 1)
        high, low = self.envelope[right - 1], self.envelope[right]
        share = ((high - loss) / (high - low).clamp_min(torch.finfo(torch.float64).tiny)).clamp(0, 1)
        found = (right - 1 + share) * self.cell
        found = torch.where(after == len(rising), float(self.length), found)
        return torch.where((after == 0) | ~loss.isfinite(), 0.0, found)

    def beyond(self, loss: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        """Whether a loss is lower than all that Adam has reached: its number of steps is a lower bound."""
        return (loss < self.envelope[-1]) & loss.isfinite()

    def at(self, steps: Float[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """The least loss of Adam after so many steps."""
        place = (steps.to(torch.float64) / self.cell).clamp(0, len(self.envelope) - 1)
        left = place.floor().long().clamp_max(len(self.envelope) - 2)
        return torch.lerp(self.envelope[left], self.envelope[left + 1], place - left)


def counted(run: Run, steps: int, cost: int) -> tuple[Float64[Tensor, "T B"], Bool[Tensor, "B"]]:
    """The losses that count after 0 .. ``steps`` queries, and whether a row has failed.

    A row is never dropped: what it loses from its divergence on, what is no number, and what is more than its
    first loss count as its first loss. It has failed if its merit was no finite number, or if its smoothed
    loss ends above the first.

    Args:
        run: of ``B`` instances.
        steps: how many.
        cost: calls of the main oracle that one of them is billed. Where an action lasts several queries, the
            loss of those in between is that of the last action before.
    """
    merit = run.merit.detach().to("cpu", torch.float64)
    done, diverged = run.done.cpu(), run.diverged.cpu()
    calls = run.calls.counts[..., 0].cpu()
    since = calls - calls[0]
    queries = (torch.arange(steps + 1) * cost).expand(merit.shape[1], -1).contiguous()
    place = torch.searchsorted(since.T.contiguous(), queries, right=True) - 1  # the last entry that is paid
    place = place.T
    raw, over = merit.gather(0, place), (done & diverged).gather(0, place)
    first = merit[0]
    lost = over | raw.isnan()
    losses = torch.minimum(torch.where(lost, first, raw), first)
    ends = smooth(torch.where(lost, torch.inf, raw))[-1]
    return losses, diverged | ~(ends <= first)
