"""AdaBelief: Adam that divides by how much the gradient surprises (Zhuang et al. 2020).

    m  <- beta1 m + (1 - beta1) g
    s  <- beta2 s + (1 - beta2) (g - m)^2 + eps             with the new m; eps stays in s
    mh <- m / (1 - beta1^t),  sh <- s / (1 - beta2^t)
    x  <- x - lr * mh / (sqrt(sh) + eps)

``eps`` accumulates in ``s`` to eps / (1 - beta2): the rule of thumb is the square of Adam's. Do not clip
gradients elementwise: a constant gradient is no surprise, and the step grows until eps stops it.

Options, in the order in which a step takes them (the official implementation's):

    decoupled decay   x <- x (1 - lr weight_decay), or x (1 - weight_decay) with ``fixed_decay``
    coupled decay     g <- g + weight_decay * x
    amsgrad           the largest s so far in place of s
    rectify           rho_inf = 2 / (1 - beta2) - 1,  rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
                      rho >= 5: lr times sqrt((rho-4)(rho-2) rho_inf / ((rho_inf-4)(rho_inf-2) rho)),
                                and eps is added to sqrt(s), before its bias is taken out; no amsgrad
                      rho <  5: x <- x - lr * mh with ``degenerated_to_sgd``, else x stays

Version 0.0.5, which the paper used, differs: ``amsgrad`` adds eps to the largest s in place of s; ``rectify``
begins at rho > 4, has eps where the plain method has it, heeds ``amsgrad``, and before that moves by lr * m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import GradientAgent, Observation, require
from ._moments import Number, Workspace, check_adaptive, damped_root, debias, divided_step, with_penalty


@struct
class AdaBeliefState:
    """AdaBelief's memory.

    Attributes:
        mu: the mean gradient, ``(B, n)``.
        nu: the mean squared surprise, s, ``(B, n)``.
        nu_max: the largest ``nu`` so far, or ``None`` without amsgrad.
        count: steps so far, ``(B, 1)``.
    """

    mu: Float[Tensor, "B n"]
    nu: Float[Tensor, "B n"]
    nu_max: Float[Tensor, "B n"] | None
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class AdaBelief(GradientAgent):
    """AdaBelief.

    The defaults are those of the paper's experiments (version 0.0.5 of the official code; since 0.1.0 they
    are eps 1e-16, decoupled decay and rectification).

    Args:
        betas: the decay rates of mean and surprise.
        eps: added to the surprise at every step, and to its root.
        weight_decay: the factor of the weight decay.
        weight_decouple: shrink the point itself in place of adding an L2 term to the gradient.
        fixed_decay: decoupled decay that does not scale with the learning rate.
        rectify: take the variance of the early steps into account (Liu et al. 2020, RAdam).
        degenerated_to_sgd: move along the mean gradient while rectification cannot; else stay.
        amsgrad: divide by the largest surprise so far.
        semantics: ``0.2`` or ``0.0.5``, the official version whose ``amsgrad`` and ``rectify`` to follow.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    weight_decouple: bool = False
    fixed_decay: bool = False
    rectify: bool = False
    degenerated_to_sgd: bool = True
    amsgrad: bool = False
    semantics: str = "0.2"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self)
        require(self, "semantics", self.semantics in ("0.2", "0.0.5"), "'0.2' or '0.0.5'")
        require(self, "fixed_decay", self.weight_decouple or not self.fixed_decay, "weight_decouple with it")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> AdaBeliefState:
        zero = torch.zeros_like(observation["point"])
        nu_max = zero if self.amsgrad else None
        return AdaBeliefState(mu=zero, nu=zero, nu_max=nu_max, count=torch.zeros_like(zero[:, :1]))

    def act(self, state: AdaBeliefState, observation: Observation) -> tuple[Tensor, AdaBeliefState]:
        point, gradient = observation["point"], observation["gradient"]
        rate, count = self.rate(observation), state.count + 1
        work = Workspace.of(point, gradient, state.mu, state.nu, rate)
        keep: Number = 1.0
        if self.weight_decouple:
            keep = work.number(1 - (1.0 if self.fixed_decay else rate) * self.weight_decay)
        else:
            gradient = with_penalty(gradient, point, self.weight_decay, work)
        beta1, beta2 = self.betas
        old = self.semantics == "0.0.5"
        mu = torch.lerp(state.mu, gradient, 1 - beta1, out=work.fresh(state.mu))
        surprise = torch.sub(gradient, mu, out=work.fresh(mu))
        added = surprise.new_full((), 0.0 if old and self.amsgrad else self.eps)
        nu = torch.addcmul(added, surprise, surprise, value=1 - beta2, out=work.over(surprise))
        nu = torch.add(nu, state.nu, alpha=beta2, out=work.over(nu))
        nu_max, used = state.nu_max, nu
        if nu_max is not None:
            nu_max = torch.maximum(nu_max, nu, out=work.fresh(nu))
            nu_max = nu_max + self.eps if old else nu_max
            used = nu if self.rectify and not old else nu_max
        # as in adam.py, the bias of s is kept out of the passes over memory
        t = work.number(count)
        scale, bias = debias(beta2, t) ** 0.5, debias(beta1, t)
        eps: Number = self.eps if self.rectify and not old else scale * self.eps
        root = damped_root(used, eps, work)
        step = rate * scale / bias
        if self.rectify:
            first = (rate if old else rate / bias) * float(self.degenerated_to_sgd)
            step, root = self._rectified(count, step, first, root, work)
        action = divided_step(point, mu, root, work.number(step), work, keep)
        return action, AdaBeliefState(mu=mu, nu=nu, nu_max=nu_max, count=count)

    def _rectified(
        self, count: Tensor, step: Number, first: Number, root: Tensor, work: Workspace
    ) -> tuple[Number, Tensor]:
        """Step size and denominator, where the variance is not yet known ``first`` and 1."""
        beta2 = self.betas[1]
        limit = 2 / (1 - beta2) - 1
        t = work.number(count.to(torch.float64))  # rho is a small difference of large numbers
        rho = limit - 2 * t * beta2**t / debias(beta2, t)
        adaptive = rho > 4 if self.semantics == "0.0.5" else rho >= 5
        factor = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho) if limit > 4 else 0.0 * t
        if isinstance(adaptive, bool):
            return (step * factor**0.5, root) if adaptive else (first, torch.ones_like(root))
        factor = torch.where(adaptive, factor, 1.0).sqrt().to(count.dtype)
        return torch.where(adaptive, step * factor, first), torch.where(adaptive, root, 1.0)
