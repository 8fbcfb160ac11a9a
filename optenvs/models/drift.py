"""Drifts: what is taken off a policy's improvement, by the ratio rho = pi / pi_old and the advantage A.

The agent ascends the mean of rho A - drift(rho, A). Mirror learning (Kuba et al. 2022) asks that a drift is
at least 0, and that it and its slope are 0 at rho = 1; all of these are so by construction.

    LPO     learned (Lu et al. 2022, arXiv 2210.05639), with ell = log rho and A normalised in its minibatch:
            delta = [ell, ell^2, 1 - rho, (1 - rho)^2],   x = [delta, A delta]
            drift = ReLU(net(x) - 1e-4),   net: 8 -> hidden tanh -> 1 without biases
            ``like_ppo``:  drift = ReLU(ReLU((rho - clip(rho, 0.8, 1.2)) A) + net(x) - 1e-4)
    TA-LPO  temporally aware (Jackson et al. 2024, arXiv 2402.05828, eq. 10): x = [x, (n / N) x]
    DPO     what LPO was found to be, in closed form (the same authors), alpha = 2, beta = 0.6:
            A >= 0:  ReLU((rho - 1) A - alpha tanh((rho - 1) A / alpha))
            A <  0:  ReLU(ell A - beta tanh(ell A / beta))
    PPO     ReLU((rho - clip(rho, 1 - eps, 1 + eps)) A), which is the clipped objective

A drift answers with its slope by rho, written out: no graph is needed for a population of rules.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys

from .base import Slot, cut, draw_slots

OFFSET = 1e-4
"""What keeps the learned drift at 0 about rho = 1."""
CLIP = 0.2


@dataclass(frozen=True)
class Drift(abc.ABC):
    """A drift, without weights; those that learn nothing have none (D = 0)."""

    @property
    def layout(self) -> tuple[Slot, ...]:
        """The slots of the flat vector."""
        return ()

    @property
    def timed(self) -> bool:
        """Whether it sees n / N."""
        return False

    @property
    def size(self) -> int:
        """D, the number of weights."""
        return sum(slot.size for slot in self.layout)

    def draw(self, keys: Keys, dtype: torch.dtype) -> Float[Tensor, "R D"]:
        """Weights to begin with: normal with variance 1 / fan-in."""
        return draw_slots(self.layout, keys, dtype)

    @abc.abstractmethod
    def __call__(
        self,
        weights: Float[Tensor, "R D"],
        ratio: Float[Tensor, "R n"],
        advantage: Float[Tensor, "R n"],
        time: Float[Tensor, "R n"] | None = None,
    ) -> tuple[Float[Tensor, "R n"], Float[Tensor, "R n"]]:
        """The drift and its slope by the ratio, of n samples of each candidate.

        Args:
            weights: one set a candidate.
            ratio: rho.
            advantage: A, as it is normalised.
            time: n / N, where the drift is ``timed``.
        """


@dataclass(frozen=True)
class LPO(Drift):
    """The learned drift.

    Attributes:
        hidden: units of its network.
        aware: whether it is the temporally aware one.
        like_ppo: whether it begins as PPO's clip.
        limit: where the inputs are cut off, or ``None``; one published code has 2.
    """

    hidden: int = 128
    aware: bool = False
    like_ppo: bool = False
    limit: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.hidden, bool) or not isinstance(self.hidden, int) or self.hidden < 1:
            raise ValueError(f"hidden: expected a whole number >= 1, got {self.hidden!r}")
        if self.limit is not None and not self.limit > 0:
            raise ValueError(f"limit: expected a number > 0 or None, got {self.limit!r}")

    @property
    def timed(self) -> bool:
        return self.aware

    @cached_property
    def layout(self) -> tuple[Slot, ...]:  # type: ignore[override]
        inputs = 16 if self.aware else 8
        return (
            Slot("hidden.weight", (self.hidden, inputs), fan_in=inputs),
            Slot("output.weight", (1, self.hidden), fan_in=self.hidden),
        )

    def __call__(
        self, weights: Tensor, ratio: Tensor, advantage: Tensor, time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if (time is None) == self.aware:
            raise ValueError(f"time: expected {'n / N' if self.aware else 'None'}, got {time!r}")
        p = cut(self.layout, weights)
        ell, off, one = ratio.log(), 1 - ratio, torch.ones_like(ratio)
        delta = torch.stack((ell, ell.square(), off, off.square()), -1)
        slope = torch.stack((1 / ratio, 2 * ell / ratio, -one, -2 * off), -1)
        x, dx = (torch.cat((d, advantage.unsqueeze(-1) * d), -1) for d in (delta, slope))
        if time is not None:
            x, dx = (torch.cat((d, time.unsqueeze(-1) * d), -1) for d in (x, dx))
        if self.limit is not None:
            dx = torch.where(x.abs() < self.limit, dx, 0.0)
            x = x.clamp(-self.limit, self.limit)
        inner, outer = p["hidden.weight"].mT, p["output.weight"].mT
        h = torch.tanh(torch.bmm(x, inner))
        net = torch.bmm(h, outer).squeeze(-1)
        net_slope = torch.bmm((1 - h.square()) * torch.bmm(dx, inner), outer).squeeze(-1)
        if self.like_ppo:
            start, start_slope = _clipped(ratio, advantage, CLIP)
            net, net_slope = net + start, net_slope + start_slope
        drift = torch.relu(net - OFFSET)
        return drift, torch.where(drift > 0, net_slope, 0.0)


@dataclass(frozen=True)
class DPO(Drift):
    """The closed form that LPO was distilled to."""

    alpha: float = 2.0
    beta: float = 0.6

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number > 0, got {getattr(self, name)!r}")

    def __call__(
        self, weights: Tensor, ratio: Tensor, advantage: Tensor, time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        good = advantage >= 0
        scale = torch.where(good, torch.full_like(ratio, self.alpha), self.beta)
        ell = ratio.log()
        inner = torch.where(good, ratio - 1, ell) * advantage
        slope = torch.where(good, advantage, advantage / ratio)
        bent = torch.tanh(inner / scale)
        drift = torch.relu(inner - scale * bent)
        return drift, torch.where(drift > 0, slope * bent.square(), 0.0)


@dataclass(frozen=True)
class PPO(Drift):
    """The clipped objective of Schulman et al. 2017 as a drift."""

    clip: float = CLIP

    def __post_init__(self) -> None:
        if not 0 < self.clip < 1:
            raise ValueError(f"clip: expected a number in (0, 1), got {self.clip!r}")

    def __call__(
        self, weights: Tensor, ratio: Tensor, advantage: Tensor, time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return _clipped(ratio, advantage, self.clip)


@dataclass(frozen=True)
class Free(Drift):
    """No drift at all: the ratio times the advantage, which of one pass is the policy gradient."""

    def __call__(
        self, weights: Tensor, ratio: Tensor, advantage: Tensor, time: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(ratio), torch.zeros_like(ratio)


def _clipped(ratio: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """PPO's drift and its slope."""
    drift = torch.relu((ratio - torch.clamp(ratio, 1 - clip, 1 + clip)) * advantage)
    return drift, torch.where(drift > 0, advantage, 0.0)
