"""The attack: a step within a radius of the maximum norm that pushes the network's outputs along a direction.

The authors attack Psi(q) = P (Phi(x + 2 r (q - 1/2)) - Phi(x)) at q = 1/2, where P drops the outputs that do
not matter, by the library torchattacks in its targeted mode with the direction u as a soft label. That loss
is the cross entropy sum_i u_i log softmax(Psi)_i, whose gradient is

    J_Psi' (u - softmax(Psi) sum_i u_i),        at q = 1/2:  J_Psi' (u - mean(u))

and not J_Psi' u, that of the linear loss <u, Psi>. FGSM takes one step of length 1/2 along its sign; PGD ten
steps of 2/255, each followed by a cut to [0, 1]. Here an offset is d / r = 2 q - 1, within [-1, 1].
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOSSES = ("linear", "ce")
ATTACKS = ("fgsm", "pgd")
PGD_STEPS = 10
STEP = {"fgsm": 1.0, "pgd": 4 / 255}
"""The step in units of the radius. That of PGD does not grow with it: ten steps reach 0.157 of it."""


def cotangent(
    direction: Float[Tensor, "B p"],
    active: Float[Tensor, "B p"],
    loss: str,
    shift: Float[Tensor, "B p"] | None = None,
) -> Float[Tensor, "B p"]:
    """What the Jacobian is multiplied with: the gradient of the loss by Psi.

    Args:
        direction: u.
        active: 1 for the outputs that matter.
        loss: ``linear`` or ``ce``.
        shift: Psi where the attack is now; ``None`` where it starts, at 0.
    """
    u = direction * active
    if loss == "linear":
        return u
    used: Bool[Tensor, "B p"] = active > 0
    shift = torch.zeros_like(u) if shift is None else shift
    share = torch.softmax(shift.masked_fill(~used, -torch.inf), -1)
    return u - share * u.sum(-1, keepdim=True)


def moved(offset: Float[Tensor, "B n"], product: Float[Tensor, "B n"], attack: str) -> Float[Tensor, "B n"]:
    """The offset after one step along the sign of ``product``; the sign of 0 is 0."""
    return (offset + STEP[attack] * product.sign()).clamp(-1, 1)
