"""Consensus-based optimization (Pinnau, Totzeck, Tse, Martin 2017; anisotropic: Carrillo, Jin, Li, Zhu 2021).

    w_i <- exp(-alpha (E(X_i) - min E)),   c <- sum of w_i X_i / sum of w_i
    V_i <- X_i - c
    X_i <- X_i - lambda dt V_i + sigma sqrt(dt) D(V_i) z_i,        z_i standard normal

with D(V) = |V| times the identity (isotropic) or diag(V) (anisotropic). Riedl, Klock, Geldhauser, Fornasier
("Gradient is All You Need?", 2023) show that c moves by a stochastic relaxation of gradient descent.

Mean square contraction needs 2 lambda > d sigma^2 (isotropic), 2 lambda > sigma^2 (anisotropic).

Options:

    noise_after_drift   D((1 - lambda dt) V_i), as in the authors' code; without, as in the SDE's Euler step
    truncation          D of min(|V|, M), or of each |V_j| cut at M (Fornasier, Richtarik, Riedl, Sun 2023)
    gradient_drift      X_i <- X_i - rate dt grad E(X_i) in the same step (Riedl 2023)
    batch_size          c of a random batch of particles only (Carrillo, Jin, Li, Zhu 2021); ``partial`` moves
                        only these
    kick                sigma sqrt(dt) z more for all where c moved by less than this in every coordinate
    effective           alpha such that (sum w)^2 / sum w^2 is this share of the particles, anew at each step
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from optenvs.core.env import Action
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Agent, Observation, Schedule, require
from ..gradient._moments import Workspace
from ._consensus import (
    Normals,
    Number,
    Scale,
    answer,
    consensus,
    effective_alpha,
    not_negative,
    positive,
    random_batch,
    recommends,
    scaled,
    table,
    temperature,
    wide,
)

NOISES = ("isotropic", "anisotropic")


@struct
class CBOState:
    """The memory of consensus-based optimization.

    Attributes:
        keys: of the random draws, ``(B,)``.
        count: steps so far, ``(B,)``.
        consensus: the last consensus, ``(B, d)``; infinite before the first.
        team: whether a query states the recommendation.
    """

    keys: Keys
    count: Int64[Tensor, "B"]
    consensus: Float[Tensor, "B d"]
    team: bool = static()


@dataclass(frozen=True, eq=False)
class CBO(Normals, Agent):
    """Consensus-based optimization; it recommends the consensus.

    The consensus that a query recommends is that of the answer before it: of the particles *before* they move
    to the points of this query. So K + 1 steps recommend the consensus after K updates.

    The defaults are those of the paper's canyon (figure 1), with the noise of the SDE's Euler step.

    Args:
        lambda_: the strength of the drift towards the consensus.
        sigma: the strength of the noise: a number, or a tensor ``(B,)`` with one for each instance.
        alpha: the inverse temperature of the weights, likewise; 1e15 makes the best particle the consensus.
        dt: the time step.
        noise: ``isotropic`` or ``anisotropic``.
        noise_after_drift: scale the noise by the distance after the drift.
        truncation: the largest distance that scales the noise, or ``None``.
        gradient_drift: the rate of a gradient drift; above 0 the agent needs the gradient oracle.
        alpha_schedule, sigma_schedule: factors of ``(k, N)``, see ``agents.schedules``.
        effective: the share of the particles that the weights should amount to, in place of ``alpha``.
        effective_limits: the ends of the search for it.
        batch_size: particles of a random batch, or ``None`` for all.
        partial: move only the batch.
        kick: the move of the consensus below which the particles are kicked, or ``None`` for never.
        limit: where coordinates are cut off, so that no particle leaves the numbers; ``None`` for nowhere.
    """

    lambda_: float = 1.0
    sigma: Number = 1.6
    alpha: Number = 100.0
    dt: float = 0.01
    noise: str = "isotropic"
    noise_after_drift: bool = False
    truncation: float | None = None
    gradient_drift: float = 0.0
    alpha_schedule: Schedule | None = None
    sigma_schedule: Schedule | None = None
    effective: float | None = None
    effective_limits: tuple[float, float] = (1e-5, 1e5)
    batch_size: int | None = None
    partial: bool = False
    kick: float | None = None
    limit: float | None = 1e8

    def __post_init__(self) -> None:
        positive(self, "alpha", "dt", *(n for n in ("limit", "truncation") if getattr(self, n) is not None))
        not_negative(self, "lambda_", "sigma", "gradient_drift")
        require(self, "alpha", torch.as_tensor(self.alpha).isfinite().all(), "a finite number")
        require(self, "noise", self.noise in NOISES, " or ".join(NOISES))
        require(self, "effective", self.effective is None or 0 < self.effective <= 1, "a share in (0, 1]")
        low, high = self.effective_limits
        require(self, "effective_limits", 0 < low < high < math.inf, "0 < low < high")
        whole = isinstance(self.batch_size, int) and not isinstance(self.batch_size, bool)
        size = self.batch_size is None or (whole and self.batch_size >= 1)
        require(self, "batch_size", size, "a whole number >= 1 or None")
        require(self, "partial", self.batch_size is not None or not self.partial, "a batch_size with it")
        require(self, "kick", self.kick is None or self.kick > 0, "a number > 0 or None")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The oracles without which it cannot run."""
        return ("value", "swarm", *(("gradient",) if self.gradient_drift else ()))

    @property
    def together(self) -> bool:  # type: ignore[override]
        """Whether it cannot move each particle by itself: the batches are those of the swarm."""
        return self.batch_size is not None

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Any:
        points, _ = table(observation)
        if self.batch_size is not None and self.batch_size > points.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: batch_size: {self.batch_size} is more than the "
                f"{points.shape[1]} particles"
            )
        return CBOState(
            keys=keys,
            count=torch.zeros_like(keys),
            consensus=torch.full_like(points[:, 0], torch.inf),
            team=recommends(problem),
        )

    def act(self, state: Any, observation: Observation) -> tuple[Action, Any]:
        points = observation["point"]
        everyone, values = table(observation)
        moved, centre = self.step(state, observation, points, everyone, values)
        return answer(moved, centre, state.team), dataclasses.replace(
            state, count=state.count + 1, consensus=centre
        )

    def step(
        self, state: Any, observation: Observation, points: Tensor, everyone: Tensor, values: Tensor
    ) -> tuple[Float[Tensor, "B n d"], Float[Tensor, "B d"]]:
        """The new points, and the recommendation, with the consensus taken of ``everyone``."""
        chosen = None
        if self.batch_size is not None:
            chosen = random_batch(state.keys, state.count, everyone.shape[1], self.batch_size)
            # a batch in which nobody has a value gives way to the whole swarm
            held = (chosen & (values < torch.inf)).any(-1, keepdim=True)
            values = torch.where(chosen | ~held, values, torch.inf)
        alpha, sigma = self.rates(observation, values)
        target, centre = self.consensus(points, everyone, values, alpha)
        moved = self.move(state, observation, points, target, sigma)
        if self.kick is not None:
            stalled = ((centre - state.consensus).abs() < self.kick).all(-1)[:, None, None]
            drawn = self.normals(state.keys, "kick", state.count, points)
            moved = moved + torch.where(stalled, wide(sigma) * math.sqrt(self.dt), 0.0) * drawn
        if chosen is not None and self.partial:
            moved = torch.where(chosen.unsqueeze(-1), moved, points)
        if self.limit is not None:
            moved = torch.clamp(moved, -self.limit, self.limit, out=Workspace.of(moved).over(moved))
        return moved, centre

    def rates(self, observation: Observation, values: Tensor) -> tuple[Scale, Scale]:
        """``alpha`` and ``sigma`` now."""
        alpha = temperature(self.alpha, self.alpha_schedule, observation)
        if self.effective is not None:
            alpha = effective_alpha(values, self.effective, *self.effective_limits)
        return alpha, scaled("sigma", self.sigma, self.sigma_schedule, observation)

    def consensus(
        self, points: Tensor, everyone: Tensor, values: Tensor, alpha: Scale
    ) -> tuple[Float[Tensor, "B _ d"], Float[Tensor, "B d"]]:
        """What each of ``points`` is drawn to, ``(B, 1, d)`` or ``(B, N, d)``, and the recommendation."""
        centre = consensus(everyone, values, alpha)
        return centre.unsqueeze(1), centre

    def move(
        self, state: Any, observation: Observation, points: Tensor, target: Tensor, sigma: Scale
    ) -> Float[Tensor, "B n d"]:
        """Drift and noise of one step."""
        drawn = self.normals(state.keys, "noise", state.count, points)
        moved = self.drift_and_noise(points - target, drawn, self.lambda_, sigma, target)
        if self.gradient_drift:
            moved = moved - self.gradient_drift * self.dt * observation["gradient"]
        return moved

    def drift_and_noise(
        self, offset: Tensor, drawn: Tensor, lambda_: float, sigma: Scale, origin: Tensor
    ) -> Float[Tensor, "B n d"]:
        """``origin + (1 - lambda dt) V + sigma sqrt(dt) D(V) z`` for ``V = offset``.

        It is a step away from ``origin`` in place of one from the particle, so that ``lambda dt = 1`` without
        noise ends in the consensus exactly. ``offset`` and ``drawn`` may be written over.
        """
        kept = 1 - lambda_ * self.dt
        scale = wide(sigma) * math.sqrt(self.dt)
        radius = self._radius(offset, kept if self.noise_after_drift else 1.0)
        work = Workspace.of(offset, drawn, origin, scale)
        if radius is offset:  # anisotropic: one factor for drift and noise
            if self.noise_after_drift:
                scale = scale * kept
            factor = torch.mul(drawn, scale, out=work.over(drawn))
            factor = torch.add(factor, kept, out=work.over(factor))
            return torch.addcmul(origin, factor, offset, out=work.over(factor))
        noise = torch.mul(drawn, scale * radius, out=work.over(drawn))
        moved = torch.add(noise, offset, alpha=kept, out=work.over(noise))
        return torch.add(moved, origin, out=work.over(moved))

    def _radius(self, offset: Tensor, kept: float) -> Tensor:
        """What scales the noise: ``(B, n, 1)``, or ``(B, n, d)``; ``offset`` itself where that is it."""
        if self.noise == "isotropic":
            radius = abs(kept) * torch.linalg.vector_norm(offset, dim=-1, keepdim=True)
            return radius if self.truncation is None else radius.clamp_max(self.truncation)
        if self.truncation is None:
            return offset
        return (kept * offset).clamp(-self.truncation, self.truncation)
