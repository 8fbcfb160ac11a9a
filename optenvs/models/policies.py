"""Networks as policies: what a flat parameter vector does in a state, and how likely it was to do it.

Pure functions of the parameters: actions come of given draws (so that a policy and its perturbation can meet
the same luck, and an action is differentiable where it can be), log-densities of given actions. States are
the model's inputs, ``(B, m, *shape)``, or ``(G, m, *shape)`` shared by the networks of a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .base import Model


@dataclass(frozen=True)
class Categorical:
    """One of ``model.classes`` actions, by logits.

    Attributes:
        model: its outputs are the logits.
        explore: the share of the uniform distribution in it, so that no action dies out; in [0, 1).
    """

    model: Model
    explore: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.explore < 1:
            raise ValueError(f"explore: expected a number in [0, 1), got {self.explore!r}")

    @property
    def size(self) -> int:
        """D, the number of parameters."""
        return self.model.size

    @property
    def draws(self) -> tuple[int, ...]:
        """The shape of the draws of one state: uniform numbers of [0, 1)."""
        return ()

    def act(
        self,
        flat: Float[Tensor, "B D"],
        states: Tensor,
        draws: Float[Tensor, "B m"],
        fixed: Tensor | None = None,
    ) -> Int64[Tensor, "B m"]:
        """The action whose share of [0, 1) holds the uniform number ``draws``."""
        shares = self._shares(self.model.apply(flat, states, fixed)).cumsum(-1)
        # the last share ends at 1 only to rounding
        return (draws.unsqueeze(-1) >= shares[..., :-1]).sum(-1)

    def mode(self, flat: Float[Tensor, "B D"], states: Tensor, fixed: Tensor | None = None) -> Tensor:
        """The most likely action, ``(B, m)``."""
        return self.model.apply(flat, states, fixed).argmax(-1)

    def log_prob(
        self, flat: Float[Tensor, "B D"], states: Tensor, actions: Tensor, fixed: Tensor | None = None
    ) -> Float[Tensor, "B m"]:
        """The logarithm of the probability of ``actions`` ``(B, m)``."""
        logarithms = self.logarithms(flat, states, fixed)
        return logarithms.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(
        self, flat: Float[Tensor, "B D"], states: Tensor, fixed: Tensor | None = None
    ) -> Float[Tensor, "B m"]:
        """The entropy of the action, in nats."""
        logarithms = self.logarithms(flat, states, fixed)
        return -(logarithms.exp() * logarithms).sum(-1)

    def _shares(self, logits: Float[Tensor, "B m a"]) -> Float[Tensor, "B m a"]:
        """The probabilities of the actions."""
        shares = logits.softmax(-1)
        return shares if not self.explore else (1 - self.explore) * shares + self.explore / logits.shape[-1]

    def logarithms(
        self, flat: Float[Tensor, "B D"], states: Tensor, fixed: Tensor | None = None
    ) -> Float[Tensor, "B m a"]:
        """The logarithms of the probabilities of all actions."""
        logits = self.model.apply(flat, states, fixed)
        return self._shares(logits).log() if self.explore else logits.log_softmax(-1)


@dataclass(frozen=True)
class Gaussian:
    """``model.classes`` numbers, independent and normal about the model's outputs.

    The logarithms of the standard deviations are the last ``model.classes`` parameters, the same in every
    state; with a ``std`` there are none, and it is that number.

    Attributes:
        model: its outputs are the means.
        std: the standard deviation, or ``None`` to have it among the parameters.
    """

    model: Model
    std: float | None = None

    def __post_init__(self) -> None:
        if self.std is not None and not 0 < self.std < math.inf:
            raise ValueError(f"std: expected a number > 0 or None, got {self.std!r}")

    @property
    def size(self) -> int:
        """D, the number of parameters."""
        return self.model.size + (self.model.classes if self.std is None else 0)

    @property
    def draws(self) -> tuple[int, ...]:
        """The shape of the draws of one state: standard normal numbers."""
        return (self.model.classes,)

    def moments(
        self, flat: Tensor, states: Tensor, fixed: Tensor | None = None
    ) -> tuple[Float[Tensor, "B m a"], Float[Tensor, "B 1 a"]]:
        """Means and logarithms of the standard deviations."""
        mean = self.model.apply(flat[:, : self.model.size], states, fixed)
        if self.std is None:
            return mean, flat[:, self.model.size :].unsqueeze(1)
        return mean, mean.new_full((1, 1, 1), math.log(self.std)).expand(len(mean), 1, mean.shape[-1])

    def act(
        self,
        flat: Float[Tensor, "B D"],
        states: Tensor,
        draws: Float[Tensor, "B m a"],
        fixed: Tensor | None = None,
    ) -> Float[Tensor, "B m a"]:
        """Mean and standard deviation times ``draws``; differentiable in the parameters."""
        mean, log_std = self.moments(flat, states, fixed)
        return mean + log_std.exp() * draws

    def mode(self, flat: Float[Tensor, "B D"], states: Tensor, fixed: Tensor | None = None) -> Tensor:
        """The mean, ``(B, m, a)``."""
        return self.moments(flat, states, fixed)[0]

    def log_prob(
        self, flat: Float[Tensor, "B D"], states: Tensor, actions: Tensor, fixed: Tensor | None = None
    ) -> Float[Tensor, "B m"]:
        """The logarithm of the density at ``actions`` ``(B, m, a)``."""
        mean, log_std = self.moments(flat, states, fixed)
        unit = (actions - mean) * torch.exp(-log_std)
        return -(0.5 * unit.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(
        self, flat: Float[Tensor, "B D"], states: Tensor, fixed: Tensor | None = None
    ) -> Float[Tensor, "B m"]:
        """The entropy of the action, in nats."""
        mean, log_std = self.moments(flat, states, fixed)
        each = log_std + 0.5 * math.log(2 * math.pi * math.e)
        return each.sum(-1).expand(mean.shape[:2])
