"""Losses of B networks at once, the gradient of the cross-entropy in the parameters, and the accuracy.

Targets are class numbers ``(B, m)``; of a model with one output 0 or 1, of which hinge and logistic loss make
the signs -1 and 1. The squared loss also takes floats: ``(B, m, c)``, or ``(B, m)`` for one output.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from optenvs.core.oracles import value_and_gradient

from .base import Model


def cross_entropy_parts(
    logits: Float[Tensor, "B m c"], targets: Int64[Tensor, "B m"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B m c"], Float[Tensor, "B m 1"]]:
    """The mean cross-entropy, with the exponentials and their sum that it is made of.

    Written out, because torch's log-softmax is three times slower where there are few classes. The
    largest logit is a constant to autograd: the loss does not depend on what is taken off.
    """
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    exponentials = shifted.exp()
    total = exponentials.sum(-1, keepdim=True)
    loss = (total.log() - shifted.gather(-1, targets.unsqueeze(-1))).mean((1, 2))
    return loss, exponentials, total


def cross_entropy(logits: Float[Tensor, "B m c"], targets: Int64[Tensor, "B m"]) -> Float[Tensor, "B"]:
    """Mean cross-entropy over the ``m`` samples, in nats, for each network."""
    return cross_entropy_parts(logits, targets)[0]


def accuracy(logits: Float[Tensor, "B m c"], targets: Int64[Tensor, "B m"]) -> Float[Tensor, "B"]:
    """Share of the ``m`` samples whose largest logit is the target's, for each network."""
    if logits.shape[-1] == 1:
        return ((logits.squeeze(-1) > 0) == (targets > 0)).to(logits.dtype).mean(-1)
    return (logits.argmax(-1) == targets).to(logits.dtype).mean(-1)


def squared(outputs: Float[Tensor, "B m c"], targets: Tensor) -> Float[Tensor, "B"]:
    """Mean over the samples of the squared distance to the targets; of classes, to their unit vectors."""
    if targets.is_floating_point():
        wanted = targets.unsqueeze(-1) if targets.ndim < outputs.ndim else targets
    elif outputs.shape[-1] == 1:
        wanted = targets.unsqueeze(-1).to(outputs.dtype)
    else:
        classes = torch.arange(outputs.shape[-1], device=outputs.device)
        wanted = (targets.unsqueeze(-1) == classes).to(outputs.dtype)
    return (outputs - wanted).square().sum(-1).mean(-1)


def hinge(outputs: Float[Tensor, "B m c"], targets: Int64[Tensor, "B m"]) -> Float[Tensor, "B"]:
    """Mean of max(0, 1 - margin): the margin is signed, or over the best other class (Crammer and Singer)."""
    if outputs.shape[-1] == 1:
        margin = outputs.squeeze(-1) * _signs(targets, outputs)
    else:
        own = outputs.gather(-1, targets.unsqueeze(-1))
        classes = torch.arange(outputs.shape[-1], device=outputs.device)
        others = torch.where(targets.unsqueeze(-1) == classes, -torch.inf, outputs)
        margin = own.squeeze(-1) - others.amax(-1)
    return (1 - margin).clamp_min(0.0).mean(-1)


def logistic(outputs: Float[Tensor, "B m 1"], targets: Int64[Tensor, "B m"]) -> Float[Tensor, "B"]:
    """Mean of log(1 + exp(-margin)) of one output."""
    return functional.softplus(-outputs.squeeze(-1) * _signs(targets, outputs)).mean(-1)


def _signs(targets: Tensor, like: Tensor) -> Float[Tensor, "B m"]:
    return 2 * targets.to(like.dtype) - 1


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "squared": squared,
    "hinge": hinge,
    "logistic": logistic,
}


def loss_and_gradient(
    model: Model,
    flat: Float[Tensor, "B D"],
    inputs: Tensor,
    targets: Int64[Tensor, "B m"],
    fixed: Float[Tensor, "G F"] | None = None,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """Mean cross-entropy of each network on its minibatch, and the gradient in its parameters.

    Where the caller records a graph (gradient mode on, and ``flat`` or ``inputs`` a part of it)
    both results can be differentiated again; otherwise models that have a closed form take it,
    which is several times faster for small networks. Both work inside ``torch.func`` transforms.

    Args:
        model: The architecture.
        flat: One network a row.
        inputs: ``(B, m, *shape)``, or ``(1, m, *shape)`` for inputs that all networks share.
        targets: Class numbers, a row a network.
        fixed: The frozen slots, where the model has some.

    Returns:
        Loss ``(B,)`` and gradient ``(B, D)``.
    """
    recorded = torch.is_grad_enabled() and (flat.requires_grad or inputs.requires_grad)
    if not recorded:
        answer = model.closed_form(flat, inputs, targets, fixed)
        if answer is not None:
            return answer
    return autograd_loss_and_gradient(model, flat, inputs, targets, fixed)


def autograd_loss_and_gradient(
    model: Model,
    flat: Float[Tensor, "B D"],
    inputs: Tensor,
    targets: Int64[Tensor, "B m"],
    fixed: Float[Tensor, "G F"] | None = None,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """As :func:`loss_and_gradient`, always by automatic differentiation of ``model.apply``."""
    return value_and_gradient(lambda y: cross_entropy(model.apply(y, inputs, fixed), targets), flat)
