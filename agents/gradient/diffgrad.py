"""diffGrad: Adam with a friction that grows where the gradient stops changing (Dubey et al. 2020).

    g  <- g + weight_decay * x                              (coupled, as in the authors' code)
    m  <- beta1 m + (1 - beta1) g                           eq. 17
    v  <- beta2 v + (1 - beta2) g^2
    xi <- 1 / (1 + exp(-|g_prev - g|)),  g_prev <- g        the friction, in [1/2, 1]; g_prev = 0 at first
    mh <- m / (1 - beta1^t),  vh <- v / (1 - beta2^t)
    x  <- x - lr * xi * mh / (sqrt(vh) + eps)               eq. 20

The authors' code adds ``eps`` to ``sqrt(v)`` before the bias is taken out; that is the default, because all
published numbers come from it. The two differ by less than 1e-6 lr a step.

The friction sees the scale of gradients: a loss that is summed in place of averaged is another method. Where
gradients change by much less than 1 it is 1/2, and the method is Adam at half the learning rate.
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
from ._moments import (
    PLAIN,
    Number,
    Workspace,
    average_square,
    check_adaptive,
    damped_root,
    debias,
    multiplied_step,
    with_penalty,
)

FRICTIONS = ("abs", "signed", "nine", "std", "var", "sqrtstd")


@struct
class DiffGradState:
    """diffGrad's memory.

    Attributes:
        mu, nu: first and second moment, ``(B, n)``.
        previous: the last gradient, with its L2 term, ``(B, n)``.
        count: steps so far, ``(B, 1)``.
    """

    mu: Float[Tensor, "B n"]
    nu: Float[Tensor, "B n"]
    previous: Float[Tensor, "B n"]
    count: Float[Tensor, "B 1"]


@dataclass(frozen=True, eq=False)
class DiffGrad(GradientAgent):
    """diffGrad.

    Args:
        betas: the decay rates of the two moments (the paper's synthetic study: 0.95 and 0.999).
        eps: added to the root of the second moment (1e-8 in the authors' code, "about 1e-7" in the text).
        weight_decay: the factor of the weight decay.
        weight_decouple: shrink the point itself in place of adding an L2 term to the gradient.
        dfc: the friction coefficient, with ``d = g_prev - g``, and with ``mean`` and (population) ``std`` of
            ``|g|`` over all coordinates of the instance at this step (the paper does not say over what):
            ``abs`` sigmoid(|d|), the method; and the paper's variants 1 to 5, ``signed`` sigmoid(d),
            ``nine`` 9 sigmoid(|d| / 2) - 4, ``std`` sigmoid(std |d| - mean), ``var``
            sigmoid(std^2 |d| - mean), ``sqrtstd`` sigmoid(sqrt(std) |d| - mean).
        eps_inside_bias_correction: the paper's form, where ``eps`` is added to the root of ``vh``.
        eps_root: added under the root, where some libraries have 1e-15.
        clone_prev: ``False`` brings back the fault of the authors' first release, which kept a reference to
            the gradient: overwritten by the next one, it makes ``d = 0`` and the friction 1/2 from the second
            step on. The paper's image tables were made with it.
        lr, schedule: see :class:`agents.core.GradientAgent`.
    """

    lr: float | Float[Tensor, "B"] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    weight_decouple: bool = False
    dfc: str = "abs"
    eps_inside_bias_correction: bool = False
    eps_root: float = 0.0
    clone_prev: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_adaptive(self, "eps_root")
        require(self, "dfc", self.dfc in FRICTIONS, f"one of {', '.join(FRICTIONS)}")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> DiffGradState:
        zero = torch.zeros_like(observation["point"])
        return DiffGradState(mu=zero, nu=zero, previous=zero, count=torch.zeros_like(zero[:, :1]))

    def act(self, state: DiffGradState, observation: Observation) -> tuple[Tensor, DiffGradState]:
        point, gradient = observation["point"], observation["gradient"]
        rate, count = self.rate(observation), state.count + 1
        work = Workspace.of(point, gradient, state.mu, state.nu, rate)
        keep: Number = 1.0
        if self.weight_decouple:
            keep = work.number(1 - rate * self.weight_decay)
        else:
            gradient = with_penalty(gradient, point, self.weight_decay, work)
        beta1, beta2 = self.betas
        nu = average_square(state.nu, gradient, beta2, work)
        t = work.number(count)
        scale = debias(beta2, t) ** 0.5
        eps: Number = scale * self.eps if self.eps_inside_bias_correction else self.eps
        root = damped_root(nu + self.eps_root if self.eps_root else nu, eps, work)
        friction = self.friction(self._previous(state, gradient), gradient, work)
        # in this order three new tensors are enough: the one of the friction becomes the first moment
        factor = torch.div(friction, root, out=work.over(root))
        mu = torch.lerp(state.mu, gradient, 1 - beta1, out=work.over(friction))
        step = work.number(rate * scale / debias(beta1, t))
        action = multiplied_step(point, mu, factor, step, work, keep)
        # observations are never written to, so the gradient need not be copied
        return action, DiffGradState(mu=mu, nu=nu, previous=gradient, count=count)

    def friction(
        self,
        previous: Float[Tensor, "B n"],
        gradient: Float[Tensor, "B n"],
        work: Workspace = PLAIN,
    ) -> Float[Tensor, "B n"]:
        """The factor on the first moment; a fresh tensor."""
        change = torch.sub(previous, gradient, out=work.fresh(gradient))
        if self.dfc != "signed":
            change = torch.abs(change, out=work.over(change))
        if self.dfc == "nine":
            return torch.sigmoid(change / 2) * 9 - 4
        if self.dfc in ("std", "var", "sqrtstd"):
            size = gradient.abs()
            mean, var = size.mean(-1, keepdim=True), size.var(-1, correction=0, keepdim=True)
            factor = {"std": var.sqrt, "var": var.clone, "sqrtstd": lambda: var.sqrt().sqrt()}[self.dfc]()
            change = factor * change - mean
        return torch.sigmoid(change, out=work.over(change))

    def _previous(self, state: DiffGradState, gradient: Tensor) -> Tensor:
        if self.clone_prev:
            return state.previous
        return torch.where(state.count == 0, state.previous, gradient)
