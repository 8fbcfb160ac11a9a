"""The energy whose maxima are the features of a network on group arithmetic (theorem 1).

    E(w) = |z|^2 / 2,   z = Y~' sigma(X w),   grad E = X' D Y~ Y~' sigma(X w)

over the pairs that are known, Y~ = P Y centred over them. With x^2 and all M^2 pairs it is a function of the
group: w = [u; v at the inverse], u~ and v~ centred,

    z_h = 2 u~' R_h v~,    E = 2 sum_h (u~' R_h v~)^2

(the paper's theorem 2 leaves the cross term's 2 out: its energies are a quarter of these). With some irreps
fitted already only the rest of z counts (theorem 7; true for irreps of every dimension in this form).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int64
from torch import Tensor

from optenvs.core.struct import struct

from .network import ACTIVATIONS, gather, spread, summed


@struct
class Tables:
    """A group as tensors, for energies.

    Attributes:
        table: a b, ``(M, M)``.
        shifted: h^-1 x, ``(M, M)``.
        inverse: ``(M,)``.
        basis: functions on the group, orbit by orbit, ``(M, M)``: see :class:`~.irreps.Irreps`.
        owners: the orbit of each column of the basis as a row of ones, ``(orbits, M)``.
        largest: the largest energy in each orbit, ``(orbits,)``.
    """

    table: Int64[Tensor, "M M"]
    shifted: Int64[Tensor, "M M"]
    inverse: Int64[Tensor, "M"]
    basis: Float[Tensor, "M M"]
    owners: Float[Tensor, "orbits M"]
    largest: Float[Tensor, "orbits"]


def exact(
    tables: Tables, nodes: Float[Tensor, "N w"], rest: Float[Tensor, "M M"] | None = None
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N w"]]:
    """Energy and gradient of nodes for x^2 and all pairs; ``rest`` projects z onto what is not fitted."""
    order = len(tables.inverse)
    u, v = nodes[:, :order], nodes[:, order:][:, tables.inverse]
    u, v = u - u.mean(-1, keepdim=True), v - v.mean(-1, keepdim=True)
    turned = v[:, tables.shifted]  # (N, h, x): R_h v
    z = 2 * (turned @ u.unsqueeze(-1)).squeeze(-1)
    z = z if rest is None else z @ rest
    by_u = 2 * (z.unsqueeze(1) @ turned).squeeze(1)
    by_v = 2 * (z.unsqueeze(1) @ u[:, tables.table]).squeeze(1)  # R_h' u = u at h x
    return z.square().sum(-1) / 2, torch.cat((by_u, by_v[:, tables.inverse]), -1)


def sampled(
    nodes: Float[Tensor, "B N w"],
    pairs: Int64[Tensor, "B n 2"],
    targets: Int64[Tensor, "B n"],
    activation: str,
    rest: Float[Tensor, "M M"] | None = None,
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N w"]]:
    """Energy and gradient of nodes on these pairs alone, for any activation."""
    batch, order = len(nodes), nodes.shape[-1] // 2
    sigma = ACTIVATIONS[activation]
    hidden, places = summed(nodes, pairs)  # (B, n, N)
    features = sigma.value(hidden)
    features = features - features.mean(1, keepdim=True)
    empty = torch.zeros(batch, order, nodes.shape[1], dtype=nodes.dtype, device=nodes.device)
    at_class = (targets + order * torch.arange(batch, device=targets.device).unsqueeze(1)).flatten()
    z = empty.flatten(0, 1).index_add(0, at_class, features.flatten(0, 1)).view_as(empty)
    z = z if rest is None else rest @ z
    back, _ = gather(z, targets)
    moved = (back - back.mean(1, keepdim=True)) * sigma.slope(hidden)
    return z.square().sum(1) / 2, spread(moved, places, nodes)


def shares(tables: Tables, nodes: Inexact[Tensor, "*N w"]) -> Float[Tensor, "*N orbits"]:
    """The share of each orbit in a node's power, both halves together, without the constant (orbit 0: 0)."""
    order = len(tables.inverse)
    halves = nodes.unflatten(-1, (-1, order))  # the operands' parts
    power = (halves @ tables.basis.to(halves.dtype)).abs().square().sum(-2)
    by_orbit = power @ tables.owners.mT
    by_orbit = torch.cat((torch.zeros_like(by_orbit[..., :1]), by_orbit[..., 1:]), -1)
    total = by_orbit.sum(-1, keepdim=True)
    return torch.where(total > 0, by_orbit / torch.where(total > 0, total, 1.0), 0.0)
