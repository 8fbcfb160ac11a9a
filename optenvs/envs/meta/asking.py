"""How a point of weights is asked: the loss of windows or lifetimes, and an estimate of its gradient.

    bptt             backpropagation through whole lifetimes
    truncated_bptt   backpropagation through a window; what comes before it is a constant
    full_es          evolution strategies on whole lifetimes
    truncated_es     the same on a window, both members from the state of the weights themselves
    pes              persistent evolution strategies: fresh noise in every window, credited to all later ones
    noise_reuse_es   one perturbation an episode (``es_single``)

The formulas of the evolution strategies are in :mod:`.estimators`. Every particle has weights of its own, so
that one whose gradient is no number spoils no other: it counts as 0, and in the metric ``lost``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from optenvs.core.env import OptimizationEnv
from optenvs.core.nested import Episodes, Stream, Window
from optenvs.core.oracles import value_gradient_and_rest
from optenvs.core.random import Keys, fold_in, normal
from optenvs.core.stepper import unset
from optenvs.core.struct import replace, struct, tree_map

from .estimators import antithetic, persistent, shaped, single
from .losses import MetaLoss
from .particles import Lengths, Particles, Played, fold, lifetimes, numbered, unfold


@dataclass(frozen=True, eq=False)
class Setting:
    """All that the estimators of one shape class share; see :class:`.meta_training.MetaTraining`."""

    task: OptimizationEnv
    rule: Any
    loss: MetaLoss
    lengths: Lengths
    window: int
    particles: int
    std: float
    clip: float | None
    sign: bool
    second_order: bool
    player: Callable[[Tensor, Keys], Played] | None = None
    """What plays whole lifetimes, where it is not this process."""

    def play(self, rows: Float[Tensor, "R D"], keys: Keys) -> Played:
        """A lifetime for each row of weights and its key."""
        if self.player is not None:
            return self.player(rows, keys)
        whole = Lengths(self.lengths.low, self.lengths.high)
        return lifetimes(self.task, self.ruled(rows), keys, whole, self.loss, self.second_order)

    def episodes(self, births: int) -> Episodes:
        """Windows over the task's episodes."""
        kept = self.loss.needs
        return Episodes(self.task, self.lengths, births, second_order=self.second_order, metrics=kept)

    def ruled(self, weights: Float[Tensor, "R D"]) -> Any:
        """The rule with a set of weights a row."""
        return self.rule.replace(weights=weights)


@struct
class Cost:
    """What was asked, ``(B,)`` each: queries of tasks, steps differentiated, lifetimes begun."""

    inner: Int64[Tensor, "B"]
    backward: Int64[Tensor, "B"]
    lifetimes: Int64[Tensor, "B"]

    def __add__(self, other: Cost) -> Cost:
        return tree_map(torch.add, self, other)


@struct
class Found:
    """The answer to one point.

    Attributes:
        value: the loss, the mean over particles, ``(B,)``.
        gradient: the estimate, ``(B, D)``.
        cost: what it has cost.
        diverged: the share of particles that diverged.
        lost: the share whose gradient was no number.
        particles: where they stand then; ``None`` after whole lifetimes.
    """

    value: Float[Tensor, "B"]
    gradient: Float[Tensor, "B D"]
    cost: Cost
    diverged: Float[Tensor, "B"]
    lost: Float[Tensor, "B"]
    particles: Particles | None


class Estimator(NamedTuple):
    """What an estimator is like.

    Attributes:
        ask: ``(setting, particles, weights, keys, k) -> Found``.
        whole: whether it plays lifetimes, and carries nothing.
        pairs: whether it has antithetic pairs.
        kept: episodes that are carried, a particle.
        played: windows that are played, a particle.
    """

    ask: Callable[[Setting, Any, Tensor, Keys, Tensor], Found]
    whole: bool = False
    pairs: bool = True
    kept: float = 1.0
    played: float = 1.0

    def differentiates(self) -> bool:
        """Whether it goes back through the steps."""
        return not self.pairs


def begin(setting: Setting, estimator: Estimator, weights: Tensor, keys: Keys) -> tuple[Particles, Cost]:
    """The first episodes of the particles, and what their first answers cost."""
    count = round(setting.particles * estimator.kept)
    together = 2 if estimator.pairs and count == setting.particles else 1
    own = numbered(keys, count, together).flatten()
    stream = setting.episodes(0).begin(setting.ruled(_spread(weights, count)), own)
    inner = unfold(stream.state.calls.counts[:, 0], len(keys)).sum(1)
    stream = unfold(stream, len(keys))
    least = torch.full_like(stream.state.merit, torch.inf)
    carried = None
    if estimator.ask is pes:
        carried = torch.zeros_like(least).unsqueeze(-1).expand(-1, -1, weights.shape[-1])
    begun = torch.full_like(inner, count)
    return Particles(stream=stream, least=least, carried=carried), Cost(
        inner=inner, backward=torch.zeros_like(inner), lifetimes=begun
    )


def _spread(weights: Float[Tensor, "B D"], count: int) -> Float[Tensor, "R D"]:
    return weights.unsqueeze(1).expand(-1, count, -1).flatten(0, 1)


def _mean(rows: Tensor, batch: int) -> Tensor:
    return unfold(rows, batch).mean(1)


def _members(rows: Tensor) -> Tensor:
    """Rows ``(R, ...)`` of which two side by side are a pair, as ``(2, R / 2, ...)``."""
    return rows.unflatten(0, (-1, 2)).transpose(0, 1)


def _paired(weights: Float[Tensor, "B D"], noise: Float[Tensor, "Q D"]) -> Float[Tensor, "R D"]:
    """The weights of all members: of pair j plus noise j, and minus it."""
    batch = len(weights)
    signed = torch.stack((noise, -noise), 1).flatten(0, 1)
    return (unfold(signed, batch) + weights.unsqueeze(1)).flatten(0, 1)


def _noise(setting: Setting, keys: Keys, counter: Tensor, like: Tensor) -> Float[Tensor, "Q D"]:
    return setting.std * normal(keys, "perturbation", like.shape[-1], counter, like.dtype)


class _Turned(NamedTuple):
    """A window that was played: its terms, and what is carried on."""

    terms: Float[Tensor, "W R"]
    window: Window
    stream: Stream
    least: Float[Tensor, "R"]

    def cost(self, batch: int, differentiated: bool = False, kept: bool = True) -> Cost:
        window = self.window
        inner = unfold(window.calls.counts[:, 0], batch).sum(1)
        nothing = torch.zeros_like(inner)
        return Cost(
            inner=inner,
            backward=_count(window.alive, batch) if differentiated else nothing,
            lifetimes=_count(window.born, batch) if kept else nothing,
        )

    def diverged(self, batch: int) -> Float[Tensor, "B"]:
        fell = self.window.diverged
        if unset(fell):
            return torch.zeros_like(self.terms[0, :batch])
        fell = (fell & self.window.alive).any(0)
        return unfold(fell.to(self.terms.dtype), batch).mean(1)


def _count(turns: Bool[Tensor, "W R"], batch: int) -> Int64[Tensor, "B"]:
    """How many turns of an instance's rows are set."""
    if unset(turns):
        return torch.zeros(batch, dtype=torch.int64, device=turns.device)
    return turns.unflatten(1, (batch, -1)).sum((0, 2))


def _turn(setting: Setting, weights: Tensor, stream: Stream, least: Tensor, births: int = 1) -> _Turned:
    window, after = setting.episodes(births).window(setting.ruled(weights), stream, setting.window)
    terms, least = setting.loss.terms(window, least)
    return _Turned(terms, window, after, least)


def _averaged(setting: Setting, slopes: Float[Tensor, "R D"], batch: int) -> tuple[Tensor, Tensor]:
    """The mean of the particles' gradients, cut off one by one, and the share that was no number."""
    known = (slopes.abs() < torch.inf).all(-1, keepdim=True)
    slopes = torch.where(known, slopes, 0.0)
    if setting.clip is not None:
        size = torch.linalg.vector_norm(slopes, dim=-1, keepdim=True)
        slopes = slopes * (setting.clip / size.clamp_min(setting.clip))
    return _mean(slopes, batch), _mean((~known[:, 0]).to(slopes.dtype), batch)


def _estimated(setting: Setting, pairs: Tensor, losses: Float[Tensor, "2 Q"], batch: int) -> Tensor:
    """The mean of the pairs' estimates."""
    return _mean(shaped(pairs, losses, setting.clip, setting.sign), batch)


def truncated_bptt(
    setting: Setting, particles: Particles, weights: Tensor, keys: Keys, k: Int64[Tensor, "B"]
) -> Found:
    """Backpropagation through a window."""
    batch, stream, least = len(weights), fold(particles.stream), fold(particles.least)

    def loss(rows: Tensor) -> tuple[Tensor, Any]:
        turned = _turn(setting, rows, stream, least)
        return turned.terms.sum(0), turned

    value, slopes, turned = value_gradient_and_rest(loss, _spread(weights, setting.particles))
    gradient, lost = _averaged(setting, slopes, batch)
    return Found(
        value=_mean(value, batch),
        gradient=gradient,
        cost=turned.cost(batch, differentiated=True),
        diverged=turned.diverged(batch),
        lost=lost,
        particles=_carried(particles, turned, batch),
    )


def _carried(before: Particles, turned: _Turned, batch: int, carried: Tensor | None = None) -> Particles:
    stream, least = unfold((turned.stream, turned.least), batch)
    return replace(before, stream=stream, least=least, carried=carried)


def bptt(setting: Setting, particles: Any, weights: Tensor, keys: Keys, k: Int64[Tensor, "B"]) -> Found:
    """Backpropagation through whole lifetimes, fresh ones in each query."""
    batch, own = len(weights), fold_in(numbered(keys, setting.particles), k.unsqueeze(-1)).flatten()

    def loss(rows: Tensor) -> tuple[Tensor, Any]:
        played = setting.play(rows, own)
        return played.loss, played

    value, slopes, played = value_gradient_and_rest(loss, _spread(weights, setting.particles))
    gradient, lost = _averaged(setting, slopes, batch)
    return Found(
        value=_mean(value, batch),
        gradient=gradient,
        cost=_whole_cost(played, batch, differentiated=True),
        diverged=_mean(played.diverged.to(value.dtype), batch),
        lost=lost,
        particles=None,
    )


def fitness(
    setting: Setting, points: Float[Tensor, "B m D"], keys: Keys, k: Int64[Tensor, "B"], paired: bool
) -> tuple[Float[Tensor, "B m"], Cost, Float[Tensor, "B"]]:
    """A lifetime of each point: the losses, what they cost, and the share that diverged."""
    batch, count = len(points), points.shape[1]
    own = fold_in(numbered(keys, count, 2 if paired else 1), k.unsqueeze(-1)).flatten()
    played = setting.play(points.flatten(0, 1), own)
    losses = unfold(played.loss, batch)
    return losses, _whole_cost(played, batch), _mean(played.diverged.to(losses.dtype), batch)


def _whole_cost(played: Played, batch: int, differentiated: bool = False) -> Cost:
    inner, steps = (unfold(x, batch).sum(1) for x in (played.inner, played.steps))
    begun = torch.full_like(inner, len(played.steps) // batch)
    return Cost(inner=inner, backward=steps if differentiated else torch.zeros_like(steps), lifetimes=begun)


def full_es(setting: Setting, particles: Any, weights: Tensor, keys: Keys, k: Int64[Tensor, "B"]) -> Found:
    """Evolution strategies on whole lifetimes, fresh ones in each query."""
    batch, count = len(weights), setting.particles
    own = fold_in(numbered(keys, count, 2), k.unsqueeze(-1)).flatten()
    noise = _noise(setting, own[::2], torch.zeros_like(own[::2]), weights)
    played = setting.play(_paired(weights, noise), own)
    losses = _members(played.loss)
    estimate = antithetic(losses[0], losses[1], noise, setting.std)
    cost, diverged = _whole_cost(played, batch), _mean(played.diverged.to(played.loss.dtype), batch)
    return _es_found(setting, played.loss, estimate, losses, batch, cost, diverged, None)


def _es_found(
    setting: Setting,
    value: Tensor,
    estimate: Tensor,
    losses: Tensor,
    batch: int,
    cost: Cost,
    diverged: Float[Tensor, "B"],
    particles: Particles | None,
) -> Found:
    return Found(
        value=_mean(value, batch),
        gradient=_estimated(setting, estimate, losses, batch),
        cost=cost,
        diverged=diverged,
        lost=torch.zeros_like(diverged),
        particles=particles,
    )


def truncated_es(
    setting: Setting, particles: Particles, weights: Tensor, keys: Keys, k: Int64[Tensor, "B"]
) -> Found:
    """Evolution strategies on a window, from states that the weights themselves have led to."""
    batch, pairs = len(weights), setting.particles // 2
    stream, least = fold(particles.stream), fold(particles.least)
    counter = k.unsqueeze(-1).expand(-1, pairs).flatten()
    noise = _noise(setting, stream.keys, counter, weights)
    both = tree_map(lambda leaf: leaf.repeat_interleave(2, 0), (stream, least))
    tried = _turn(setting, _paired(weights, noise), *both)
    own = _turn(setting, _spread(weights, pairs), stream, least)
    losses = _members(tried.terms.sum(0))
    estimate = antithetic(losses[0], losses[1], noise, setting.std)
    cost = own.cost(batch) + tried.cost(batch, kept=False)
    after = _carried(particles, own, batch)
    diverged = tried.diverged(batch)
    return _es_found(setting, own.terms.sum(0), estimate, losses, batch, cost, diverged, after)


def pes(setting: Setting, particles: Particles, weights: Tensor, keys: Keys, k: Int64[Tensor, "B"]) -> Found:
    """Persistent evolution strategies: every member keeps its own state."""
    batch, pairs = len(weights), setting.particles // 2
    stream, least = fold(particles.stream), fold(particles.least)
    counter = k.unsqueeze(-1).expand(-1, pairs).flatten()
    noise = _noise(setting, stream.keys[::2], counter, weights)
    turned = _turn(setting, _paired(weights, noise), stream, least)
    turns = turned.terms.unflatten(1, (-1, 2)).movedim(-1, 0)
    since = turned.window.since.unflatten(1, (-1, 2)).movedim(-1, 0)
    assert particles.carried is not None
    carried = _members(fold(particles.carried))
    estimate, carried = persistent(turns, since, noise, carried, setting.std)
    kept = carried.transpose(0, 1).flatten(0, 1)
    after = _carried(particles, turned, batch, unfold(kept, batch))
    value, diverged = turned.terms.sum(0), turned.diverged(batch)
    losses = _members(value)
    return _es_found(setting, value, estimate, losses, batch, turned.cost(batch), diverged, after)


def noise_reuse_es(
    setting: Setting, particles: Particles, weights: Tensor, keys: Keys, k: Int64[Tensor, "B"]
) -> Found:
    """Noise-reuse evolution strategies: every member keeps its own state and perturbation."""
    batch, before = len(weights), fold(particles.stream)
    signs = torch.tensor((1.0, -1.0), dtype=weights.dtype).to(weights.device).repeat(len(before.keys) // 2)
    # an episode begins with a window, so that all of it is played with one perturbation
    number = before.episode + before.over
    noise = _noise(setting, before.keys, number, weights)
    rows = _spread(weights, setting.particles) + signs.unsqueeze(-1) * noise
    stream = setting.episodes(0).renew(setting.ruled(rows), before)
    least = torch.where(before.over, torch.inf, fold(particles.least))
    turned = _turn(setting, rows, stream, least, births=0)
    losses = _members(turned.terms.sum(0))
    estimate = single(losses, _members(noise), setting.std)
    first = torch.where(before.over, stream.state.calls.counts[:, 0], 0)
    begun = Cost(
        inner=unfold(first, batch).sum(1),
        backward=torch.zeros_like(k),
        lifetimes=unfold(before.over, batch).sum(1),
    )
    after = _carried(particles, turned, batch)
    value, diverged = turned.terms.sum(0), turned.diverged(batch)
    cost = turned.cost(batch) + begun
    return _es_found(setting, value, estimate, losses, batch, cost, diverged, after)


ESTIMATORS: dict[str, Estimator] = {
    "bptt": Estimator(bptt, whole=True, pairs=False),
    "truncated_bptt": Estimator(truncated_bptt, pairs=False),
    "full_es": Estimator(full_es, whole=True),
    "truncated_es": Estimator(truncated_es, kept=0.5, played=1.5),
    "pes": Estimator(pes),
    "noise_reuse_es": Estimator(noise_reuse_es),
}
ALIASES = {"es_single": "noise_reuse_es"}
