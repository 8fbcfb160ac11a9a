"""Trajectories of a policy, and what can be estimated from them: gradients, Hessian products, weights.

With r_h the reward of step h and g the discount, a trajectory tau drawn by the weights x has

    psi_t = sum_{h >= t} g^h r_h                        the "absolute" credit of step t; "relative": g^(h-t)
    Phi(x) = sum_t (psi_t - b_t) log pi_x(a_t | s_t)    b_t: a baseline that does not depend on a_t
    gradient of Phi                                      unbiased for that of J
    B v = <grad log p(tau), v> grad Phi + (Hessian of Phi) v      unbiased for the Hessian of J, times v

(Fatkhullin, Barakat, Kireeva, He 2023, section 3; absolute credits). All are means over the trajectories of a
row, of sums over steps. With s_h = <grad log pi(a_h | s_h), v> both forms of B v are one gradient,

    grad of sum_h c_h log pi(a_h | s_h) + (psi_h - b_h) s_h

where ``paper`` has c_h = (psi_h - b_h) sum_k s_k, and ``causal``, without later scores, whose mean is 0,
c_h = sum_{t >= h} g^t r_t S_t - b_h S_h with S_t = sum_{k <= t} s_k. Of a policy that is linear in its
weights the gradient is written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.oracles import jvp, value_and_gradient
from optenvs.core.struct import struct

from .dense import Linear
from .policies import Categorical, Gaussian

Policy = Categorical | Gaussian
CREDITS = ("absolute", "relative")
BASELINES = ("none", "time")
FORMS = ("paper", "causal")


@struct
class Trajectories:
    """N trajectories of at most H steps for each row.

    Attributes:
        states: what the policy saw, ``(B, N, H, s)``.
        actions: what it did: ``(B, N, H)``, int64, or ``(B, N, H, a)``; 0 after the end.
        rewards: ``(B, N, H)``; 0 after the end.
        mask: whether the step was part of the trajectory, ``(B, N, H)``.
    """

    states: Float[Tensor, "B N H s"]
    actions: Tensor
    rewards: Float[Tensor, "B N H"]
    mask: Bool[Tensor, "B N H"]

    @property
    def transitions(self) -> Tensor:
        """The steps of all trajectories of a row, int64 ``(B,)``."""
        return self.mask.sum((-2, -1))

    @property
    def returns(self) -> Float[Tensor, "B N"]:
        """The sum of the rewards of each."""
        return self.rewards.sum(-1)

    def packed(self) -> Float[Tensor, "B N H w"]:
        """One tensor: states, actions, reward, and 1 where the step was part of the trajectory."""
        actions = self.actions.unsqueeze(-1) if self.actions.ndim == 3 else self.actions
        rest = torch.stack((self.rewards, self.mask.to(self.rewards)), -1)
        return torch.cat((self.states, actions.to(rest), rest), -1)

    @classmethod
    def unpacked(cls, packed: Float[Tensor, "B N H w"], policy: Policy) -> Trajectories:
        """The inverse of :meth:`packed`."""
        one = isinstance(policy, Categorical)
        width = 1 if one else policy.model.classes
        states, actions, reward, mask = packed.split([packed.shape[-1] - width - 2, width, 1, 1], -1)
        taken = actions.squeeze(-1).round().long() if one else actions
        return cls(states=states, actions=taken, rewards=reward.squeeze(-1), mask=mask.squeeze(-1) > 0)


def log_probs(policy: Policy, x: Float[Tensor, "B n"], played: Trajectories) -> Float[Tensor, "B N H"]:
    """The logarithms of pi_x(a_h | s_h); 0 after the end."""
    shape = played.mask.shape
    told = policy.log_prob(x, played.states.flatten(1, 2), played.actions.flatten(1, 2))
    return torch.where(played.mask, told.unflatten(1, shape[1:]), 0.0)


@dataclass(frozen=True)
class Estimator:
    """What is estimated from trajectories, and how.

    Attributes:
        policy: whose.
        discount: g, in [0, 1].
        credit: ``absolute`` or ``relative``.
        baseline: ``none``, or ``time``: the mean credit of the step over all trajectories of the row, ended
            ones counting as 0; that of N trajectories biases by 1/N.
    """

    policy: Policy
    discount: float
    credit: str = "absolute"
    baseline: str = "none"

    def credits(self, rewards: Float[Tensor, "B N H"]) -> Float[Tensor, "B N H"]:
        """psi: what comes from each step on."""
        if rewards.shape[-1] == 1:
            return rewards
        powers = self.discount ** torch.arange(rewards.shape[-1], device=rewards.device).to(rewards)
        ahead = (rewards * powers).flip(-1).cumsum(-1).flip(-1)
        return ahead / powers if self.credit == "relative" else ahead

    def levels(self, credits: Float[Tensor, "B N H"]) -> Float[Tensor, "B N H"]:
        """The baseline b."""
        if self.baseline == "none":
            return torch.zeros_like(credits)
        return credits.mean(1, keepdim=True).expand_as(credits)

    def gains(self, played: Trajectories) -> Float[Tensor, "B N H"]:
        """What steps are credited with, psi - b."""
        credits = self.credits(played.rewards)
        return credits if self.baseline == "none" else credits - self.levels(credits)

    def gradient(self, x: Float[Tensor, "B n"], played: Trajectories) -> Float[Tensor, "B n"]:
        """The gradient of Phi at the weights that drew the trajectories."""
        return self.ascent(x, played, self.gains(played))

    def ascent(
        self, x: Float[Tensor, "B n"], played: Trajectories, gains: Float[Tensor, "B N H"]
    ) -> Float[Tensor, "B n"]:
        """The mean over trajectories of sum_h gains_h grad log pi_x(a_h | s_h); the gains are constants."""
        gains = torch.where(played.mask, gains, 0.0)
        if (linear := self._linear(x, played)) is not None:
            return linear.pulled(gains)
        return value_and_gradient(lambda y: self._surrogate(y, played, gains), x)[1]

    def scores(
        self, x: Float[Tensor, "B n"], vector: Float[Tensor, "B n"], played: Trajectories
    ) -> Float[Tensor, "B N H"]:
        """<grad log pi_x(a_h | s_h), vector>; 0 after the end."""
        if (linear := self._linear(x, played)) is not None:
            return linear.scores(vector)
        return jvp(lambda y: log_probs(self.policy, y, played), x, vector)[1]

    def product(
        self, x: Float[Tensor, "B n"], vector: Float[Tensor, "B n"], played: Trajectories, form: str = "paper"
    ) -> Float[Tensor, "B n"]:
        """B v at the weights that drew the trajectories, by one of :data:`FORMS`."""
        linear = self._linear(x, played)
        scores = self.scores(x, vector, played) if linear is None else linear.scores(vector)
        gains, weights = self._coefficients(played, scores, form)
        if linear is not None:
            return linear.pulled(weights) + linear.bent(gains, vector)

        def both(y: Tensor) -> Tensor:
            return self._surrogate(y, played, weights) + _mean(gains * self.scores(y, vector, played))

        return value_and_gradient(both, x)[1]

    def pair(
        self, x: Float[Tensor, "B n"], second: Float[Tensor, "B n"], played: Trajectories
    ) -> tuple[Float[Tensor, "B 2 n"], Float[Tensor, "B"]]:
        """The gradient at x, which drew them, and that at ``second`` weighted by per-decision importance.

        The reward of step h has the weight w_h = prod_{k <= h} pi_second(a_k | s_k) / pi_x(a_k | s_k), and a
        baseline that of its step. A trajectory one of whose weights overflows (its logarithm is more than
        half of the largest one of the dtype) counts as 0 in the second gradient.

        Returns:
            Both, and the share of trajectories whose weights overflow.
        """
        before = log_probs(self.policy, x, played)
        logs = (log_probs(self.policy, second, played) - before).cumsum(-1)
        most = 0.5 * math.log(torch.finfo(logs.dtype).max)
        fits = (logs <= most).all(-1, keepdim=True)  # not where one is no number
        w = torch.where(fits, logs, -torch.inf).exp()
        credits = self.credits(played.rewards)
        level = self.levels(credits)
        weighted = self.credits(w * played.rewards) - w * level
        here = self.ascent(x, played, credits - level)
        there = self.ascent(second, played, weighted)
        return torch.stack((here, there), 1), 1 - fits.squeeze(-1).to(w).mean(-1)

    # How ---------------------------------------------------------------------------------------

    def _surrogate(self, x: Tensor, played: Trajectories, gains: Tensor) -> Float[Tensor, "B"]:
        return _mean(gains * log_probs(self.policy, x, played))

    def _coefficients(self, played: Trajectories, scores: Tensor, form: str) -> tuple[Tensor, Tensor]:
        """The gains psi - b, and c; both 0 after the end."""
        credits = self.credits(played.rewards)
        level = self.levels(credits)
        gains = torch.where(played.mask, credits - level, 0.0)
        if form == "paper":
            return gains, gains * scores.sum(-1, keepdim=True)
        so_far = scores.cumsum(-1)
        return gains, torch.where(played.mask, self.credits(played.rewards * so_far) - level * so_far, 0.0)

    def _linear(self, x: Tensor, played: Trajectories) -> _Linear | None:
        """The derivatives written out, of a policy that is linear in its weights."""
        policy = self.policy
        if not isinstance(policy.model, Linear):
            return None
        states = played.states.flatten(1, 2)
        if isinstance(policy, Gaussian):
            if policy.std is None:
                return None
            precision = policy.std**-2
            residual = (played.actions.flatten(1, 2) - policy.mode(x, states)) * precision
            return _Linear(states, residual, played.mask, lambda moved: moved * precision)
        if policy.explore:
            return None
        shares = policy.model.apply(x, states).softmax(-1)
        residual = units(played.actions.flatten(1, 2), shares.shape[-1], shares.dtype) - shares
        return _Linear(
            states,
            residual,
            played.mask,
            lambda moved: shares * (moved - (shares * moved).sum(-1, keepdim=True)),
        )


@dataclass(frozen=True)
class _Linear:
    """A policy with the natural parameter W s: grad log pi is residual s', its Hessian -covariance (x) ss'.

    Attributes:
        states: ``(B, NH, s)``.
        residual: the statistic less its mean, ``(B, NH, a)``.
        mask: ``(B, N, H)``.
        covariance: the product of the statistic's covariance with ``(B, NH, a)``.
    """

    states: Tensor
    residual: Tensor
    mask: Tensor
    covariance: Callable[[Tensor], Tensor]

    def _moved(self, vector: Tensor) -> Float[Tensor, "B NH a"]:
        return self.states @ vector.unflatten(1, (-1, self.states.shape[-1])).mT

    def scores(self, vector: Float[Tensor, "B n"]) -> Float[Tensor, "B N H"]:
        told = (self.residual * self._moved(vector)).sum(-1).unflatten(1, self.mask.shape[1:])
        return torch.where(self.mask, told, 0.0)

    def pulled(self, weights: Float[Tensor, "B N H"]) -> Float[Tensor, "B n"]:
        return self._outer(weights, self.residual)

    def bent(self, gains: Float[Tensor, "B N H"], vector: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
        return self._outer(gains, -self.covariance(self._moved(vector)))

    def _outer(self, weights: Tensor, parts: Tensor) -> Float[Tensor, "B n"]:
        """The mean over trajectories of the weighted sum of part times state."""
        count = weights.shape[1]
        each = weights.flatten(1).unsqueeze(-1) * parts / count
        return (each.mT @ self.states).flatten(1)


def units(index: Tensor, size: int, dtype: torch.dtype) -> Float[Tensor, "*n size"]:
    """The unit vectors of these indices; torch's own looks at them."""
    return (index.unsqueeze(-1) == torch.arange(size, device=index.device)).to(dtype)


def _mean(values: Float[Tensor, "B N H"]) -> Float[Tensor, "B"]:
    """The mean over trajectories of the sum over steps."""
    return values.sum(-1).mean(-1)
