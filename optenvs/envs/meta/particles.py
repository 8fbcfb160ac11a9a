"""Inner episodes of a batch: ``(B, P, ...)`` where they are kept, ``B * P`` rows where they run.

The members 2j and 2j + 1 of a pair have one key: task, start, data and lengths are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import OptimizationEnv
from optenvs.core.nested import Episodes, Stream
from optenvs.core.random import Keys, fold_in, uniform
from optenvs.core.struct import struct, tree_map

from .fresh import VALIDATION, fresh_loss
from .losses import MetaLoss, Tally

T = TypeVar("T")

CHUNK = 64
"""Steps of a lifetime whose values are kept at once."""


@struct
class Particles:
    """Where the inner episodes of one shape class stand.

    Attributes:
        stream: the episodes, ``(B, P, ...)``.
        least: the least value of each so far, where the meta-loss is a minimum.
        carried: the perturbations of each member's present episode, summed; ``None`` but for PES.
    """

    stream: Stream
    least: Float[Tensor, "B P"]
    carried: Float[Tensor, "B P D"] | None = None


def fold(tree: T) -> T:
    """``(B, P, ...)`` as ``(B * P, ...)``."""
    return tree_map(lambda leaf: leaf.flatten(0, 1), tree)


def unfold(tree: T, batch: int) -> T:
    """``(B * P, ...)`` as ``(B, P, ...)``."""
    return tree_map(lambda leaf: leaf.unflatten(0, (batch, -1)), tree)


def numbered(keys: Keys, count: int, together: int = 1) -> Int64[Tensor, "B P"]:
    """A key for each particle; ``together`` of them, side by side, have one."""
    number = torch.arange(count, device=keys.device) // together
    return fold_in(keys.unsqueeze(-1), number)


@dataclass(frozen=True)
class Lengths:
    """Steps of an episode, log-uniform between two numbers.

    Attributes:
        low, high: the ends.
        staggered: whether an episode of number 0 is cut short, by a share that is uniform, so that particles
            do not begin anew in lockstep.
    """

    low: int
    high: int
    staggered: bool = False

    def __call__(self, keys: Keys, episode: Int64[Tensor, "R"]) -> Int64[Tensor, "R"]:
        length = torch.full_like(keys, self.low)
        if self.low < self.high:
            low, high = math.log(self.low), math.log(self.high + 1)
            place = uniform(keys, "length", 1, episode, torch.float64, low=low, high=high)[:, 0]
            length = place.exp().long().clamp(self.low, self.high)
        if not self.staggered:
            return length
        share = uniform(keys, "stagger", 1, dtype=torch.float64)[:, 0]
        return torch.where(episode == 0, length - (share * length).long(), length)


@struct
class Played:
    """Whole lifetimes, ``(R,)`` each: their losses, what they cost, how long they were, which diverged."""

    loss: Float[Tensor, "R"]
    inner: Int64[Tensor, "R"]
    steps: Int64[Tensor, "R"]
    diverged: Tensor


def lifetimes(
    env: OptimizationEnv,
    rule: Any,
    keys: Keys,
    lengths: Lengths,
    loss: MetaLoss,
    second_order: bool = True,
) -> Played:
    """One lifetime a row, from its start to its end."""
    kept = (VALIDATION,) if loss.validation else ()
    episodes = Episodes(env, lengths, births=0, second_order=second_order, metrics=kept)
    stream = episodes.begin(rule, keys)
    tally = Tally.begin(stream.state.merit)
    for first in range(0, lengths.high, CHUNK):
        window, stream = episodes.window(rule, stream, min(CHUNK, lengths.high - first))
        tally = loss.tallied(tally, window)
    state = stream.state
    part = "test" if loss.validation else "train"
    fresh = fresh_loss(env, state, part) if loss.kind == "recomputed_last" else None
    return Played(
        loss=loss.result(tally, stream.length.to(tally.total.dtype), state.diverged, fresh),
        inner=state.calls.counts[:, 0],
        steps=state.k,
        diverged=state.diverged,
    )
