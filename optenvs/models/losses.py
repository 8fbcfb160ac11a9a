"""Cross-entropy of B networks at once, its gradient in the parameters, and the accuracy."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

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
    return (logits.argmax(-1) == targets).to(logits.dtype).mean(-1)


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
