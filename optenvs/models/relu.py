"""Two layers of rectified units as a convex program over activation patterns (Pilanci, Ergen 2020).

A pattern is D = diag(1[X g >= 0]) of a gate g, and E = 2D - I. The program of Bai, Gautam and Sojoudi (2022)
is

    min  l(sum_i D_i X (v_i - w_i), y) + beta sum_i (|v_i| + |w_i|)   s.t.   E_i X v_i >= 0,  E_i X w_i >= 0

Its variables are one block ``(B, 2, P, d)``: the v, then the w. A pattern that is none (a duplicate's place)
has D = E = 0, so that its blocks matter to nothing but the penalty. Losses are sums over the samples:
``squared`` |yh - y|^2 / 2; ``logistic`` log(1 + exp(-2 y yh)), of the authors' scripts, and ``hinge`` (1 - y
yh)_+, with labels -1 and 1.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from optenvs.core.offer import Offer
from optenvs.core.struct import static, struct

LOSSES = ("squared", "logistic", "hinge")


@struct
class Gated:
    """A convex program over patterns, as its agents know it.

    Attributes:
        X: the inputs, a column of ones among them where there is a bias, ``(B, n, d)``.
        y: the targets, or labels -1 and 1, ``(B, n)``.
        D: the patterns, 0 or 1, a column each, ``(B, n, P)``.
        E: 2D - 1; 0 in columns that are no pattern.
        gates: a vector inside of each cone, ``(B, P, d)``.
        beta: the weight decay, ``(B,)``.
        loss: one of :data:`LOSSES`.
        menu: what can be asked.
    """

    X: Float[Tensor, "B n d"]
    y: Float[Tensor, "B n"]
    D: Float[Tensor, "B n P"]
    E: Float[Tensor, "B n P"]
    gates: Float[Tensor, "B P d"]
    beta: Float[Tensor, "B"]
    loss: str = static()
    menu: Offer | None = static(default=None)


def losses(loss: str, outputs: Float[Tensor, "*B n"], y: Float[Tensor, "*B n"]) -> Float[Tensor, "*B"]:
    """The sum of the losses."""
    if loss == "squared":
        return (outputs - y).square().sum(-1) / 2
    if loss == "logistic":
        return softplus(-2 * y * outputs).sum(-1)
    return (1 - y * outputs).clamp_min(0).sum(-1)


def slopes(loss: str, outputs: Float[Tensor, "*B n"], y: Float[Tensor, "*B n"]) -> Float[Tensor, "*B n"]:
    """The derivative by each output; of the hinge a subgradient."""
    if loss == "squared":
        return outputs - y
    if loss == "logistic":
        return -2 * y * torch.sigmoid(-2 * y * outputs)
    return torch.where(y * outputs < 1, -y, torch.zeros_like(y))


def outputs(
    X: Float[Tensor, "B n d"], D: Float[Tensor, "B n P"], U: Float[Tensor, "B 2 P d"]
) -> Float[Tensor, "B n"]:
    """F u, what the gated network answers."""
    return (D * (X @ (U[:, 0] - U[:, 1]).mT)).sum(-1)


def pulled(
    X: Float[Tensor, "B n d"], D: Float[Tensor, "B n P"], r: Float[Tensor, "B n"]
) -> Float[Tensor, "B 2 P d"]:
    """F' r."""
    g = (D * r.unsqueeze(-1)).mT @ X
    return torch.stack((g, -g), 1)


def cones(
    X: Float[Tensor, "B n d"], E: Float[Tensor, "B n P"], U: Float[Tensor, "B 2 P d"]
) -> Float[Tensor, "B 2 n P"]:
    """G u: E_i X v_i, and the same of w; >= 0 where the point is feasible."""
    return E.unsqueeze(1) * (X.unsqueeze(1) @ U.mT)


def from_cones(
    X: Float[Tensor, "B n d"], E: Float[Tensor, "B n P"], s: Float[Tensor, "B 2 n P"]
) -> Float[Tensor, "B 2 P d"]:
    """G' s."""
    return (E.unsqueeze(1) * s).mT @ X.unsqueeze(1)


def norms(U: Float[Tensor, "B 2 P d"]) -> Float[Tensor, "B 2 P"]:
    """The norm of each block, with a slope of 0 at 0."""
    square = U.square().sum(-1)
    some = square > 0
    return torch.where(some, torch.where(some, square, 1.0).sqrt(), 0.0)


def objective(program: Any, U: Float[Tensor, "B 2 P d"]) -> Float[Tensor, "B"]:
    """The program's objective, feasible or not."""
    fit = losses(program.loss, outputs(program.X, program.D, U), program.y)
    return fit + program.beta * norms(U).sum((-2, -1))


def violation(program: Any, U: Float[Tensor, "B 2 P d"]) -> Float[Tensor, "B"]:
    """The largest violation of a cone, over max(1, |X|)."""
    size = torch.linalg.vector_norm(program.X, dim=(-2, -1)).clamp_min(1)
    return (-cones(program.X, program.E, U)).clamp_min(0).amax((1, 2, 3)) / size


def shrunk(U: Float[Tensor, "B 2 P d"], by: Float[Tensor, "B"]) -> Float[Tensor, "B 2 P d"]:
    """The proximal map of ``by`` times the sum of the norms."""
    size = norms(U).unsqueeze(-1)
    kept = (1 - by[:, None, None, None] / torch.where(size > 0, size, 1.0)).clamp_min(0)
    return kept * U


def recovered(U: Float[Tensor, "B 2 P d"]) -> tuple[Float[Tensor, "B m d"], Float[Tensor, "B m"]]:
    """The network of a point, 2P hidden units: u = v / sqrt|v|, a = sqrt|v|; a = -sqrt|w|; zeros of zeros."""
    size = norms(U)
    root = torch.where(size > 0, torch.where(size > 0, size, 1.0).sqrt(), 0.0)
    hidden = U / torch.where(root > 0, root, 1.0).unsqueeze(-1)
    out = torch.stack((root[:, 0], -root[:, 1]), 1)
    return hidden.flatten(1, 2), out.flatten(1)


def network(
    X: Float[Tensor, "B n d"], hidden: Float[Tensor, "B m d"], out: Float[Tensor, "B m"]
) -> Float[Tensor, "B n"]:
    """sum_j (X u_j)_+ a_j."""
    return ((X @ hidden.mT).clamp_min(0) @ out.unsqueeze(-1)).squeeze(-1)


def network_cost(
    program: Any, hidden: Float[Tensor, "B m d"], out: Float[Tensor, "B m"]
) -> Float[Tensor, "B"]:
    """The loss of the network, and beta / 2 times its squared weights."""
    decay = hidden.square().sum((-2, -1)) + out.square().sum(-1)
    return losses(program.loss, network(program.X, hidden, out), program.y) + program.beta / 2 * decay


def patterns(
    X: Float[Tensor, "B n d"], gates: Float[Tensor, "B P d"]
) -> tuple[Float[Tensor, "B n P"], Bool[Tensor, "B P"]]:
    """1[X g >= 0] of each gate, and which are the first with their pattern."""
    active = X @ gates.mT >= 0
    D = active.to(X)
    sign = 2 * D - 1
    same = sign.mT @ sign == X.shape[1]  # of +-1: they agree at every sample
    before = torch.ones_like(same).tril(-1)
    return D, ~(same & before).any(-1)


def whole(program: Any) -> Float[Tensor, "B n n"]:
    """F F', which is 2 (X X') o (D D')."""
    return 2 * (program.X @ program.X.mT) * (program.D @ program.D.mT)
